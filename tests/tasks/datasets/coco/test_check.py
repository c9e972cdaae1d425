"""`check_coco` reports every mistake of both splits at once."""

import codecs
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.datasets.check_report import CheckReport
from tasks.datasets.coco.check import check_coco
from tasks.datasets.coco.layout import CocoDataSettings
from tests.support.coco_examples import HEIGHT, WIDTH, annotation, content, write
from tests.support.image_examples import save_tagged


def write_pictures(root: Path) -> None:
    for grey, split in enumerate(("train", "val")):
        for name in ("b.jpg", "deep/a.jpg", "c.png"):
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), 100 * grey, dtype=np.uint8)).save(root / f"{split}2017" / name)


def check(root: Path, train: dict[str, Any] | None = None, val: dict[str, Any] | None = None) -> CheckReport:
    write(root, "train", train or content())
    write(root, "val", val or content())
    write_pictures(root)
    return check_coco(root)


def has(texts: list[str], *patterns: str) -> bool:
    """Whether each pattern is found in one text, in this order, and there is no other text."""
    assert len(texts) == len(patterns), texts
    return all(re.search(pattern, text) for pattern, text in zip(patterns, texts, strict=True))


def test_sound_set_has_no_problems(tmp_path: Path) -> None:
    train = content()
    train["annotations"] += [annotation(number, 2, bbox=[number, 10, 20, 20]) for number in range(20, 35)]
    report = check(tmp_path, train)
    assert report.problems == []
    assert report.counts == {"train": 3, "val": 3}
    assert report.annotations == {"train": 18, "val": 3}
    assert report.classes == ["cat", "dog"]
    assert (report.smallest, report.largest) == (("dog", 1), ("cat", 17))
    assert has(
        report.notes,
        r"1 train category with fewer than 10 annotations \(ids 8\)",
        r"1 train image of 3 without annotations",
        r"2 val categories with fewer than 10 annotations \(ids 3, 8\)",
        r"1 val image of 3 without annotations",
    )


def test_progress_counts_all_images(tmp_path: Path) -> None:
    check(tmp_path)
    calls: list[tuple[int, int]] = []
    check_coco(tmp_path, on_progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (6, 6)


def test_all_mistakes_of_both_splits_are_reported(tmp_path: Path) -> None:
    train, val = content(), content()
    train["images"][0].pop("width")
    train["images"][2]["file_name"] = "../c.png"
    train["annotations"] += [
        annotation(20, 99),
        annotation(20, 2, category_id=1),
        annotation(21, 2, bbox=[1, 2, 3]),
        annotation(22, 2, bbox=[5, 5, 0, 5]),
        annotation(23, 2, segmentation="x"),
    ]
    val["categories"][1]["name"] = "lion"
    val["annotations"][0].pop("area")
    report = check(tmp_path, train, val)
    assert has(
        report.problems,
        r"train2017\.json: 1 image without a usable \"file_name\"",
        r"train2017\.json: 1 image without a usable \"width\"",
        r"train2017\.json: 1 annotation without a usable \"bbox\"",
        r"train2017\.json: 1 annotation id used more than once: 20",
        r"train2017\.json: 1 annotation of images that the file doesn't list: annotation 20",
        r"train2017\.json: 1 annotation of categories that the file doesn't list: annotation 20",
        r"train2017\.json: 1 annotation with a segmentation in none of COCO's forms: annotation 23",
        r"train2017\.json: 1 image of 3 not named from .* such as c\.png for \.\./c\.png",
        r"val2017\.json: 1 annotation without a usable \"area\"",
        r"val2017\.json: not the categories of .*train2017\.json: 3 is 'cat' in train, 'lion' in val",
    )
    assert any("a box without width or height: left out of training (ids 22)" in note for note in report.notes)
    assert report.smallest == ("dog", 1)


def test_one_broken_file_does_not_hide_the_other(tmp_path: Path) -> None:
    val = content()
    val["annotations"][0]["bbox"] = None
    path = write(tmp_path, "train", content())
    path.write_text(path.read_text()[:200])
    write(tmp_path, "val", val)
    write_pictures(tmp_path)
    report = check_coco(tmp_path)
    assert has(report.problems, r"train2017\.json: cut short", r"val2017\.json: 1 annotation without a usable \"bbox\"")
    assert report.counts == {"val": 3}
    assert report.smallest is None
    assert report.classes == ["cat", "dog"]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    plain = check(tmp_path)
    for split in ("train", "val"):
        path = tmp_path / f"annotations/instances_{split}2017.json"
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    marked = check_coco(tmp_path)
    assert (marked.problems, marked.notes, marked.counts) == (plain.problems, plain.notes, plain.counts)


def test_empty_folder_lacks_everything(tmp_path: Path) -> None:
    report = check_coco(tmp_path)
    assert has(report.problems, rf"^{tmp_path}: no data set in COCO's format found\. Expected train2017, ")
    assert report.counts == {}
    assert has(check_coco(tmp_path / "gone").problems, rf"^{tmp_path}/gone: no such folder\.$")


def test_a_split_that_is_not_there_lacks_both_parts(tmp_path: Path) -> None:
    check(tmp_path)
    shutil.rmtree(tmp_path / "val2017")
    (tmp_path / "annotations/instances_val2017.json").unlink()
    report = check_coco(tmp_path)
    assert has(
        report.problems,
        r"instances_val2017\.json: the file cannot be read: No such file",
        r"val2017: no such folder of images",
    )
    assert report.counts == {"train": 3}


def test_images_with_an_orientation_are_counted_and_turned(tmp_path: Path) -> None:
    check(tmp_path)
    upright, stored = (Image.new("RGB", size) for size in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)))
    save_tagged(upright, tmp_path / "train2017/b.jpg", 6)
    save_tagged(upright, tmp_path / "train2017/c.png", 3)
    save_tagged(upright, tmp_path / "val2017/b.jpg", 1)
    save_tagged(stored, tmp_path / "train2017/deep/a.jpg", 8)  # fits its annotations without being turned
    report = check_coco(tmp_path)
    assert report.problems == []
    assert report.notes[-1] == (
        "3 train images with an EXIF orientation, turned by it as detectron2 and mmcv do; not so 1 of them, which only "
        "unturned have the size of their annotations."
    )
    assert not any("val image" in note and "EXIF" in note for note in report.notes)
    save_tagged(Image.new("RGB", (5, 9)), tmp_path / "val2017/c.png", 6)
    assert has(check_coco(tmp_path).problems, r"val2017/c\.png: 5 × 9 pixels, but 80 × 60 in the")


