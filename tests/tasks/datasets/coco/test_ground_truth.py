"""Files of other programs' exports: what hotcoco refuses about them has no part in the scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.datasets.coco.check import check_coco
from tasks.detection.scoring import score
from tests.support.coco_examples import content, write
from tests.support.scoring_examples import (
    IOU_TYPES,
    STATISTICS,
    draw_detections,
    draw_truth,
    image_ids,
    pycocotools_evaluation,
    write_truth,
)
from tests.tasks.datasets.coco.test_check import write_pictures


def of_each(section: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: [entry.update(values) for entry in data[section]] and None


def as_floats(data: dict[str, Any]) -> None:
    for section in ("images", "annotations", "categories"):
        for entry in data[section]:
            for key in ("id", "image_id", "category_id", "height"):
                entry.update({key: float(entry[key])} if key in entry else {})


def without_flags(data: dict[str, Any]) -> None:
    for entry in data["annotations"]:
        if not entry["iscrowd"]:
            entry["iscrowd"] = None


EXPORTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "CVAT": lambda data: data.update(
        info={"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        licenses=[{"name": "", "id": 0, "url": ""}],
        images=[
            entry | {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0} for entry in data["images"]
        ],
    ),
    "Roboflow": lambda data: data.update(
        info={"year": "2022", "version": "1", "description": "Exported"}, licenses=[{"id": 1, "url": "", "name": "CC"}]
    ),
    "no licenses": lambda data: data.update(licenses=None),
    "a license in words": of_each("images", license="MIT"),
    "a license below 0": of_each("images", license=-1),
    "addresses of numbers": of_each("images", coco_url=0, flickr_url=False),
    "supercategories": of_each("categories", supercategory=["a"], skeleton=""),
    "whole numbers as floats": as_floats,
    "null for no crowd": without_flags,
    "other keys of annotations": of_each("annotations", keypoints=["a"], num_keypoints="3", score="high"),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_what_is_not_scored_may_be_anything(tmp_path: Path, case: str) -> None:
    """Such runs trained to their ends, and then ended in a traceback."""
    truth = draw_truth(1)
    detections = draw_detections(truth, 1)
    EXPORTS[case](truth)
    scores = score(write_truth(tmp_path / "truth.json", truth), detections, image_ids(draw_truth(1)))
    for kind in IOU_TYPES:
        plain = pycocotools_evaluation(draw_truth(1), detections, kind)
        assert [scores.metrics[f"{name}_{kind}"] for name in STATISTICS] == (100 * plain.stats).tolist()


@pytest.mark.parametrize("case", EXPORTS)
def test_exports_are_sound(tmp_path: Path, case: str) -> None:
    data = content()
    EXPORTS[case](data)
    for split in ("train", "val"):
        write(tmp_path, split, data)
    write_pictures(tmp_path)
    assert check_coco(tmp_path).problems == []
    assert json.loads((tmp_path / "annotations/instances_val2017.json").read_text()) == data
