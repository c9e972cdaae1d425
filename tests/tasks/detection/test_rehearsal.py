"""The detector on a GPU that is only claimed, with masks of pixels and from fixed proposals on."""

from typing import Any

import pytest
import timm
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from backbones.adapters import build_pyramid, parameter_groups
from backbones.training.precision import wrap_optimizer
from tasks.detection.detector import DetectionStep, build_detector
from tasks.detection.recipe import DetectorSettings
from tests.support.rehearsal import rehearsal

CLASSES, SIDE = 3, 96
SMALL: dict[str, Any] = {"image_size": SIDE, "window": 3, "channels": 16, "box_features": 32, "regions": 16}


def step(network: nn.Module, adapter: str = "fpn") -> DetectionStep:
    settings = DetectorSettings(arch="test", adapter=adapter, proposals=20, **SMALL)
    pyramid = build_pyramid(network, adapter, image_size=SIDE, window=3, channels=settings.channels)
    return DetectionStep(build_detector(pyramid, settings, CLASSES))


def resnet() -> nn.Module:
    return timm.create_model("resnet18", num_classes=0, layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))


def vit() -> nn.Module:
    sizes = {"embed_dim": 32, "depth": 4, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE, **sizes)


def boxes() -> Boxes:
    return Boxes(torch.tensor([[2.0, 3.0, 40.0, 50.0], [10.0, 60.0, 70.0, 79.0]]))


def batch() -> dict[str, Any]:
    """Two images as they come from a loader, with two objects each."""
    masks = BitMasks(torch.ones(2, SIDE, 80, dtype=torch.bool))
    objects = Instances((SIDE, 80), gt_boxes=boxes(), gt_classes=torch.tensor([0, 2]), gt_masks=masks)
    image = {"image": torch.zeros(3, SIDE, 80, dtype=torch.uint8), "height": 200, "width": 160}
    return {"inputs": [image | {"instances": objects} for _ in range(2)], "corrupt": {}}


def update(model: DetectionStep) -> dict[str, Tensor]:
    """One, of a batch that comes from the CPU; its losses."""
    groups = parameter_groups(
        model, model.network, weight_decay=0.05, layer_decay=0.7, no_weight_decay="norms_and_positions"
    )
    wrapper = wrap_optimizer(torch.optim.AdamW(groups, fused=True), "bf16", accumulation=1, clip_grad_norm=1.0)
    return dict(model.to("cuda").train().train_step(batch(), wrapper))


@pytest.mark.parametrize(("network", "adapter"), [(resnet, "fpn"), (vit, "simple")])
def test_an_update(network: Any, adapter: str) -> None:
    with rehearsal() as gpu:
        model = step(network(), adapter)
        losses = update(model)
    norms = {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert (nn.SyncBatchNorm in norms) == (adapter == "fpn")
    assert len(losses) == 6
    assert {(each.device.type, each.dtype) for each in losses.values()} == {("cuda", torch.float32)}
    assert gpu.trained == {torch.bfloat16}


def test_heads_on_fixed_proposals() -> None:
    """Regions are pooled in single precision: see `Pooler`."""
    pooled: list[torch.dtype] = []
    with rehearsal(), torch.autocast("cuda", torch.bfloat16), EventStorage():
        detector = step(resnet()).to("cuda").train().detector
        heads = detector.roi_heads
        for pooler in (heads.box_pooler, heads.mask_pooler):
            pooler.register_forward_hook(lambda module, given, regions: pooled.append(regions.dtype))
        inputs = batch()["inputs"]
        images = detector.preprocess_image(inputs)
        objects = [each["instances"].to("cuda") for each in inputs]
        proposals = [
            Instances((SIDE, 80), proposal_boxes=boxes().to("cuda"), objectness_logits=torch.zeros(2, device="cuda"))
            for _ in inputs
        ]
        _, losses = heads(images, detector.backbone(images.tensor), proposals, objects)
    assert losses.keys() == {"loss_cls", "loss_box_reg", "loss_mask"}
    assert {(each.device.type, each.dtype) for each in losses.values()} == {("cuda", torch.float32)}
    assert pooled == [torch.float32] * 2


@torch.no_grad()
def test_detections_and_their_masks() -> None:
    """At the images' own sizes, on the device until the metric takes them."""
    with rehearsal() as gpu:
        found = step(vit(), "simple").to("cuda").eval().val_step(batch())
    for output in found:
        instances = output["instances"]
        assert instances.image_size == (200, 160)
        assert instances.pred_masks.shape[1:] == (200, 160)
        assert {field.device.type for field in (instances.pred_boxes, instances.scores, instances.pred_masks)} == {
            "cuda"
        }
    assert gpu.evaluated == {torch.float32}


def test_objects_that_are_left_on_the_cpu_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault."""
    monkeypatch.setattr(Instances, "to", lambda self, *arguments, **options: self)
    with rehearsal(), pytest.raises(RuntimeError, match=r"tensor\(s\) on the CPU"):
        update(step(resnet()))
