"""`data check inat2018` tells every mistake of lists, folders and images at once."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.datasets.check_report import CheckReport
from tasks.datasets.image_lists.inaturalist import check_inat2018
from tests.support.folders import halve
from tests.support.in_process import call, success
from tests.support.inaturalist_examples import content, write_inaturalist, write_list

Lists = dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound set; its card says that it is small on purpose."""
    write_inaturalist(tmp_path)
    (tmp_path / "dataset.json").write_text('{"name": "birds"}')
    return tmp_path


def has(texts: list[str], *patterns: str) -> None:
    """Each pattern is found in one text, and there is no other text."""
    assert len(texts) == len(patterns), texts
    for pattern in patterns:
        assert any(re.search(pattern, text) for text in texts), (pattern, texts)


def test_a_sound_set_has_no_problems(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = check_inat2018(root, on_progress=lambda done, total: calls.append((done, total)))
    assert (report.problems, report.layout) == ([], "iNaturalist 2018's lists")
    assert report.counts == {"train": 9, "val": 3}
    assert (report.smallest, report.largest) == (("Apis mellifera", 2), ("Bellis perennis", 4))
    has(report.notes, r"published are 437,513 training and 24,426 .* By its dataset\.json it is birds")
    assert calls[-1] == (12, 12)


def test_all_mistakes_are_told_at_once(root: Path) -> None:
    train, val = content("train"), content("val")
    images, annotations = train["images"], train["annotations"]
    images += [{"id": 900, "file_name": "/a.jpg"}, {"id": 901, "file_name": "train_val2018/Aves/3/new.jpg"}]
    images += [{"id": "902", "file_name": "b.jpg"}, dict(images[0])]
    annotations += [
        {"id": 900, "image_id": 900, "category_id": 3},
        {"id": 901, "image_id": 901, "category_id": 77},
        {"id": 903, "image_id": 55, "category_id": 3},
        {"id": 904, "image_id": images[1]["id"], "category_id": 3},
        {"id": 905, "image_id": 0, "category_id": None},
        dict(annotations[0]),
    ]
    train["categories"] += [{"id": 3, "name": "3"}, {"id": -1, "name": "x"}, {"id": 500, "name": "500"}]
    val["images"][0]["file_name"] = "train_val2018/Plantae/100/train0.jpg"
    write_list(root, "train", train)
    write_list(root, "val", val)
    (root / "train_val2018/Aves/3/train2.jpg").unlink()
    halve(root / "train_val2018/Aves/3/train1.jpg")
    report = check_inat2018(root)
    in_train = r"train2018\.json: "
    has(
        report.problems,
        in_train + r"1 category without a usable id and name: categories\[4\]\. An id",
        in_train + r"1 category whose id another has: 3\. Give",
        in_train + r"1 image without a usable id: images\[11\]",
        in_train + r"1 image whose id another has: 221\. Give",
        in_train + r'1 image without a usable "file_name": images\[9\]\. Expected a path below',
        in_train + r"1 annotation without a usable image_id and category_id: annotations\[13\]",
        in_train + r"1 annotation of an image_id that no image has: 55",
        in_train + r"1 annotation of a category_id that no category has: 77\. Is the list categories whole",
        in_train + r"1 image with two annotations of different categories: 214\. Keep",
        in_train + r"1 annotation told twice",
        in_train + r"1 image of 9 not found in .*train_val2018: Aves/3/train2\.jpg\. Unpack",
        r"val2018\.json: lacks 1 category of .*train2018\.json: ids 500",
        r"categories\.json: no name for 1 category: ids 500\. Is it of another year",
        r"1 class of 4 without any image: 500",
        r"1 image in both splits: Plantae/100/train0\.jpg",
        r"unreadable: .*train1\.jpg",
    )


def both(name: str, change: Callable[[Lists], Any]) -> Callable[[Path], None]:
    """Write a list again after a change."""

    def spoil(root: Path) -> None:
        listed = content(name)
        change(listed)
        write_list(root, name, listed)

    return spoil


def test_a_list_of_images_without_labels_is_none(root: Path) -> None:
    both("val", lambda listed: listed.pop("annotations"))(root)
    has(
        check_inat2018(root).problems, r"val2018\.json: no key 'annotations'; found images, categories\. Expected.*test"
    )


def _mix_up(listed: Lists) -> None:
    """Give each label to the next image."""
    labels = [entry["category_id"] for entry in listed["annotations"]]
    for entry, label in zip(listed["annotations"], [*labels[1:], labels[0]], strict=True):
        entry["category_id"] = label


def _list_again(category: int) -> Callable[[Lists], None]:
    def change(listed: Lists) -> None:
        listed["images"].append({**listed["images"][0], "id": 999})
        listed["annotations"].append({"id": 999, "image_id": 999, "category_id": category})

    return change


def _swap_names(path: Path) -> None:
    names = json.loads(path.read_text())
    names[0]["name"], names[1]["name"] = names[1]["name"], names[0]["name"]
    path.write_text(json.dumps(names))


def _write_released_names(root: Path, change: Callable[[Lists], Any]) -> None:
    for split in ("train", "val"):
        listed = content(split, released=True)
        if split == "val":
            change(listed)
        write_list(root, split, listed)


MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "labels moved by one": (both("train", _mix_up), r"train2018\.json: 3 folders with images of several categories"),
    "listed twice": (both("train", _list_again(100)), r"train2018\.json: 1 file listed twice: train_val2018/Plantae"),
    "two labels": (both("train", _list_again(3)), r"1 file listed twice, with two categories: train_val2018/Plantae"),
    "unlabelled": (both("val", lambda listed: listed["annotations"].pop()), r"1 image without an annotation: 1200"),
    "above": (
        both("val", lambda listed: listed["images"][0].update(file_name="../a.jpg")),
        r'1 image without a usable "file_name": images\[0\]',
    ),
    "cut short": (lambda root: halve(root / "train2018.json"), r"train2018\.json: cut short: the JSON is still open"),
    "packed": (lambda root: (root / "val2018.json").write_bytes(b"\x1f\x8b\x08\0"), r"val2018\.json: not JSON: byte 2"),
    "detections": (
        lambda root: write_list(root, "val", []),
        r"val2018\.json: a list, as of detections, not a list of l",
    ),
    "empty file": (lambda root: (root / "val2018.json").write_text(""), r"val2018\.json: the file is empty"),
    "no entries": (
        both("val", lambda listed: [listed[name].clear() for name in ("images", "annotations")]),
        r"val2018\.json: no images are listed",
    ),
    "no validation list": (
        lambda root: (root / "val2018.json").unlink(),
        r"val2018\.json: no such file\. Expected a list of images: put it there, from github\.com",
    ),
    "cut names": (lambda root: halve(root / "categories.json"), r"categories\.json: cut short"),
    "no images": (lambda root: shutil.rmtree(root / "train_val2018"), r"train_val2018: no such folder\. Unpack"),
    "untrained": (
        lambda root: [
            both("train", lambda listed: listed.update(_without(listed, 20)))(root),
            shutil.rmtree(root / "train_val2018/Insecta"),
            both("val", lambda listed: None)(root),
        ],
        r"train2018\.json: no image of 1 class that are evaluated: Apis mellifera",
    ),
    "other names": (
        lambda root: [
            _write_released_names(root, lambda listed: None),
            _swap_names(root / "categories.json"),
        ],
        r"categories\.json: other names than .* for 2 category_ids: 20 is Apis mellifera and Bellis perennis",
    ),
    "other species": (
        lambda root: _write_released_names(root, lambda listed: listed["categories"][0].update(name="Rosa")),
        r"val2018\.json: other names than in .*training images for 1 category_id: 100 is Bellis perennis and Rosa\.",
    ),
}


