"""What the detection metric makes of images that cannot be read, and which images the pictures show."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.structures import Instances

from backbones.errors import InputError
from backbones.images.upright import Orientation
from tasks.datasets.coco.layout import CocoSet
from tasks.detection import pictures
from tasks.detection.metric import DetectionMetric
from tasks.pictures import PictureHook


@pytest.fixture
def metric(mini: Path) -> DetectionMetric:
    root = mini / "coco"
    val = CocoSet.open(root / "val2017", root / "annotations/instances_val2017.json", "val")
    return DetectionMetric(val, allow_unreadable=True)


def offer(metric: DetectionMetric, faults: dict[int, str]) -> None:
    """Every evaluation image, without detections; some unreadable."""
    for index, image in enumerate(metric.coco.images):
        corrupt = {str(image.path): faults[index]} if index in faults else {}
        inputs = {"image_id": image.id, "readable": not corrupt, "orientation": Orientation(1)}
        nothing = Instances((image.height, image.width), scores=torch.zeros(0))
        metric.process({"inputs": [inputs], "corrupt": corrupt}, [{"instances": nothing}])


def test_an_image_that_could_not_be_read_once_counts_again_later(metric: DetectionMetric) -> None:
    images = metric.coco.images
    offer(metric, {3: "no such file"})
    metric.evaluate(len(images))
    assert metric.unreadable == {str(images[3].path): "no such file"}
    assert metric.evaluated == [image.id for image in images if image != images[3]]
    offer(metric, {})
    metric.evaluate(len(images))
    assert metric.unreadable == {}
    assert metric.evaluated == [image.id for image in images]


def test_an_unreadable_evaluation_image_ends_the_run_unless_allowed(mini: Path, metric: DetectionMetric) -> None:
    metric.allow_unreadable = False
    with pytest.raises(InputError, match=r"\.jpg: unreadable evaluation image: cut\. .*allow_unreadable=true"):
        offer(metric, {0: "cut"})


def test_missing_results_are_noticed(metric: DetectionMetric) -> None:
    with pytest.raises(RuntimeError, match="results of 0 images for 12"):
        metric.evaluate(len(metric.coco.images))


def test_pictures_show_images_from_the_whole_set(
    metric: DetectionMetric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(pictures, "IMAGES", 4)
    monkeypatch.setattr(pictures, "save_detections", lambda path, rows, *_: shown.append((path.name, rows)))
    images = metric.coco.images
    metric.evaluated = [image.id for image in images]
    metric.detections = [{"image_id": images[3].id, "score": 0.5}, {"image_id": images[1].id, "score": 0.9}]

    class Engine:
        iter = 7

    PictureHook(partial(pictures.draw_evaluation, metric.coco, metric, tmp_path)).after_val_epoch(Engine())
    ((name, rows),) = shown
    assert name == "detections_7.png"
    assert [annotations for _, annotations, _ in rows] == [images[index].annotations for index in (0, 3, 6, 9)]
    assert [len(found) for _, _, found in rows] == [0, 1, 0, 0]
