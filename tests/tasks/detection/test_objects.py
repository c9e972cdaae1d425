"""A batch of detection on its way: pinned by PyTorch's loader, and to the GPU without waiting for it."""

import pickle
from typing import Any

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data._utils.pin_memory import pin_memory

from backbones import create_backbone
from backbones.adapters import build_pyramid
from tasks.detection.detector import DetectionStep, build_detector
from tasks.detection.objects import DetectionPreprocessor, Objects
from tasks.detection.recipe import DetectorSettings
from tests.support.waiting import Readers, no_waiting

POLYGONS = [[[0.0, 0.0, 2.0, 0.0, 2.0, 2.0]], [[1.0, 1.0, 3.0, 1.0, 3.0, 3.0]]]


def objects(masks: Any) -> Objects:
    boxes = Boxes(torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]]))
    return Objects.of(Instances((8, 8), gt_boxes=boxes, gt_classes=torch.tensor([1, 0]), gt_masks=masks))


def tensors(found: Instances) -> list[Tensor]:
    fields = [getattr(value, "tensor", value) for value in found.get_fields().values()]
    return [leaf for leaf in tree_leaves(fields) if isinstance(leaf, Tensor)]


def bitmaps() -> BitMasks:
    return BitMasks(torch.rand(2, 8, 8) > 0.5)


@pytest.mark.parametrize(("masks", "count"), [(bitmaps(), 3), (PolygonMasks(POLYGONS), 2)], ids=["bitmaps", "polygons"])
def test_a_loader_pins_every_tensor(masks: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    given = objects(masks)
    batch = {"inputs": [{"image": torch.zeros(3, 8, 8), "instances": given, "image_id": 7}], "corrupt": {"a": "b"}}
    found = pin_memory(batch)["inputs"][0]
    assert len(pinned) == 1 + count and found["image_id"] == 7
    assert isinstance(found["instances"], Objects) and found["instances"].image_size == (8, 8)
    assert all(torch.equal(one, other) for one, other in zip(tensors(found["instances"]), tensors(given), strict=True))
    assert type(found["instances"].gt_masks) is type(masks)


def test_a_batch_goes_to_the_gpu_without_waiting() -> None:
    with no_waiting():
        batch = {"inputs": [{"image": torch.zeros(3, 8, 8), "instances": objects(bitmaps())}], "corrupt": {}}
        preprocessor = DetectionPreprocessor()
        preprocessor._device = torch.device("cuda")
        moved = preprocessor(batch, True)["inputs"][0]
        found = [moved["image"], *tensors(moved["instances"])]
    assert [tensor.device.type for tensor in found] == ["cuda"] * 4


def test_objects_survive_the_way_between_processes_and_are_picked_like_detectrons() -> None:
    found = pickle.loads(pickle.dumps(objects(bitmaps())))
    assert isinstance(found, Objects)
    assert found[found.gt_classes == 1].gt_boxes.tensor.tolist() == [[0.0, 0.0, 2.0, 2.0]]


def test_only_detectron_reads_in_a_step() -> None:
    """It picks out and counts anchors, proposals and regions; nothing of ours does."""
    settings = DetectorSettings(
        arch="test", adapter="fpn", image_size=64, window=2, channels=16, box_features=32, regions=16, proposals=20
    )
    pyramid = build_pyramid(create_backbone("vit_mini_patch8_48", for_pyramid=True), "fpn", image_size=64, window=2)
    step = DetectionStep(build_detector(pyramid, settings, 2)).train()
    inputs = [{"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "instances": objects(bitmaps())}] * 2
    batch = step.data_preprocessor({"inputs": inputs, "corrupt": {}}, True)
    with Readers() as readers:
        step(**batch, mode="loss")
    assert readers.files and all("/detectron2/" in file for file in readers.files)