def _without(listed: Lists, category: int) -> Lists:
    dropped = {entry["image_id"] for entry in listed["annotations"] if entry["category_id"] == category}
    return {
        "images": [entry for entry in listed["images"] if entry["id"] not in dropped],
        "annotations": [entry for entry in listed["annotations"] if entry["image_id"] not in dropped],
    }


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_told(root: Path, kind: str) -> None:
    spoil, expected = MISTAKES[kind]
    spoil(root)
    problems = check_inat2018(root).problems
    assert any(re.search(expected, problem) for problem in problems), problems
    assert len(problems) <= 2 and not any("\n" in problem for problem in problems)


def test_images_on_no_list_are_noted(root: Path) -> None:
    shutil.copy(root / "train_val2018/Aves/3/val0.jpg", root / "train_val2018/Aves/3/more.jpg")
    report = check_inat2018(root)
    assert report.problems == []
    assert any(
        re.search(r"1 image in train_val2018/ on neither list, left out: Aves/3/more\.jpg", n) for n in report.notes
    )


def test_other_ways_to_keep_images_are_no_mistake(root: Path) -> None:
    """All in one folder, or a folder for each photographer of a species."""
    for split in ("train", "val"):
        listed = content(split)
        for number, image in enumerate(listed["images"]):
            path = root / image["file_name"]
            image["file_name"] = f"{number % 2}/{image['id']}.jpg" if split == "val" else f"pictures/{image['id']}.jpg"
            (root / image["file_name"]).parent.mkdir(exist_ok=True)
            path.rename(root / image["file_name"])
        write_list(root, split, listed)
    report: CheckReport = check_inat2018(root)
    assert report.problems == []


def test_the_command_ends_with_one_where_there_is_a_problem(root: Path) -> None:
    assert "no problem" in success("data", "check", "inat2018", "--data", root).stdout
    (root / "dataset.json").unlink()
    (root / "val2018.json").unlink()
    result = call("data", "check", "inat2018", "--data", root)
    assert result.exit_code == 1
    assert "val2018.json: no such file" in result.output and "Traceback" not in result.output
