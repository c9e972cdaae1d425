"""Lists, images and class folders that lie beside each other in more than one way: what is opened, and what is said."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import DataError
from tasks.data_sets import find_data_set, open_labelled
from tests.support.inaturalist_examples import SPECIES, content, write_inaturalist, write_list
from tests.support.places_examples import IMAGES_205, PLACES, draw, write_places205, write_places365

TRAIN, VAL, CATEGORIES = "places365_train_standard.txt", "places365_val.txt", "categories_places365.txt"


def problems(name: str, root: Path) -> list[str]:
    """All but that a miniature is not as large as the real one."""
    report = find_data_set(name).check()(root)
    return [problem for problem in report.problems if "published are" not in problem]


def write_tree(root: Path, *classes: str, splits: tuple[str, ...] = ("train", "val")) -> None:
    draw(root, *(f"{split}/{name}/{split}{number}.jpg" for split in splits for name in classes for number in (1, 2)))


# Two sizes


def test_which_of_two_sizes_is_used_stands_in_the_record(tmp_path: Path) -> None:
    write_places365(tmp_path)
    draw(tmp_path, "data_large/a/airfield/1.jpg", "val_large/1.jpg")
    train, _ = open_labelled("places365", tmp_path)
    assert "both sizes lie there: the 256-pixel ones are used. For the large ones pass a folder with" in train.note
    assert train.note.count("both sizes") == 1
    large = tmp_path / "large"
    large.mkdir()
    for name in (TRAIN, VAL, CATEGORIES):
        (large / name).symlink_to(tmp_path / name)
    write_places365(large, "data_large", "val_large")
    assert open_labelled("places365", large)[0].note is None


@pytest.mark.parametrize("left", ["data_256", "data_256_standard", "val_256"])
def test_an_empty_folder_hides_no_images(tmp_path: Path, left: str) -> None:
    write_places365(tmp_path, "data_large", "val_large")
    for name in ("data_256", "val_256", left):
        (tmp_path / name).mkdir(exist_ok=True)
    train, _ = open_labelled("places365", tmp_path)
    assert (train.layout, train.note) == ("Places365-Standard, lists and large images", None)
    other = write_places205(tmp_path / "other")
    (other / IMAGES_205).rename(other / "images256")
    (other / IMAGES_205).mkdir()
    assert len(open_labelled("places205", other)[0].paths) == 12


# Class folders


@pytest.mark.parametrize("stray", ["", "train/a/stray.jpg", "train/flat/1.jpg"])
@pytest.mark.parametrize("name", ["inat2018", "places365"])
def test_classes_in_folders_of_folders_are_not_joined(tmp_path: Path, name: str, stray: str) -> None:
    """`bus_station/indoor` and `bus_station/outdoor` became one class."""
    write_tree(tmp_path, "a/airfield", "b/bus_station/indoor", "b/bus_station/outdoor")
    if stray:
        draw(tmp_path, stray)
    message = r"train: folders of folders, a, b, and \d folders for [\d,]+ classes: which of them are classes is told"
    with pytest.raises(DataError, match=message):
        open_labelled(name, tmp_path)
    (problem,) = problems(name, tmp_path)
    assert re.search(message, problem) and "dataset=folders" in problem
    assert len(open_labelled("folders", tmp_path)[0].classes) in (2, 3)


def test_as_many_folders_as_classes_are_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:03d}" for number in range(365)]
    for split in ("train", "val"):
        for name in names:
            (tmp_path / split / name / "deep").mkdir(parents=True)
            (tmp_path / split / name / "deep" / f"{split}{name}.jpg").touch()
    assert open_labelled("places365", tmp_path)[0].classes == names


def move_into_class_folders(root: Path) -> None:
    write_tree(root, "a", "b")
    for name in ("train_val2018", "data_256", "val_256", "data"):
        shutil.rmtree(root / name, ignore_errors=True)


@pytest.mark.parametrize(
    ("name", "write"), [("inat2018", write_inaturalist), ("places365", write_places365), ("places205", write_places205)]
)
def test_class_folders_beside_the_lists_serve(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    move_into_class_folders(write(tmp_path))
    train, val = open_labelled(name, tmp_path)
    assert (train.classes, len(train.paths), len(val.paths), train.layout) == (["a", "b"], 4, 4, "class folders")
    assert train.note == (
        f"Opened as class folders, train/ and val/: of the images that {name}'s lists name none is there."
    )
    assert problems(name, tmp_path) == []
    assert train.note in find_data_set(name).check()(tmp_path).notes
    draw(tmp_path, "train_val2018/x.jpg", "data_256/x.jpg", "images256/x.jpg")
    with pytest.raises(DataError, match=r"not found|no such folder|was found"):
        open_labelled(name, tmp_path)


@pytest.mark.parametrize("other", ["test", "valid"])
@pytest.mark.parametrize("name", ["inat2019", "places205", "cifar10"])
def test_evaluation_images_in_a_folder_of_another_name_are_to_be_renamed(tmp_path: Path, name: str, other: str) -> None:
    write_tree(tmp_path, "a", "b", splits=("train", other))
    with pytest.raises(DataError, match=f"val: no such folder. {other}/ lies there: rename it to val"):
        open_labelled(name, tmp_path)
    assert f"{other}/ lies there: rename it to val" in problems(name, tmp_path)[0]


# Lists that are not where they should be


def into_a_folder_of_its_name(path: Path) -> None:
    path.rename(path.with_name("x"))
    path.mkdir()
    path.with_name("x").rename(path / path.name)


def into_a_folder(root: Path) -> None:
    (root / "filelists").mkdir()
    for name in (TRAIN, VAL, CATEGORIES):
        (root / name).rename(root / "filelists" / name)


def into_class_folders(root: Path) -> None:
    for number, path in enumerate(sorted((root / "val_256").iterdir())):
        (root / f"val_256/c{number}").mkdir()
        path.rename(root / f"val_256/c{number}/{path.name}")


def capitals(root: Path) -> None:
    for path in [*root.rglob("*.jpg")]:
        path.rename(path.with_suffix(".JPG"))


MISTAKES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a list in a folder of its name": (
        "inat2018",
        lambda root: into_a_folder_of_its_name(root / "train2018.json"),
        r"train2018\.json: a folder, where a list of images was expected\. Put .*train2018\.json/train2018\.json in i",
    ),
    "a folder for a list": (
        "places365",
        lambda root: [(root / VAL).unlink(), (root / VAL).mkdir()],
        r"places365_val\.txt: a folder, where a list of .* Put the file in its place, from filelist_places365-standard",
    ),
    "the challenge's list": (
        "places365",
        lambda root: (root / TRAIN).rename(root / "places365_train_challenge.txt"),
        r"no such file\. .*places365_train_challenge\.txt lists another training set than Standard's",
    ),
    "lists in a folder of their own": (
        "places365",
        into_a_folder,
        r"filelists/places365_train_standard\.txt is there: move what is in .*filelists up to .*, where the images",
    ),
    "each in a folder": (
        "places365",
        into_class_folders,
        r"4 images of 4 not found.* They are in 4 folders in it, c0/, c1/, c2/, c3/: move them from there to .*val_256",
    ),
    "some in a folder": (
        "places365",
        lambda root: [
            (root / "val_256/c").mkdir(),
            (root / "val_256/Places365_val_00000001.jpg").rename(root / "val_256/c/Places365_val_00000001.jpg"),
        ],
        r"1 image of 4 not found.* They are in .*val_256/c: move them to .*val_256\.",
    ),
    "capitals": (
        "places365",
        capitals,
        r"8 of them are there in other capitals: a/airfield/00000001\.JPG for .*\. Rename the files as they are listed",
    ),
    "capitals of species": (
        "inat2018",
        capitals,
        r"9 of them are there in other capitals: Aves/3/train0\.JPG for Aves/3/train0\.jpg\. Rename the files",
    ),
    "half a character in an image's name": (
        "inat2018",
        lambda root: write_list(root, "train", with_entry("images", file_name="train_val2018/Aves/\ud800.jpg")),
        r'train2018\.json: 1 image without a usable "file_name": images\[0\]',
    ),
    "half a character in a class's name": (
        "inat2018",
        lambda root: write_list(root, "train", with_entry("categories", name="\ud800")),
        r"train2018\.json: 1 category without a usable id and name: categories\[0\]",
    ),
    "a list of a byte-order mark": (
        "places365",
        lambda root: (root / VAL).write_bytes(b"\xef\xbb\xbf"),
        r"places365_val\.txt: the file is empty",
    ),
    "a list of commas": (
        "places365",
        lambda root: (root / VAL).write_bytes(b",\n , \n"),
        r"places365_val\.txt: the file is empty",
    ),
}


def with_entry(section: str, **changes: str) -> dict[str, Any]:
    listed = content("train")
    listed[section][0] |= changes
    return listed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_what_to_do(tmp_path: Path, mistake: str) -> None:
    name, make, message = MISTAKES[mistake]
    make({"inat2018": write_inaturalist, "places365": write_places365}[name](tmp_path))
    with pytest.raises(DataError, match=message):
        open_labelled(name, tmp_path)
    assert any(re.search(message, problem) for problem in problems(name, tmp_path))


def test_passing_the_lists_folder_leads_to_where_the_images_are(tmp_path: Path) -> None:
    into_a_folder(write_places365(tmp_path))
    with pytest.raises(DataError, match=r"data_256 is there: move what is in .*filelists up to .*, and pass"):
        open_labelled("places365", tmp_path / "filelists")


def test_accents_encoded_in_another_way_are_told(tmp_path: Path) -> None:
    write_inaturalist(tmp_path, 2017)
    for split in ("train", "val"):
        listed = content(split, 2017)
        for image in listed["images"]:
            image["file_name"] = image["file_name"].replace("Parus major", "Parus m\u00e4jor")
        write_list(tmp_path, split, listed, 2017)
    birds = tmp_path / "train_val_images/Aves"
    (birds / "Parus major").rename(birds / "Parus ma\u0308jor")
    with pytest.raises(DataError, match="3 of them are there with accents encoded in another way: Aves/Parus ma"):
        open_labelled("inat2017", tmp_path)


def test_what_macos_leaves_is_no_unlisted_image(tmp_path: Path) -> None:
    for name, root in (("places365", write_places365(tmp_path / "a")), ("inat2018", write_inaturalist(tmp_path / "b"))):
        for path in [*root.rglob("*.jpg")]:
            path.with_name(f"._{path.name}").write_bytes(b"x")
        assert open_labelled(name, root)[0].note is None
        assert problems(name, root) == []


def test_labels_that_no_class_has_contradict_no_folder(tmp_path: Path) -> None:
    """Without a list of classes, validation images in no folder were said to be of another class than their folder."""
    write_places365(tmp_path)
    (tmp_path / CATEGORIES).unlink()
    (tmp_path / TRAIN).write_text((tmp_path / TRAIN).read_text().replace(" 3", " 999999999"))
    told = problems("places365", tmp_path)
    assert not any("another class than their folder" in problem for problem in told)
    assert any("2 images of a class that there is not" in problem for problem in told)


# Names of categories


OTHER_NAMES: dict[str, tuple[Any, str]] = {
    "of more categories": (
        [{"id": number, "name": f"other{number}"} for number in (*SPECIES, 101)],
        r"categories\.json: 1 category that no list has: ids 101\. Is it of another year\?",
    ),
    "of fewer categories": ([{"id": 3, "name": "other"}], r"no name for 2 categories: ids 20, 100\. Is it of another"),
    "in another form": ({"3": "Parus major"}, r"categories\.json: no key 'categories'"),
    "with half a character": (
        [{"id": number, "name": f"\ud800{number}"} for number in SPECIES],
        r"categories\.json: 3 categories without a usable id and name",
    ),
}


@pytest.mark.parametrize("kind", OTHER_NAMES)
def test_names_that_do_not_belong_to_the_lists_are_not_used(tmp_path: Path, kind: str) -> None:
    names, message = OTHER_NAMES[kind]
    write_inaturalist(tmp_path)
    (tmp_path / "categories.json").write_text(json.dumps(names))
    train, _ = open_labelled("inat2018", tmp_path)
    assert train.classes == ["3", "20", "100"]
    (problem,) = problems("inat2018", tmp_path)
    assert re.search(rf"{message}.*called as in the lists: move categories\.json away", problem)
    assert train.note == problem


def test_names_in_the_lists_stay_against_others(tmp_path: Path) -> None:
    """2017's lists have names; the file of another year beside them is none of theirs."""
    other = json.dumps([{"id": number, "name": f"other{number}"} for number in SPECIES])
    (write_inaturalist(tmp_path, 2017) / "categories.json").write_text(other)
    train, _ = open_labelled("inat2017", tmp_path)
    assert (train.classes, train.note) == (["Parus major", "Apis mellifera", "Bellis perennis"], None)


