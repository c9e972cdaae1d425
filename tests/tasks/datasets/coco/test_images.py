"""Annotations come out of the cache, and into training, as they stand in the file."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import torch
from detectron2.data import DatasetFromList
from PIL import Image

from tasks.datasets.coco import layout
from tasks.datasets.coco.images import CocoImage, CocoImages
from tasks.datasets.coco.layout import CocoDataSettings, CocoSet, open_coco
from tasks.detection.recipe import LargeScaleJitter
from tasks.detection.samples import TrainingSamples, _translated
from tests.support.coco_examples import SQUARE, annotation, content, write
from tests.support.folders import age

RUNS = {"size": [60, 80], "counts": [810, 20, 3970]}
PACKED = pycocotools.mask.frPyObjects(RUNS, 60, 80)["counts"].decode()

KINDS: list[dict[str, Any]] = [
    {"segmentation": [[10, 10.25, 30, 10, 30, 1 / 3]], "bbox": [10, 10, 20, 0.1 + 0.2]},
    {"segmentation": [*SQUARE, *SQUARE]},
    {"segmentation": RUNS, "iscrowd": 1},
    {"segmentation": RUNS},
    {"segmentation": {"size": [60, 80], "counts": PACKED}, "iscrowd": True},
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split in ("train", "val"):
        data = content()
        data["annotations"] += [annotation(20 + at, 2, **copy.deepcopy(kind)) for at, kind in enumerate(KINDS)]
        data["images"][0]["file_name"] = "b.jpg"
        write(tmp_path / "data", split, data)
    return age(tmp_path / "data")


def described(coco: CocoSet) -> str:
    """Everything, with whole numbers and others told apart."""
    return repr([*coco.images]) + repr(replace(coco, images=[]))  # type: ignore[arg-type]


def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "read_coco_json", lambda path: pytest.fail(f"parsed {path}"))


def test_the_cache_gives_what_the_file_gave(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = CocoDataSettings()
    parsed = [
        CocoSet.open(root / images, root / file, split)
        for images, file, split in (
            (settings.train_images, settings.train_json, "train"),
            (settings.val_images, settings.val_json, "val"),
        )
    ]
    assert [described(each) for each in open_coco(root, settings)] == [described(each) for each in parsed]
    forbid_parsing(monkeypatch)
    again = open_coco(root, settings)
    assert [described(each) for each in again] == [described(each) for each in parsed]
    assert again[0].fingerprint == parsed[0].fingerprint
    for name, array in parsed[0].images.arrays.items():
        np.testing.assert_array_equal(again[0].images.arrays[name], array)


def test_annotations_that_change_are_read(root: Path) -> None:
    before = open_coco(root, CocoDataSettings())
    write(root, "train", content())
    train, val = open_coco(root, CocoDataSettings())
    assert train.images != before[0].images and val.images == before[1].images
    (root / "train2017" / "b.jpg").unlink()
    with pytest.raises(Exception, match="1 image of 3 not found"):
        open_coco(root, CocoDataSettings())


def plain_records(images: list[CocoImage], labels: dict[int, int]) -> Any:
    """A list of all, as it was before the annotations were packed; detectron2's copies each when it is asked for."""
    records = []
    for image in images:
        objects = [_translated(each, labels) for each in image.annotations if not each["iscrowd"]]
        if objects:
            records.append((replace(image, annotations=()), objects))
    return DatasetFromList(records, copy=False)


@pytest.mark.parametrize("place", ["mini", "own"])
def test_samples_are_those_of_a_plain_list(place: str, root: Path, mini: Path) -> None:
    if place == "own":
        for path in (root / "train2017").rglob("*.*"):
            Image.new("RGB", (80, 60), (90, 120, 60)).save(path)
    coco, _ = open_coco(mini / "coco" if place == "mini" else root, CocoDataSettings())
    augment = LargeScaleJitter(scale=(0.3, 2.0), flip=0.5)
    packed, plain = (TrainingSamples(coco, 64, augment, 5) for _ in range(2))
    plain.records = plain_records([*coco.images], packed.records.labels)
    assert len(packed) == len(plain) > 0
    for draw in ((index, epoch) for index in range(len(plain)) for epoch in range(2)):
        assert packed.records[draw[0]][0] == plain.records[draw[0]][0]
        ours, theirs = (each[draw]["inputs"] for each in (packed, plain))
        assert torch.equal(ours["image"], theirs["image"]) and ours["image_id"] == theirs["image_id"]
        assert torch.equal(ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor)
        assert repr(ours["instances"].get_fields()) == repr(theirs["instances"].get_fields())
        assert _masks(ours) == _masks(theirs)


def _masks(inputs: dict[str, Any]) -> list[Any]:
    found = inputs["instances"].gt_masks
    return found.tensor.tolist() if hasattr(found, "tensor") else [[p.tolist() for p in each] for each in found]


def test_images_behave_as_a_list(tmp_path: Path) -> None:
    entries = [({"id": at, "file_name": f"{at}.jpg", "height": 2 + at, "width": 1}, ()) for at in range(3)]
    images = CocoImages.of(tmp_path, entries)
    expected = [CocoImage(at, f"{at}.jpg", tmp_path / f"{at}.jpg", 2 + at, 1, ()) for at in range(3)]
    assert [*images] == expected and images == expected and images[-1] == expected[-1]
    assert images[1:] == expected[1:] and len(images) == 3 and images != expected[:2]
    assert images.sizes.tolist() == [[2, 1], [3, 1], [4, 1]] and images.objects.tolist() == [0, 0, 0]
    outside: Callable[[], object] = lambda: images[3]  # noqa: E731
    with pytest.raises(IndexError):
        outside()
    assert len(CocoImages.of(tmp_path, [])) == 0