def test_missing_unreadable_and_differently_sized_images(tmp_path: Path) -> None:
    check(tmp_path)
    (tmp_path / "train2017/c.png").unlink()
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), dtype=np.uint8)).save(tmp_path / "val2017/b.jpg")
    (tmp_path / "val2017/deep/a.jpg").write_bytes((tmp_path / "val2017/deep/a.jpg").read_bytes()[:-200])
    report = check_coco(tmp_path)
    assert has(
        report.problems,
        r"train2017\.json: 1 image of 3 not found in .*train2017: c\.png",
        r"val2017/b\.jpg: 60 × 80 pixels, but 80 × 60 in the annotations",
        r"val2017/deep/a\.jpg: unreadable image: .*Replace the file",
    )


def test_hotcoco_adds_what_is_dubious_and_repeats_nothing(tmp_path: Path) -> None:
    val = content()
    val["annotations"] += [
        annotation(20, 2, bbox=[70, 10, 30, 20]),
        annotation(21, 2, bbox=[90, 10, 30, 20]),
        annotation(22, 9, bbox=[1, 10, 70, 2], area=0),
        annotation(23, 9, bbox=[1, 30, 0, 2], area=0),
        annotation(0, 7),
    ]
    report = check(tmp_path, val=val)
    assert report.problems == []
    notes = [note for note in report.notes if "train" not in note and "fewer than 10" not in note]
    assert has(
        notes,
        r"1 val annotation with a box without width or height: kept in the ground truth.*\(ids 23\)",
        r"1 val annotation with a box wholly outside its image: kept in the ground truth.*\(ids 21\)",
        r"1 val annotation with an \"area\" of 0 \(ids 22\)",
        r"1 val annotation with a box that reaches beyond its image \(ids 20\)",
        r"1 val annotation with a box over 20 times as long as wide \(ids 22\)",
        r"2 val annotations with an almost identical twin of the same category \(ids 0, 11\)",
        r"the val annotation of id 0: pycocotools takes it for never found",
    )


def test_images_in_both_splits_are_noted(tmp_path: Path) -> None:
    check(tmp_path)
    report = check_coco(tmp_path, CocoDataSettings(val_images="train2017"))
    assert report.notes[-1].startswith("3 images in both splits: b.jpg, c.png, deep/a.jpg.")
    assert not any("both splits" in note for note in check_coco(tmp_path).notes)


def test_a_file_that_only_hotcoco_cannot_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise ValueError("invalid type")

    monkeypatch.setattr("hotcoco.COCO", refuse)
    problems = check(tmp_path).problems
    assert has(problems, r"train2017\.json: hotcoco, .* cannot read it: invalid type\.", r"val2017\.json: hotcoco")
