"""Places205 and Places365 in their makers' layouts and in class folders, and what is said about broken ones."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import Places365

from backbones.errors import DataError
from benchmarks.commands.data import show_data_check
from tasks.data_sets import name_data_set, open_labelled
from tasks.datasets.check_report import CheckReport
from tasks.datasets.image_lists.places205 import check_places205, open_places205
from tasks.datasets.image_lists.places365 import check_places365, open_places365
from tasks.datasets.labelled import LabelledSplit, contents_of
from tests.support.folders import age, bury, halve
from tests.support.places_examples import (
    IMAGES_205,
    PLACES,
    change,
    draw,
    write_list,
    write_places205,
    write_places365,
)

CLASSES = ["airfield", "bus_station/indoor", "bus_station/outdoor", "zen_garden"]
TRAIN, VAL = "places365_train_standard.txt", "places365_val.txt"
CATEGORIES = "categories_places365.txt"
TRAIN_205, VAL_205 = "trainvalsplit_places205/train_places205.csv", "trainvalsplit_places205/val_places205.csv"


def labels_of(split: LabelledSplit) -> dict[str, int]:
    """Each image's path below the root, with its label."""
    names = [path.relative_to(split.root).as_posix() for path in split.paths]
    return dict(zip(names, split.labels.tolist(), strict=True))


def problems(report: CheckReport) -> list[str]:
    """All but that a miniature is not as large as the real one."""
    return [problem for problem in report.problems if "published are" not in problem]


# As they are distributed


