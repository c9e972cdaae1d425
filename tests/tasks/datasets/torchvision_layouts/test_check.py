"""The check of the sets that torchvision reads names every mistake at once."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat  # type: ignore[import-untyped]

from tasks.data_sets import find_data_set
from tasks.datasets.check_report import CheckReport
from tasks.datasets.torchvision_layouts import sets
from tasks.datasets.torchvision_layouts.sets import TorchvisionSet
from tests.support.in_process import call
from tests.support.torchvision_examples import CLASSES, draw, text, write_set

SETS = [each for each in vars(sets).values() if isinstance(each, TorchvisionSet)]


def check(spec: TorchvisionSet, root: Path) -> CheckReport:
    report: CheckReport = find_data_set(spec.name).check()(root, None, None)
    return report


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder whose card says that its images are somebody's own: no published counts are asked of them."""
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "a miniature"}))
    return tmp_path


@pytest.mark.parametrize("spec", SETS, ids=lambda spec: spec.name)
def test_a_sound_set_has_no_problem(spec: TorchvisionSet, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_set(spec, root, monkeypatch)
    seen: list[tuple[int, int]] = []
    report: CheckReport = find_data_set(spec.name).check()(base, None, lambda *told: seen.append(told))
    assert not report.problems and {*report.counts} == {"train", "val"} and len(report.classes) == len(CLASSES)
    total = sum(report.counts.values())
    assert seen == [(done, total) for done in range(1, total + 1)]
    (root / "dataset.json").unlink()
    (problem,) = check(spec, root).problems
    assert f"{report.counts['train']:,} training and" in problem and "published are" in problem


def _zero_based(base: Path) -> None:
    savemat(
        base / "devkit" / "cars_train_annos.mat",
        {"annotations": np.array([(0, "00001.jpg"), (3, "00002.jpg")], [("class", "O"), ("fname", "O")])[None]},
    )


def _own_folder_inside(base: Path) -> None:
    (base / "cars_train").rename(base / "inner")
    (base / "cars_train").mkdir()
    (base / "inner").rename(base / "cars_train" / "cars_train")


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


MISTAKES: dict[str, tuple[str, Callable[[Path], object], list[str]]] = {
    "files that are missing": (
        "pets",
        lambda base: [(base / "annotations" / f"{name}.txt").unlink() for name in ("test", "trainval")],
        ["annotations/trainval.txt: not there. Unpack images.tar.gz and annotations.tar.gz", "annotations/test.txt: n"],
    ),
    "another file in its place": (
        "flowers102",
        lambda base: [(base / f"{name}.mat").write_bytes(b"MATLAB") for name in ("setid", "imagelabels")],
        ["imagelabels.mat: not the file that is distributed, whose MD5", "setid.mat: not the file that is distributed"],
    ),
    "images that are missing": (
        "dtd",
        lambda base: [
            (base / "dtd/images" / name).unlink() for name in ("beagle/beagle_00.jpg", "beagle/beagle_20.jpg")
        ],
        ["1 train image listed and not there: dtd/images/beagle/beagle_00.jpg.", "1 val image listed and not there"],
    ),
    "one folder too many": (
        "cars",
        _own_folder_inside,
        [
            "7 train images listed and not there: cars_train/00001.jpg, cars_train/00002.jpg, cars_train/00003.jpg, "
            "cars_train/00004.jpg, cars_train/00005.jpg and 2 more. ROOT/stanford_cars/cars_train/cars_train is one "
            "folder too many: move what is in it up."
        ],
    ),
    "classes from 0": ("cars", _zero_based, ["train images of classes 0 to 3. Expected 1 to 3"]),
    "an image listed twice": (
        "aircraft",
        lambda base: _append(base / "data/images_variant_trainval.txt", "0000010 beagle"),
        ["1 train image listed more than once: data/images/0000010.jpg."],
    ),
    "a class that is not known": (
        "aircraft",
        lambda base: _append(base / "data/images_variant_trainval.txt", "0000010 zeppelin"),
        ["torchvision's FGVCAircraft cannot read it: no entry 'zeppelin'. Unpack fgvc-aircraft-2013b.tar.gz"],
    ),
    "a class without images": (
        "aircraft",
        lambda base: _append(base / "data/variants.txt", "zeppelin"),
        ["no image to train on of 1 class: zeppelin."],
    ),
    "splits of other classes": (
        "food101",
        lambda base: text(base / "meta/test.json", [json.dumps({"beagle": ["beagle/10"], "pizza": ["beagle/11"]})]),
        ["its splits have other classes, abyssinian_cat, pizza, yorkshire_terrier"],
    ),
    "half a list": (
        "food101",
        lambda base: (base / "meta/train.json").write_text('{"beagle": ["beag'),
        ["torchvision's Food101 cannot read it: Unterminated string"],
    ),
    "a line with too little": (
        "pets",
        lambda base: _append(base / "annotations/test.txt", "beagle_40 1"),
        ["torchvision's OxfordIIITPet cannot read it: not enough values to unpack"],
    ),
    "no images at all": (
        "eurosat",
        lambda base: [path.unlink() for path in base.rglob("*.jpg")],
        ["eurosat/2750: 3 class folders without images: abyssinian_cat (an empty folder), beagle (an empty folder), y"],
    ),
    "images of a class that is not known": (
        "sun397",
        lambda base: draw(base / "z/zoo/sun_1.jpg", 1),
        ["SUN397: 1 image in folders that ClassName.txt does not name: z/zoo/sun_1.jpg. Move them away"],
    ),
    "unreadable images": (
        "caltech101",
        lambda base: [path.write_bytes(b"\xff\xd8broken") for path in sorted(base.rglob("image_0001.jpg"))[1:3]],
        [*(f"unreadable: ROOT/caltech101/101_ObjectCategories/{name}/image_0001.jpg" for name in sorted(CLASSES)[:2])],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_named(mistake: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, make, expected = MISTAKES[mistake]
    spec: TorchvisionSet = getattr(sets, name.upper())
    make(write_set(spec, root, monkeypatch))
    problems = check(spec, root).problems
    assert len(problems) == len(expected)
    for problem, part in zip(problems, expected, strict=True):
        assert part.replace("ROOT", str(root)) in problem


def test_an_image_in_both_splits_is_a_problem_and_one_in_none_is_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_set(sets.PETS, root, monkeypatch)
    _append(base / "annotations" / "test.txt", (base / "annotations" / "trainval.txt").read_text().splitlines()[0])
    report = check(sets.PETS, root)
    (problem,) = report.problems
    assert problem.startswith("1 image in both splits: images/beagle_10.jpg.")
    assert report.notes[0] == "1 image in no list, left out: images/beagle_999.jpg."


def test_the_command_ends_with_1_for_a_problem(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_set(sets.DTD, root, monkeypatch)
    result = call("data", "check", "dtd", "--data", root)
    assert result.exit_code == 0
    assert "torchvision's DTD: train and val to train on, test to evaluate on, 3 classes" in result.output
    draw(base / "dtd" / "images" / "beagle" / "more.jpg", 1)
    (base / "dtd" / "images" / "beagle" / "beagle_00.jpg").unlink()
    result = call("data", "check", "dtd", "--data", root)
    assert result.exit_code == 1 and "1 problem(s)" in result.output
    assert "note: 1 image in no list, left out: dtd/images/beagle/more.jpg" in result.output
