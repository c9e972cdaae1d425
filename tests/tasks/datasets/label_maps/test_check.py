"""`check_ade20k` reports every mistake of both splits at once, and what the pixels are."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from tasks.datasets.label_maps.check import check_ade20k
from tasks.datasets.label_maps.layout import SegmentationDataSettings
from tests.support.ade20k_examples import CLASSES, HEIGHT, NAMES, WIDTH, annotation, cut, write_labels, write_set
from tests.support.commands import overrides
from tests.support.image_examples import save_tagged
from tests.support.in_process import call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set")


def has(texts: list[str], *patterns: str) -> bool:
    """Whether each pattern is found in one text, in this order, and there is no other text."""
    assert len(texts) == len(patterns), texts
    return all(re.search(pattern, text) for pattern, text in zip(patterns, texts, strict=True))


def check(root: Path, **changes: object) -> Result:
    return call("data", "check", "ade20k", "--data", root, *overrides(**changes))


def test_a_sound_set_has_no_problems(root: Path) -> None:
    # Each image: 8 pixels of 0 to 3 each, and 16 of its own class.
    report = check_ade20k(root)
    assert report.problems == []
    assert report.counts == {"train": 3, "val": 3}
    assert report.classes == CLASSES
    assert (report.smallest, report.largest) == (("wall", 40), ("screen door", 40))
    assert report.notes == [
        "16.7% of the train pixels are unlabelled.",
        "16.7% of the val pixels are unlabelled.",
    ]


def test_classes_that_are_absent_and_extreme_ones_are_told(root: Path) -> None:
    for split, label in (("training", 2), ("validation", 3)):
        for name in NAMES:
            write_labels(annotation(root, split, name), np.full((HEIGHT, WIDTH), label, dtype=np.uint8))
    write_labels(annotation(root, "training", "a.jpg"), np.array([[1] * 8] * 2 + [[255] * 8] * 4, dtype=np.uint8))
    report = check_ade20k(root)
    assert report.problems == []
    assert (report.smallest, report.largest) == (("screen door", 0), ("door", 96))
    assert has(
        report.notes,
        r"^22\.2% of the train pixels are unlabelled\.$",
        r"^no train pixel of 1 of 3 classes, which cannot be learned: screen door\.$",
        r"^0\.0% of the val pixels",
        r"^no val pixel of 2 of 3 classes, which enter mIoU with 0 where they are predicted.*: wall, door\.$",
    )


def test_palettes_are_noted(root: Path) -> None:
    for name in NAMES[:2]:
        path = annotation(root, "validation", name)
        image = Image.open(path)
        image.putpalette(bytes(range(255, -1, -1)) * 3)
        image.save(path)
    report = check_ade20k(root)
    assert report.problems == []
    assert report.notes[-1] == "2 val annotations with a palette: its indices are the labels."


def test_images_with_an_orientation_are_counted_and_turned(root: Path) -> None:
    upright, stored = (Image.new("RGB", size) for size in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)))
    save_tagged(upright, root / "images/training/a.jpg", 6)
    save_tagged(upright, root / "images/training/deep/b.jpg", 3)
    save_tagged(stored, root / "images/validation/c.d.png", 5)
    report = check_ade20k(root)
    assert report.problems == []
    assert [note for note in report.notes if "EXIF" in note] == [
        "2 train images with an EXIF orientation, turned by it as detectron2 and mmcv do.",
        "1 val image with an EXIF orientation, turned by it as detectron2 and mmcv do; not so all, which only unturned "
        "have the size of their annotations.",
    ]
    save_tagged(Image.new("RGB", (7, 9)), root / "images/training/a.jpg", 6)
    assert has(check_ade20k(root).problems, r"training/a\.png: 8 × 6 pixels, but its image .* has 7 × 9\.")


def test_all_mistakes_of_both_splits_are_reported(root: Path) -> None:
    annotation(root, "training", "a.jpg").rename(annotation(root, "training", "x.jpg"))
    (root / "images/training/c.d.png").write_bytes(b"no picture")
    out_of_range = np.full((HEIGHT, WIDTH), 200, dtype=np.uint8)
    write_labels(annotation(root, "training", "deep/b.jpg"), out_of_range)
    colour = annotation(root, "validation", "a.jpg")
    Image.open(colour).convert("RGB").save(colour)
    cut(annotation(root, "validation", "c.d.png"))
    write_labels(annotation(root, "validation", "deep/b.jpg"), np.ones((WIDTH, HEIGHT), dtype=np.uint8))
    (root / "objectInfo150.txt").unlink()
    report = check_ade20k(root, SegmentationDataSettings(classes="names.txt"))
    assert has(
        report.problems,
        r"names\.txt: no such class list",
        r"images/training: 1 image of 3 without an annotation: a\.jpg",
        r"annotations/training: 1 annotation of 3 without an image: x\.png",
        r"images/training/c\.d\.png: unreadable image: text, not an image",
        r"annotations/validation/a\.png: a colour picture \(RGB\)",
        r"annotations/validation/c\.d\.png: unreadable image: image file is truncated",
        r"annotations/validation/deep/b\.png: 6 × 8 pixels, but its image .* has 8 × 6\.",
    )
    assert report.counts == {"train": 2, "val": 3}
    (root / "names.txt").write_text("\n".join(CLASSES))
    problems = check_ade20k(root, SegmentationDataSettings(classes="names.txt")).problems
    assert has(problems[3:4], r"annotations/training/deep/b\.png: label 200 out of range: expected, for 3 classes")
    assert len(problems) == 7


def test_a_class_list_that_is_too_short_is_a_problem(root: Path) -> None:
    (root / "names.txt").write_text("wall\ndoor\n")
    report = check_ade20k(root, SegmentationDataSettings(classes="names.txt"))
    assert has(report.problems, *[r": label 3 out of range: expected, for 2 classes, 1 to 2"] * 6)


def test_an_empty_split_does_not_hide_the_other(root: Path) -> None:
    shutil.rmtree(root / "images/training")
    write_labels(annotation(root, "validation", "a.jpg"), np.full((HEIGHT, WIDTH), 4, dtype=np.uint8))
    report = check_ade20k(root)
    assert has(report.problems, r"images/training: no such folder", r"validation/a\.png: label 4 out of range")
    assert report.counts == {"val": 3}
    assert report.smallest is None


def test_training_without_a_labelled_pixel_is_a_problem(root: Path) -> None:
    for name in NAMES:
        write_labels(annotation(root, "training", name), np.full((HEIGHT, WIDTH), 255, dtype=np.uint8))
    report = check_ade20k(root)
    assert has(report.problems, r"no pixel of the 3 training annotations has a class")
    assert report.smallest is None


def test_evaluation_without_a_labelled_pixel_is_a_problem(root: Path) -> None:
    for name in NAMES:
        write_labels(annotation(root, "validation", name), np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    assert has(
        check_ade20k(root).problems,
        r"no pixel of the 3 evaluation annotations has a class .*--set data\.val_annotations=FOLDER",
    )


def test_a_folder_without_a_set_is_a_problem(root: Path) -> None:
    assert has(
        check_ade20k(root.parent).problems, rf"no segmentation data set found.*{root} has them: pass that folder"
    )
    assert has(check_ade20k(root / "gone").problems, rf"^{root}/gone: no such folder\.$")


def test_progress_counts_all_images(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    check_ade20k(root, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 6) for done in range(1, 7)]


class TestCommand:
    def test_a_sound_set(self, root: Path) -> None:
        result = check(root)
        assert result.exit_code == 0, result.output
        lines = [line.strip() for line in result.output.splitlines()]
        assert f"{root}: images with a label map each, 3 classes" in lines
        assert {"train: 3 images", "val: 3 images"} <= set(lines)
        assert "smallest class wall (40 pixels), largest screen door (40 pixels)" in lines
        assert lines[-1] == "no problem: every image can be read"

    def test_a_problem(self, root: Path) -> None:
        annotation(root, "validation", "a.jpg").unlink()
        result = check(root)
        assert result.exit_code == 1
        lines = [line.strip() for line in result.output.splitlines()]
        assert lines[-2].startswith(f"{root}/images/validation: 1 image of 3 without an annotation: a.jpg.")
        assert lines[-1] == "1 problem(s)"

    def test_settings(self, root: Path) -> None:
        (root / "names.txt").write_text("none\nwall\ndoor\nscreen door\n")
        result = check(root, data__classes="names.txt", data__reduce_zero_label="false")
        assert result.exit_code == 0, result.output
        assert "4 classes" in result.output and "0.0% of the train pixels" in result.output
        wrong = check(root, data__clases="names.txt")
        assert wrong.exit_code == 2
        assert 'key "data.clases": no such setting. Did you mean "classes"?' in wrong.output

    def test_is_listed(self) -> None:
        result = call("list", "datasets")
        assert re.search(r"^ade20k\timages/ and annotations/", result.output, re.MULTILINE)
