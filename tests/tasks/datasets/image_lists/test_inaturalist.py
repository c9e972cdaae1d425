"""iNaturalist's releases are opened by their lists; a class is a category_id, whatever folders and order there are."""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torchvision.datasets import INaturalist

from backbones.errors import DataError
from tasks.data_sets import DATA_SETS, name_data_set, open_labelled
from tasks.datasets.identity import Contents
from tasks.datasets.image_lists.inaturalist import open_inat2017, open_inat2018
from tasks.datasets.labelled import LabelledSplit, contents_of
from tests.support.commands import run_directory
from tests.support.folders import age, bury
from tests.support.in_process import run, success
from tests.support.inaturalist_examples import FOLDERS, SPECIES, content, write_inaturalist, write_list

Splits = tuple[LabelledSplit, LabelledSplit]


def names_of(split: LabelledSplit) -> dict[str, str]:
    """By its group of species and its file's name without the id, the name of each image's class."""
    return {
        f"{path.parent.parent.name}/{path.name.rpartition('_')[2]}": split.classes[label]
        for path, label in zip(split.paths, split.labels, strict=True)
    }


EXPECTED = {
    "train": {
        f"{group}/train{number}.jpg": name
        for (group, name), count in zip(SPECIES.values(), (3, 2, 4), strict=True)
        for number in range(count)
    },
    "val": {f"{group}/val0.jpg": name for group, name in SPECIES.values()},
}


def test_each_release_is_opened_by_its_name(tmp_path: Path) -> None:
    for year, folder in FOLDERS.items():
        root = write_inaturalist(tmp_path / str(year), year)
        train, val = open_labelled(f"inat{year}", root)
        assert (names_of(train), names_of(val)) == (EXPECTED["train"], EXPECTED["val"])
        assert train.classes == val.classes == ["Parus major", "Apis mellifera", "Bellis perennis"]
        assert (train.labels.dtype, train.split, val.split) == (np.int32, "train", "val")
        assert (train.note, val.note, train.layout) == (None, None, f"iNaturalist {year}'s lists")
        assert [*train.paths] == sorted(
            train.paths, key=lambda path: (path.name, path)
        ) and train.paths.root == root / folder


def renumbered(root: Path, numbers: dict[int, int], folders: dict[int, str]) -> Path:
    """The support module's set with other category_ids and names of folders, lists shuffled, no two files of a name."""
    write_inaturalist(root)
    for split in ("train", "val"):
        listed = content(split)
        for image, annotation in zip(listed["images"], sorted_annotations(listed), strict=True):
            old = root / image["file_name"]
            species = annotation["category_id"]
            image["file_name"] = f"{FOLDERS[2018]}/{SPECIES[species][0]}/{folders[species]}/{image['id']}_{old.name}"
            new = root / image["file_name"]
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
            annotation["category_id"] = numbers[species]
        for category in listed["categories"]:
            category["id"] = numbers[category["id"]]
            category["name"] = str(category["id"])
        for entries in (listed["images"], listed["annotations"], listed["categories"]):
            random.Random(split).shuffle(entries)
        write_list(root, split, listed)
    names = [{"id": numbers[species], "name": name} for species, (_, name) in SPECIES.items()]
    (root / "categories.json").write_text(json.dumps(names))
    return root


def sorted_annotations(listed: dict[str, Any]) -> list[dict[str, Any]]:
    """In the order of the images."""
    by_image = {entry["image_id"]: entry for entry in listed["annotations"]}
    return [by_image[entry["id"]] for entry in listed["images"]]


PLAIN = {species: species for species in SPECIES}, {species: str(species) for species in SPECIES}


def test_ids_in_the_same_order_change_nothing_at_all(tmp_path: Path) -> None:
    """Same images, labels, classes and fingerprint."""
    plain = open_inat2018(renumbered(tmp_path / "plain", *PLAIN))
    other = open_inat2018(renumbered(tmp_path / "other", {3: 0, 20: 7, 100: 5_000}, PLAIN[1]))
    for one, two in zip(plain, other, strict=True):
        assert [*one.paths.names()] == [*two.paths.names()]
        assert (one.labels.tolist(), one.classes) == (two.labels.tolist(), two.classes)
        assert one.fingerprint == two.fingerprint
    assert contents_of(*plain) == contents_of(*other)


def test_neither_those_ids_nor_any_folders_change_a_prediction(tmp_path: Path) -> None:
    """A whole fine-tuning predicts the same species of each image, at the same loss."""
    variants = {"plain": PLAIN, "other": ({3: 0, 20: 7, 100: 5_000}, {3: "71", 20: "8", 100: "9"})}
    tables = []
    for name, (numbers, folders) in variants.items():
        root, out = tmp_path / name, tmp_path / f"out-{name}"
        renumbered(root, numbers, folders)
        success(*run(root, out, dataset="inat2018", schedule__epochs=2, optimizer__batch_size=4))
        table = pd.read_csv(run_directory(out) / "per_image.csv")
        table["image"] = table["image"].str.rpartition("/")[2]
        tables.append(table)
    pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.mark.parametrize("seed", range(4))
