"""What boxes and masks tell of each other: objects without a mask, boxes in other terms than COCO's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.errors import InputError
from tasks.datasets.coco.rules import Split
from tests.support.coco_examples import HEIGHT, WIDTH, annotation, content, ids, read


def without_masks(*numbers: int, null: bool = False) -> dict[str, Any]:
    data = content()
    for number in numbers:
        data["annotations"][number].pop("segmentation")
        if null:
            data["annotations"][number]["segmentation"] = None
    return data


@pytest.mark.parametrize("null", [False, True])
def test_an_object_without_segmentation_is_not_scored_against_its_box(tmp_path: Path, null: bool) -> None:
    data = without_masks(2, null=null)
    train = read(tmp_path, data)
    assert ids(train) == [5, 11]
    assert train.notes == ["1 train annotation with no segmentation: left out of training (ids 12)."]
    with pytest.raises(InputError, match=r"val2017\.json: 1 annotation with no segmentation.*scored: annotation 12\."):
        read(tmp_path, data, "val")
    every = without_masks(0, 1, 2, null=null)
    with pytest.raises(InputError, match=r"3 annotations with no segmentation .*: annotation 11, annotation 5, annot"):
        read(tmp_path, every, "val")


def scattered(change: Callable[[list[float], int, int], list[float]]) -> dict[str, Any]:
    """Twenty objects whose boxes are half a pixel off their masks, before they are changed."""
    generator = np.random.default_rng(0)
    data = content()
    data["annotations"] = []
    for identity in range(1, 21):
        left, top = generator.integers(3, 40, 2).tolist()
        width, height = generator.integers(6, 18, 2).tolist()
        polygon = [left, top, left + width, top, left + width, top + height, left, top + height]
        box = change([left - 0.5, top + 0.25, width + 0.75, height], WIDTH, HEIGHT)
        data["annotations"].append(annotation(identity, 7, bbox=box, segmentation=[polygon], area=width * height))
    data["annotations"].append(annotation(21, 7, bbox=[0, 0, 70, 50], iscrowd=1))
    return data


WRITTEN_OTHERWISE: dict[str, tuple[Callable[[list[float], int, int], list[float]], str]] = {
    "corners": (
        lambda box, width, height: [box[0], box[1], box[0] + box[2], box[1] + box[3]],
        r"boxes seem to be written as \[left, top, right, bottom\].*Write \[left, top, right - left, bottom - top\]",
    ),
    "centres": (
        lambda box, width, height: [box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]],
        r"boxes seem to be written as \[centre x, centre y, width, height\].*Write \[centre x - width / 2",
    ),
    "rows first": (
        lambda box, width, height: [box[1], box[0], box[1] + box[3], box[0] + box[2]],
        r"boxes seem to be written as \[top, left, bottom, right\]",
    ),
    "heights first": (
        lambda box, width, height: [box[1], box[0], box[3], box[2]],
        r"boxes seem to be written as \[top, left, height, width\]",
    ),
    "fractions": (
        lambda box, width, height: [box[0] / width, box[1] / height, box[2] / width, box[3] / height],
        r"all boxes lie within 0 and 1, as fractions of the image.*multiply by the image's width and height",
    ),
}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("case", WRITTEN_OTHERWISE)
def test_boxes_written_in_another_way_are_told_by_their_masks(tmp_path: Path, case: str, split: Split) -> None:
    change, message = WRITTEN_OTHERWISE[case]
    with pytest.raises(InputError, match=rf"instances_{split}2017\.json: (the )?{message}"):
        read(tmp_path, scattered(change), split)


def test_masks_in_fractions_are_refused(tmp_path: Path) -> None:
    data = scattered(lambda box, width, height: box)
    for entry in data["annotations"][:-1]:
        (polygon,) = entry["segmentation"]
        entry["segmentation"] = [[each / (HEIGHT if place % 2 else WIDTH) for place, each in enumerate(polygon)]]
    with pytest.raises(InputError, match="all masks lie within 0 and 1, as fractions of the image"):
        read(tmp_path, data)


def test_boxes_as_coco_has_them_and_a_few_wrong_ones_pass(tmp_path: Path) -> None:
    data = scattered(lambda box, width, height: box)
    assert len(ids(read(tmp_path, data, "val"))) == len(ids(read(tmp_path, data))) == 21
    for entry in data["annotations"][:3]:
        entry["bbox"] = WRITTEN_OTHERWISE["corners"][0](entry["bbox"], WIDTH, HEIGHT)
    for entry in data["annotations"][3:14]:
        entry["bbox"] = [1, 1, 70, 50]
    assert len(ids(read(tmp_path, data))) == 21