# Names written in another way


@pytest.mark.parametrize("change", ["./train_val2018/", "train_val2018//", "train_val2018/./", ""])
def test_paths_of_species_are_read_however_they_are_written(tmp_path: Path, change: str) -> None:
    write_inaturalist(tmp_path)
    before = open_labelled("inat2018", tmp_path)[0]
    for split in ("train", "val"):
        listed = content(split)
        for image in listed["images"]:
            image["file_name"] = image["file_name"].replace("train_val2018/", change)
        write_list(tmp_path, split, listed)
    after = open_labelled("inat2018", tmp_path)[0]
    assert [*after.paths] == [*before.paths] and after.labels.tolist() == before.labels.tolist()
    assert ("9 file_names with backslashes, ./, // or line ends" in (after.note or "")) == bool(change)


def test_images_without_their_initials_folder_are_found_once_the_list_is_rewritten(tmp_path: Path) -> None:
    """What is advised leads to no other refusal."""
    write_places365(tmp_path)
    for place in PLACES:
        folder = tmp_path / "data_256" / place.partition("/")[2]
        folder.parent.mkdir(exist_ok=True)
        (tmp_path / "data_256" / place).rename(folder)
    with pytest.raises(DataError, match=r"airfield/00000001\.jpg is there: write the names from that folder on"):
        open_labelled("places365", tmp_path)
    lines = (tmp_path / TRAIN).read_text().splitlines()
    (tmp_path / TRAIN).write_text("".join(f"{line[2:]}\n" for line in lines))
    train, _ = open_labelled("places365", tmp_path)
    assert train.classes[train.labels[0]] == "airfield" and "taken by their numbers" in train.note