def test_any_ids_and_folders_leave_each_image_its_species(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    numbers = dict(zip(SPECIES, rng.sample(range(10_000), len(SPECIES)), strict=True))
    folders = dict(zip(SPECIES, map(str, rng.sample(range(10_000), len(SPECIES))), strict=True))
    train, val = open_inat2018(renumbered(tmp_path, numbers, folders))
    assert (names_of(train), names_of(val)) == (EXPECTED["train"], EXPECTED["val"])
    by_id = sorted(SPECIES, key=lambda species: numbers[species])
    assert train.classes == val.classes == [SPECIES[species][1] for species in by_id]


def write_contiguous(root: Path, year: int) -> Path:
    """Twelve species from 0 on, of which torchvision asks, one image of each in both splits; 10 sorts before 2."""
    categories = [{"id": number, "name": f"s{11 - number:02}"} for number in range(12)]
    order = random.Random(1).sample(range(12), 12)
    for split in ("train", "val"):
        images, annotations = [], []
        for number in order:
            folder = number if year == 2018 else categories[number]["name"]
            name = f"{FOLDERS[year]}/g{number % 3}/{folder}/{split}{number}.jpg"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
            images.append({"id": 50 - number, "file_name": name})
            annotations.append({"id": number, "image_id": 50 - number, "category_id": number})
        write_list(root, split, {"images": images, "annotations": annotations, "categories": categories}, year)
    (root / "categories.json").write_text(json.dumps(categories))
    return root


def pairs_of(splits: Splits) -> dict[str, int]:
    return {path.name: int(label) for split in splits for path, label in zip(split.paths, split.labels, strict=True)}


def assert_same_up_to_order(ours: dict[str, int], theirs: dict[str, int]) -> None:
    assert ours.keys() == theirs.keys()
    both = {(ours[name], theirs[name]) for name in ours}
    assert len(both) == len({one for one, _ in both}) == len({two for _, two in both}) == 12


@pytest.mark.parametrize(("year", "open_release"), [(2017, open_inat2017), (2018, open_inat2018)])
def test_classes_are_torchvisions_in_another_order(
    tmp_path: Path, year: int, open_release: Callable[[Path], Splits]
) -> None:
    """As its INaturalist finds them in the archive's folder, which it renames: and there they are found too."""
    genuine = pairs_of(open_release(write_contiguous(tmp_path, year)))
    (tmp_path / FOLDERS[year]).rename(tmp_path / str(year))
    theirs = INaturalist(tmp_path, version=str(year))
    labels = {name: label for label, name in theirs.index}
    assert_same_up_to_order(genuine, labels)
    assert pairs_of(open_release(tmp_path)) == genuine
    if year == 2018:
        assert genuine == labels


def test_classes_are_deits_in_another_order(tmp_path: Path) -> None:
    """DeiT numbers species as they first come among train2018.json's annotations, by their names in categories.json,
    and looks for images without the folder above the species: there they are found too."""
    root = write_contiguous(tmp_path, 2018)
    genuine = pairs_of(open_inat2018(root))
    for folder in (root / FOLDERS[2018]).glob("*/*"):
        folder.rename(root / FOLDERS[2018] / folder.name)
    names = json.loads((root / "categories.json").read_text())
    listed = json.loads((root / "train2018.json").read_text())
    order = list(dict.fromkeys(names[entry["category_id"]]["name"] for entry in listed["annotations"]))
    theirs = {
        path.name: order.index(names[int(path.parent.name)]["name"]) for path in (root / FOLDERS[2018]).glob("*/*.jpg")
    }
    assert_same_up_to_order(genuine, theirs)
    assert pairs_of(open_inat2018(root)) == genuine


def test_without_released_names_classes_are_called_by_number(tmp_path: Path) -> None:
    train, _ = open_inat2018(write_inaturalist(tmp_path, released=False))
    assert train.classes == ["3", "20", "100"]


def test_species_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_inaturalist(tmp_path)
    names = [{"id": 3, "name": "Prunella"}, {"id": 20, "name": "Apis"}, {"id": 100, "name": "Prunella"}]
    (tmp_path / "categories.json").write_text(json.dumps({"categories": names}))
    assert open_inat2018(tmp_path)[0].classes == ["Prunella (3)", "Apis", "Prunella (100)"]


def test_windows_line_ends_backslashes_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    write_inaturalist(tmp_path)
    listed = content("train")
    for entry in listed["images"]:
        entry["file_name"] = entry["file_name"].replace("/", "\\") + "\r\n"
    text = json.dumps(listed, indent=1).replace("\n", "\r\n")
    (tmp_path / "train2018.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    train, val = open_inat2018(tmp_path)
    assert names_of(train) == EXPECTED["train"]
    note = "train2018.json: 9 file_names with backslashes, ./, // or line ends, read as paths with / between folders."
    assert (train.note, val.note) == (note, None)


def test_it_is_read_once_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = age(write_inaturalist(tmp_path / "data"))
    before = open_inat2018(root)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.datasets.image_lists.inaturalist.read_species_list", lambda path: pytest.fail(str(path)))
        for one, two in zip(before, open_inat2018(root), strict=True):
            assert ([*one.paths], one.labels.tolist()) == ([*two.paths], two.labels.tolist())
    (root / "categories.json").unlink()
    assert open_inat2018(root)[0].classes == ["3", "20", "100"]
    next(iter(before[1].paths)).unlink()
    with pytest.raises(DataError, match=r"val2018\.json: 1 image of 3 not found in .*train_val2018: Aves/3/val0\.jpg"):
        open_inat2018(root)


def test_class_folders_are_opened_too(tmp_path: Path) -> None:
    for name in ("train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    train, val = open_inat2018(tmp_path)
    assert (train.classes, train.labels.tolist(), val.labels.tolist()) == (["a", "b"], [0, 1], [0])


def nest(folder: Path) -> None:
    """Move what is in a folder into another of the same name in it."""
    bury(folder)
    (folder / "deep").rename(folder / folder.name)


def test_lists_that_were_put_into_the_archives_folder_serve_there(tmp_path: Path) -> None:
    root = write_inaturalist(tmp_path)
    for path in root.glob("*.json"):
        path.rename(root / "train_val2018" / path.name)
    with pytest.raises(DataError, match=r"train2018\.json is there: pass .*train_val2018, or move what is in it up"):
        open_inat2018(root)
    train, val = open_inat2018(root / "train_val2018")
    assert (names_of(train), names_of(val)) == (EXPECTED["train"], EXPECTED["val"])
    assert (train.note, val.note) == (None, None)


def test_the_archives_folder_alone_is_no_data_set(tmp_path: Path) -> None:
    """It would have been taken for as many classes as there are groups of species."""
    root = write_inaturalist(tmp_path)
    with pytest.raises(DataError, match=rf"no inat2018 found\..*train2018\.json is there: pass {root}\.$"):
        open_inat2018(root / "train_val2018")


LAYOUTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda root: [shutil.rmtree(root), root.mkdir()], r"no inat2018 found\. Expected train2018\.json, val"),
    "lists without images": (lambda root: shutil.rmtree(root / "train_val2018"), r"train_val2018: no such folder\. Un"),
    "images without lists": (
        lambda root: [path.unlink() for path in root.glob("*.json")],
        r"no inat2018 found.*Found 1 folder: train_val2018/",
    ),
    "all in one folder": (bury, r"train2018\.json is there: pass .*deep"),
    "archive in itself": (
        lambda root: nest(root / "train_val2018"),
        r"train_val2018 has them, one folder too deep: move what is in it to .*train_val2018\.",
    ),
    "no validation list": (lambda root: (root / "val2018.json").unlink(), r"val2018\.json: no such file"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_that_is_none_is_told_in_one_sentence(tmp_path: Path, kind: str) -> None:
    spoil, expected = LAYOUTS[kind]
    root = write_inaturalist(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=expected) as caught:
        open_inat2018(root)
    assert "\n" not in str(caught.value)


def test_a_list_of_many_faults_names_the_first_and_where_all_are_told(tmp_path: Path) -> None:
    write_inaturalist(tmp_path)
    listed = content("train")
    listed["images"][0]["file_name"] = "/etc/passwd"
    listed["annotations"][3]["category_id"] = 77
    write_list(tmp_path, "train", listed)
    with pytest.raises(DataError, match=r'"file_name".* 1 more: backbench data check inat2018 --data .* tells all'):
        open_inat2018(tmp_path)


@pytest.mark.parametrize("year", [2017, 2018, 2019])
def test_a_set_with_an_image_too_few_does_not_have_the_published_name(tmp_path: Path, year: int) -> None:
    counts = DATA_SETS[f"inat{year}"].counts
    assert counts is not None
    contents = Contents(counts.train_images, counts.evaluation_images, counts.classes, "0" * 16)
    root = tmp_path / f"inat{year}"
    root.mkdir()
    assert name_data_set(f"inat{year}", root, contents).name == f"inat{year}"
    fewer = replace(contents, train_images=counts.train_images - 1)
    assert name_data_set(f"inat{year}", root, fewer).name == f"own-inat{year}"
    assert re.fullmatch("own-.*", name_data_set(f"inat{year}", root, replace(contents, classes=13)).name)
