"""The generated counterparts of iNaturalist and Places: the files of each are those that its makers distribute."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import Places365

from backbones.errors import InputError
from benchmarks.mini import LEVELS, SHAPES, TRANSFER_SETS, write_mini, write_transfer_set
from benchmarks.mini.inaturalist import NUMBER_OF_SPECIES, SUPERCATEGORIES, rank_of, species_of
from benchmarks.mini.places import IMAGES_205, places_of
from benchmarks.mini.scenes import ALL_SPLITS, MAIN_SPLITS, draw_place, draw_species
from tasks.data_sets import find_data_set, name_data_set, open_labelled
from tasks.datasets.identity import Contents
from tests.support.folders import contents
from tests.support.in_process import call, success

SIZES: dict[str, Any] = {"train": 40, "val": 16, "image_size": 24}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them, one beside the other."""
    root = tmp_path_factory.mktemp("transfer")
    for name in TRANSFER_SETS:
        assert write_transfer_set(root / name, name, **SIZES).drawn == 56
    return root


def annotations(root: Path, year: int, kind: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / f"inat{year}" / f"{kind}{year}.json").read_text())
    return content


def labelled(content: dict[str, Any]) -> dict[str, int]:
    """The category of each file, by the ids that join them."""
    images = {image["id"]: image["file_name"] for image in content["images"]}
    categories = {each["image_id"]: each["category_id"] for each in content["annotations"]}
    assert images.keys() == categories.keys() and len(images) == len(content["images"]) == len(content["annotations"])
    return {name: categories[number] for number, name in images.items()}


@pytest.mark.parametrize("year", [2017, 2018, 2019])
def test_an_inaturalist_is_joined_by_ids_and_its_folders_agree(drawn: Path, year: int) -> None:
    root = drawn / f"inat{year}"
    train, val = annotations(drawn, year, "train"), annotations(drawn, year, "val")
    assert train["categories"] == val["categories"]
    assert not {image["id"] for image in train["images"]} & {image["id"] for image in val["images"]}
    files = labelled(train) | labelled(val)
    assert set(files) == {path.relative_to(root).as_posix() for path in root.rglob("*.jpg")}
    folders = {each["id"]: (each["supercategory"], each["name"]) for each in train["categories"]}
    for name, category in files.items():
        images, family, species, _ = name.split("/")
        assert images == ("train_val_images" if year == 2017 else f"train_val{year}")
        assert (family, species) == folders[category]
    assert Counter(labelled(val).values()) == dict.fromkeys(folders, 1)


@pytest.mark.parametrize("year", [2018, 2019])
def test_names_were_released_later(drawn: Path, year: int) -> None:
    """The lists' own are numbers, sparse, and in another order as texts than as numbers."""
    listed = annotations(drawn, year, "train")["categories"]
    assert [each["name"] for each in listed] == [str(each["id"]) for each in listed]
    ids = [each["id"] for each in listed]
    assert max(ids) > 2 * len(ids) and sorted(ids) != sorted(ids, key=str)
    released = json.loads((drawn / f"inat{year}/categories.json").read_text())
    assert {each["id"] for each in released} == {*ids} and [each["id"] for each in released] != ids
    for each in released:
        shape, _ = each["name"].split()
        assert each["genus"] == shape and shape.lower() in SUPERCATEGORIES[each["supercategory"]]


def test_images_and_annotations_come_in_different_orders(drawn: Path) -> None:
    content = annotations(drawn, 2018, "train")
    numbers = [image["id"] for image in content["images"]]
    assert numbers != [each["image_id"] for each in content["annotations"]] and numbers != sorted(numbers)


@pytest.mark.parametrize("level", LEVELS)
def test_species_are_a_hierarchy_with_a_long_tail(level: str) -> None:
    species = species_of(level)
    assert len({each.id for each in species}) == len({each.name for each in species}) == NUMBER_OF_SPECIES
    assert {each.shape for each in species} == {*SHAPES}
    assert {each.supercategory for each in species} == {*SUPERCATEGORIES}
    ranks = [rank_of("inat2018_train", index) for index in range(480)]
    assert set(ranks[:NUMBER_OF_SPECIES]) == {*range(NUMBER_OF_SPECIES)}
    counts = [ranks.count(rank) for rank in range(NUMBER_OF_SPECIES)]
    assert all(more >= fewer - 1 for more, fewer in pairwise(counts))
    assert counts[0] > 100 and 20 < counts[6] < 100 and counts[-1] < 5


def test_places205_names_its_images_and_numbers_in_lists(drawn: Path) -> None:
    root = drawn / "places205"
    folders = [place.folder for place in places_of("smooth")]
    assert len({*folders}) == len(folders) and folders != sorted(folders)
    listed = []
    for split, count in (("train", 40), ("val", 16)):
        lines = (root / f"trainvalsplit_places205/{split}_places205.csv").read_text().splitlines()
        pairs = [line.split(" ") for line in lines]
        assert [name.rpartition("/")[0] for name, _ in pairs] == [folders[int(number)] for _, number in pairs]
        assert len(pairs) == count
        listed += [name for name, _ in pairs]
    assert {*listed} == {path.relative_to(root / IMAGES_205).as_posix() for path in root.rglob("*.jpg")}