@pytest.mark.parametrize("folders", [("data_256_standard", "val_256"), ("data_large_standard", "val_large")])
def test_labels_are_torchvisions(tmp_path: Path, folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_places365(tmp_path, *folders)
    monkeypatch.setattr(Places365, "_check_integrity", lambda *_: True)
    for split, name in zip(open_places365(tmp_path), ("train-standard", "val"), strict=True):
        reference = Places365(tmp_path, name, small="256" in folders[0])
        expected = {Path(path).relative_to(tmp_path).as_posix(): label for path, label in reference.imgs}
        assert labels_of(split) == expected
        assert [f"/{place}" for place in PLACES] == reference.classes
        assert split.classes == CLASSES
        assert split.labels.dtype == "int32"


@pytest.mark.parametrize("folders", [("data_256", "val_256"), ("data_large", "val_large")])
def test_places365_as_it_is_unpacked(tmp_path: Path, folders: tuple[str, str]) -> None:
    train, val = open_places365(write_places365(tmp_path, *folders))
    assert labels_of(train)[f"{folders[0]}/b/bus_station/indoor/00000002.jpg"] == 1
    assert labels_of(val)[f"{folders[1]}/Places365_val_00000001.jpg"] == 3
    assert (train.split, val.split, train.note, val.note) == ("train", "val", None, None)


def test_folders_of_another_name_hold_the_same_data(tmp_path: Path) -> None:
    folders = ("data_256", "data_256_standard")
    splits = [open_places365(write_places365(tmp_path / folder, folder)) for folder in folders]
    assert contents_of(*splits[0]) == contents_of(*splits[1])
    for folder, (train, val) in zip(folders, splits, strict=True):
        assert (train.names_root, val.names_root) == (tmp_path / folder / folder, tmp_path / folder / "val_256")


@pytest.mark.parametrize("moved", [False, True])
def test_places205(tmp_path: Path, moved: bool) -> None:
    write_places205(tmp_path)
    images = IMAGES_205
    if moved:
        (tmp_path / IMAGES_205).rename(tmp_path / "images256")
        for name in (TRAIN_205, VAL_205):
            (tmp_path / name).rename(tmp_path / Path(name).name)
        images = "images256"
    train, val = open_places205(tmp_path)
    expected = {f"{images}/{place}/gsun_{at}.jpg": label for label, place in enumerate(PLACES) for at in (0, 1, 2, 9)}
    assert {**labels_of(train), **labels_of(val)} == expected
    assert (len(train.paths), len(val.paths), train.classes, val.classes) == (12, 4, CLASSES, CLASSES)


def test_other_numbers_and_folder_names_name_the_same_classes(tmp_path: Path) -> None:
    """A class is told by its number; which number and which folder it has changes no image's class."""
    numbers = [2, 0, 3, 1]
    folders = ["x/q", "a/z", "m", "b/b/b"]
    images = [(f"{number}.jpg", number % 4) for number in range(16)]
    rng = random.Random(0)
    found = []
    for at, order in enumerate((range(4), numbers)):
        root = tmp_path / str(at)
        entries = [(f"/{folders[kind]}/{name}", order[kind]) for name, kind in images]
        rng.shuffle(entries)
        write_list(root / CATEGORIES, [(f"/{folders[kind]}", order[kind]) for kind in rng.sample(range(4), 4)])
        write_list(root / TRAIN, entries)
        write_list(root / VAL, [(f"v{name}", order[kind]) for name, kind in images])
        draw(root / "data_256", *(name for name, _ in entries))
        draw(root / "val_256", *(f"v{name}" for name, _ in images))
        train, val = open_places365(root)
        assert [train.classes[order[kind]] for kind in range(4)] == ["q", "z", "m", "b/b"]
        found.append(
            [{name: split.classes[label] for name, label in labels_of(split).items()} for split in (train, val)]
        )
    assert found[0] == found[1]


def test_the_order_of_the_lines_decides_nothing(tmp_path: Path) -> None:
    write_places365(tmp_path)
    before = [split.fingerprint for split in open_places365(tmp_path)]
    for name in (TRAIN, VAL, CATEGORIES):
        lines = (tmp_path / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(reversed(lines)))
    assert [split.fingerprint for split in open_places365(tmp_path)] == before


def test_what_was_found_is_remembered_until_a_file_or_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(write_places205(tmp_path))
    before = [labels_of(split) for split in open_places205(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr("tasks.datasets.image_lists.places.read_list", lambda _: 1 / 0)
        assert [labels_of(split) for split in open_places205(tmp_path)] == before
    (tmp_path / IMAGES_205 / PLACES[0] / "gsun_1.jpg").unlink()
    with pytest.raises(DataError, match="1 image of 12 not found"):
        open_places205(tmp_path)


# Class folders


@pytest.mark.parametrize("name", ["places205", "places365"])
def test_class_folders_serve_too(tmp_path: Path, name: str) -> None:
    """The makers' "easy directory structure"."""
    draw(tmp_path, *(f"{split}/{place}/1.jpg" for split in ("train", "val") for place in ("airfield", "bus-indoor")))
    train, val = open_labelled(name, tmp_path)
    assert train.classes == val.classes == ["airfield", "bus-indoor"]
    assert train.layout == "class folders"
    report = check_places365(tmp_path)
    assert problems(report) == [] and len(report.problems) == 1


# Names and counts


def test_the_name_is_earned_by_the_counts(tmp_path: Path) -> None:
    write_places205(tmp_path / "places205")
    contents = contents_of(*open_places205(tmp_path / "places205"))
    assert name_data_set("places205", tmp_path / "places205", contents).name == "own-places205"


def test_other_counts_are_a_problem_unless_a_card_names_the_images(tmp_path: Path) -> None:
    report = check_places365(write_places365(tmp_path))
    (problem,) = report.problems
    assert "8 training and 4 evaluation images in 4 classes; published are 1,803,460 training" in problem
    (tmp_path / "dataset.json").write_text('{"name": "small-places"}')
    report = check_places365(tmp_path)
    assert report.problems == [] and "By its dataset.json it is small-places" in report.notes[0]
    assert (report.counts, report.classes) == ({"train": 8, "val": 4}, CLASSES)


# Mistakes


def add_line(name: str, line: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(f"{(root / name).read_text()}{line}\n") and None


def rewrite(name: str, make: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(make((root / name).read_text()).encode()) and None


def count_from_one(text: str) -> str:
    return "".join(f"{name} {int(label) + 1}\n" for name, label in (line.split() for line in text.splitlines()))


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no validation list": (
        lambda root: (root / VAL).unlink(),
        r"places365_val\.txt: no such file\. .*from filelist_pla",
    ),
    "no training list": (lambda root: (root / TRAIN).unlink(), r"train_standard\.txt: no such file\. Expected a list"),
    "an empty list": (lambda root: (root / VAL).write_text("\n"), r"places365_val\.txt: the file is empty"),
    "a list cut short": (lambda root: halve(root / TRAIN), r"train_standard\.txt, line 5: .*'/b/'"),
    "the test list": (
        rewrite(VAL, lambda text: "".join(f"{line.split()[0]}\n" for line in text.splitlines())),
        "A list of test images has no classes",
    ),
    "one image missing": (
        lambda root: (root / "data_256/a/airfield/00000001.jpg").unlink(),
        r"1 image of 8 not found in .*data_256: a/airfield/00000001\.jpg\. Unpack",
    ),
    "no images": (lambda root: (root / "val_256").rename(root / "x"), "val_256: no such folder of images. Unpack"),
    "one folder too many": (lambda root: bury(root / "data_256"), "8 images of 8 not found.*data_256/deep: move them"),
    "images beside their folder": (
        lambda root: [path.rename(root / path.name) for path in (root / "val_256").iterdir()],
        "4 images of 4 not found in .* They are in .*: move them to .*val_256",
    ),
    "the archive's own folder": (
        lambda root: (root / "val_256").rename((root / "archive").mkdir() or root / "archive/val_256"),
        "val_256: no such folder of images. .*archive/val_256 is there: move it up",
    ),
    "numbered from 1": (rewrite(TRAIN, count_from_one), r"2 images of a class that there is not.*numbered from 1"),
    "validation numbered from 1": (rewrite(VAL, count_from_one), r"places365_val\.txt: 1 image of a class.*from 1"),
    "labels of another release": (
        rewrite(TRAIN, lambda text: text.replace(" 1\n", " x\n").replace(" 2\n", " 1\n").replace(" x\n", " 2\n")),
        "4 images of another class than their folder: b/bus_station/indoor/00000001.jpg of class 2, which is b/bus_st",
    ),
    "categories of another set": (
        rewrite(CATEGORIES, lambda text: text.replace("airfield", "abbey")),
        "2 images in folders that are no class's: a/airfield/00000001.jpg of class 0. The lists of one release",
    ),
    "categories numbered from 1": (rewrite(CATEGORIES, count_from_one), "not numbered from 0 to 3, each once"),
    "an image of two classes": (add_line(TRAIN, "/a/airfield/00000001.jpg 3"), "named twice with different classes"),
}

FLAWS: dict[str, tuple[Callable[[Path], object], str]] = {
    "the folder of images in names": (
        rewrite(VAL, lambda text: text.replace("Places365_val", "val_256/Places365_val")),
        r"places365_val\.txt: names begin with val_256/, the folder of images itself, which is passed over",
    ),
    "backslashes": (rewrite(TRAIN, lambda text: text.replace("/", "\\")), r"has backslashes, \./ or // in names"),
    "dots and double slashes": (
        rewrite(TRAIN, lambda text: "".join(f".{line}\n" for line in text.replace("d/", "d//").splitlines())),
        r"has backslashes, \./ or // in names",
    ),
    "classes without their initials": (
        rewrite(CATEGORIES, lambda text: "".join(f"{line[2:]}\n" for line in text.splitlines())),
        r"no folder of its images is a class's: a/airfield/00000001\.jpg is of class 0, airfield\. The classes are",
    ),
    "Windows line ends": (rewrite(TRAIN, lambda text: text.replace("\n", "\r\n")), "Windows line ends"),
    "a byte-order mark": (rewrite(VAL, lambda text: f"\ufeff{text}"), "begins with a byte-order mark"),
    "tabs": (rewrite(TRAIN, lambda text: text.replace(" ", "\t")), "a tab before the class"),
    "commas": (rewrite(TRAIN, lambda text: text.replace(" ", ",")), "a comma before the class"),
    "a line twice": (
        add_line(TRAIN, "/a/airfield/00000001.jpg 0"),
        "1 line of images named before, a/airfield/00000001.jpg among",
    ),
    "no categories": (lambda root: (root / CATEGORIES).unlink(), "The classes are named by the training images"),
    "unlisted images": (
        lambda root: draw(root / "data_256", "a/airfield/9.jpg", "c/cave/1.jpg"),
        r"2 images in no list, left out: a/airfield/9\.jpg, c/cave/1\.jpg",
    ),
    "a class without images": (add_line(CATEGORIES, "/z/zoo 4"), "no training image of 1 of 5 classes: z/zoo"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_by_the_check_and_refused_at_opening(tmp_path: Path, mistake: str) -> None:
    make, message = MISTAKES[mistake]
    make(write_places365(tmp_path))
    with pytest.raises(DataError, match=message):
        open_places365(tmp_path)
    report = CheckReport("", problems=problems(check_places365(tmp_path)))
    assert len([problem for problem in report.problems if str(tmp_path) in problem]) == len(report.problems) > 0
    with pytest.raises(DataError, match=message):
        raise DataError(report.problems[0])


MISTAKES_205: dict[str, tuple[Callable[[Path], object], str]] = {
    "numbered from 1": (rewrite(TRAIN_205, count_from_one), "3 images of a class that there is not: z/zen_garden"),
    "labels in another order": (
        rewrite(VAL_205, lambda text: text.replace(" 0\n", " x\n").replace(" 3\n", " 0\n").replace(" x\n", " 3\n")),
        r"val_places205\.csv: 2 images of another class than their folder: a/airfield/gsun_9\.jpg of class 3, which",
    ),
    "one label moved": (
        rewrite(TRAIN_205, lambda text: text.replace("a/airfield/gsun_1.jpg 0", "a/airfield/gsun_1.jpg 2")),
        r"train_places205\.csv: 1 image of another class than their folder: a/airfield/gsun_1\.jpg of class 2",
    ),
    "a folder that training does not have": (
        lambda root: (draw(root / IMAGES_205, "c/cave/1.jpg"), add_line(VAL_205, "c/cave/1.jpg 0")(root)),
        "1 image in folders that are no class's: c/cave/1.jpg of class 0. The lists of one release belong",
    ),
    "an index of other classes": (
        lambda root: write_list(root / "trainvalsplit_places205/categoryIndex_places205.csv", [("/a/abbey", 0)]),
        "9 images of a class that there is not: .* Expected 0 to 0",
    ),
    "no images": (
        lambda root: (root / IMAGES_205).rename(root / "elsewhere"),
        "images256: no such folder of images. Unpack the images there",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES_205)
def test_a_mistake_in_places205_is_told_by_the_check_and_refused_at_opening(tmp_path: Path, mistake: str) -> None:
    make, message = MISTAKES_205[mistake]
    make(write_places205(tmp_path))
    with pytest.raises(DataError, match=message):
        open_places205(tmp_path)
    with pytest.raises(DataError, match=message):
        raise DataError(problems(check_places205(tmp_path))[0])


def test_the_index_of_classes_names_them(tmp_path: Path) -> None:
    write_places205(tmp_path)
    index = [(f"/{place}", label) for label, place in enumerate((*PLACES, "z/zoo"))]
    write_list(tmp_path / "trainvalsplit_places205/categoryIndex_places205.csv", index)
    train, val = open_places205(tmp_path)
    assert train.classes == val.classes == [*CLASSES, "zoo"]
    assert "no training image of 1 of 5 classes: z/zoo" in (train.note or "")


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_told_by_the_check_and_noted_at_opening(tmp_path: Path, flaw: str) -> None:
    make, message = FLAWS[flaw]
    expected = [labels_of(split) for split in open_places365(write_places365(tmp_path))]
    make(tmp_path)
    train, val = open_places365(tmp_path)
    assert [labels_of(train), labels_of(val)] == expected
    (problem,) = problems(check_places365(tmp_path))
    with pytest.raises(DataError, match=message):
        raise DataError(problem)
    assert problem in (train.note or "")


def test_all_mistakes_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_places205(tmp_path)
    change(tmp_path / TRAIN_205, "b/bus_station/indoor/gsun_0.jpg 1", "b/bus_station/indoor/gsun_0.jpg 7")
    change(tmp_path / VAL_205, "z/zen_garden/gsun_9.jpg 3", "a/airfield/gsun_0.jpg 0")
    (tmp_path / IMAGES_205 / "b/bus_station/outdoor/gsun_1.jpg").unlink()
    halve(tmp_path / IMAGES_205 / "a/airfield/gsun_2.jpg")
    assert not show_data_check("places205", tmp_path, [])
    told = capsys.readouterr().out
    for expected in (
        "1 image of a class that there is not: b/bus_station/indoor/gsun_0.jpg of class 7. Expected 0 to 3",
        "1 image of 12 not found",
        "1 image in no list, left out: z/zen_garden/gsun_9.jpg",
        "1 image in both splits: a/airfield/gsun_0.jpg",
        "unreadable: ",
        "published are 2,448,873 training and 20,500 evaluation images in 205 classes",
        "6 problem(s)",
    ):
        assert expected in told


def test_what_opening_refuses_first_says_how_much_more_there_is(tmp_path: Path) -> None:
    write_places205(tmp_path)
    (tmp_path / VAL_205).unlink()
    (tmp_path / IMAGES_205 / "a/airfield/gsun_2.jpg").unlink()
    with pytest.raises(DataError, match=r"no such file.* 1 more: backbench data check places205 --data .* tells all"):
        open_places205(tmp_path)


LAYOUTS: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "no places365 found. Expected places365_train_standard.txt, .*Found an empty folder"),
    "a folder too many": ([f"deep/{TRAIN}"], "deep/places365_train_standard.txt is there: pass .*deep, or move"),
    "class folders a folder too deep": (
        ["places365_standard/train/airfield/1.jpg", "places365_standard/val/airfield/1.jpg"],
        "places365_standard has train/ and val/: pass that folder",
    ),
    "images without lists": (
        ["data_256/a/airfield/1.jpg", "val_256/1.jpg"],
        "no places365 found. Expected .*Found 2 folders: data_256/, val_256/",
    ),
    "initials for classes": (
        ["train/a/airfield/1.jpg", "train/b/bar/1.jpg", "val/a/airfield/1.jpg"],
        "train: folders of folders, a, b, and 2 folders for 365 classes: which of them are classes is told by the",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_in_no_layout_is_explained(tmp_path: Path, layout: str) -> None:
    names, message = LAYOUTS[layout]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        open_places365(tmp_path)
    (problem,) = check_places365(tmp_path).problems
    with pytest.raises(DataError, match=message):
        raise DataError(problem)


def test_a_root_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        open_places205(tmp_path / "absent")
    assert "absent: no such folder" in check_places205(tmp_path / "absent").problems[0]