def test_places365_is_read_by_torchvision(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which calls the folders of images otherwise, and knows the digests of the genuine lists."""
    root = drawn / "places365"
    for path in root.iterdir():
        (tmp_path / f"{path.name}_standard" if path.name == "data_256" else tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr("torchvision.datasets.places365.check_integrity", lambda path, md5: Path(path).is_file())
    classes = [f"/{place.folder}" for place in places_of("smooth")]
    for split, count in (("train-standard", 40), ("val", 16)):
        theirs = Places365(str(tmp_path), split=split, small=True)
        assert [theirs.class_to_idx[name] for name in classes] == [*range(len(classes))]
        assert len(theirs) == count and {label for _, label in theirs.imgs} == {*range(len(classes))}
        assert all(Path(name).is_file() for name, _ in theirs.imgs)
        if split != "val":
            parents = [str(Path(name).parent.relative_to(tmp_path / "data_256_standard")) for name, _ in theirs.imgs]
            assert [f"/{parent}" for parent in parents] == [classes[label] for _, label in theirs.imgs]


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_class_says_is_what_is_shown(level: str) -> None:
    for number, each in enumerate(species_of(level)):
        scene = draw_species(1, "inat2019_val", number, each.shape, each.material, level, 32)
        assert (scene.instances[0].shape, scene.instances[0].material) == (each.shape, each.material)
    for number, place in enumerate(places_of(level)):
        for furnished in (True, False):
            scene = draw_place(1, "places205_val", number, place.background, furnished, level, 40)
            assert (scene.background, bool(scene.instances)) == (place.background, furnished)
            assert scene.image.shape == (40, 40, 3)


def test_every_set_has_scenes_of_its_own(drawn: Path) -> None:
    """And the splits that there were before keep their places among the random seeds."""
    assert ALL_SPLITS[: len(MAIN_SPLITS)] == MAIN_SPLITS
    first = [np.asarray(Image.open(next((drawn / name).rglob("*.jpg")))) for name in TRANSFER_SETS]
    assert len({image.tobytes() for image in first}) == len(first)


def test_it_is_completed_grown_and_left_alone(drawn: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_transfer_set(root, "inat2018", **SIZES | {"train": 16})
    next(root.rglob("*.jpg")).unlink()
    (root / "dataset.json").rename(root / "dataset.json.unfinished")
    assert write_transfer_set(root, "inat2018", **SIZES).drawn == 25
    assert contents(root) == contents(drawn / "inat2018")
    assert write_transfer_set(root, "inat2018", **SIZES).drawn == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train": 15}, "inat2017 train 15: expected at least 16"),
        ({"val": 0}, "inat2017 val 0: expected at least 16"),
        ({"image_size": 8}, "image size 8: expected at least 16 pixels"),
        ({"seed": 4}, "holds generated data with seed 0, not 4"),
        ({"train": 16}, "holds generated data with train 40, not 16"),
    ],
)
def test_what_cannot_be_drawn_is_refused(drawn: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        write_transfer_set(drawn / "inat2017", "inat2017", **SIZES | settings)


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_it_is_opened_and_checked_as_what_it_stands_for(drawn: Path, name: str) -> None:
    """Each image is of the class that its folder, or for Places365 its number, says."""
    train, val = open_labelled(name, drawn / name)
    assert (len(train.paths), len(val.paths), train.classes) == (40, 16, val.classes)
    if name.startswith("inat"):
        known = {each.name if name == "inat2017" else str(each.id): each.name for each in species_of("smooth")}
        shown = [known[path.parent.name] for split in (train, val) for path in split.paths]
    else:
        folders = {place.folder: place.folder.partition("/")[2] for place in places_of("smooth")}
        at = 5 if name == "places205" else 1
        shown = [folders["/".join(path.relative_to(drawn / name).parts[at:-1])] for path in train.paths]
        assert [*folders.values()] == train.classes
    assert [train.classes[label] for split in (train, val) for label in split.labels][: len(shown)] == shown
    assert not find_data_set(name).check()(drawn / name).problems


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_it_has_a_name_of_its_own(drawn: Path, name: str) -> None:
    found = name_data_set(name, drawn / name, Contents(40, 16, 16, "0" * 16))
    assert found.name == f"mini-{name}"


def test_the_command_completes_a_set_from_before_them(tmp_path: Path) -> None:
    """What was there keeps its bytes; `--transfer-train 0` leaves the others out."""
    few: dict[str, Any] = dict.fromkeys(("coco_train", "coco_val", "ade_train", "ade_val"), 1)
    few |= {"unlabelled": 0, "train": 8, "val": 8, "image_size": 16}
    root = tmp_path / "data"
    write_mini(root, **few, processes=1)
    before = contents(root)
    command = ["data", "mini", str(root), "--transfer-val", "16"]
    command += [word for name, value in few.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert "inat2018" not in success(*command, "--transfer-train", "0", "--no-weights").output
    after = contents(root)
    assert after.pop("site.yaml") and after == before
    told = success(*command, "--transfer-train", "16", "--no-weights").output
    assert f"{root}/inat2018: 16 training and 16 evaluation images of 16 classes, as inat2018 is distributed" in told
    after = contents(root)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {*TRANSFER_SETS, "site.yaml"}


@pytest.mark.parametrize("split", ["train", "val"])
def test_too_few_are_refused_before_anything_is_drawn(tmp_path: Path, split: str) -> None:
    result = call("data", "mini", tmp_path / "data", f"--transfer-{split}", "8")
    assert result.exit_code != 0 and not (tmp_path / "data").exists()
    assert f"--transfer-{split} 8: expected at least 16, one image per class" in result.output
