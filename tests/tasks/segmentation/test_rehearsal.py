"""The segmentor on a GPU that is only claimed: its losses, whole images, windows, several views."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from backbones import create_backbone
from backbones.adapters import parameter_groups
from backbones.training.precision import wrap_optimizer
from tasks.segmentation.recipe import Inference, SegmentorSettings
from tests.support.mmseg_examples import small_segmentor
from tests.support.rehearsal import ENLARGING, rehearsal

CLASSES, SIDE = 7, 64


def mini() -> nn.Module:
    return create_backbone("random_vit_mini")


def resnet() -> nn.Module:
    return timm.create_model("resnet18", num_classes=0, layers=(1, 1, 1, 1), channels=(8, 16, 24, 32))


def settings(adapter: str) -> SegmentorSettings:
    return SegmentorSettings(arch="test", adapter=adapter, image_size=SIDE, channels=16, auxiliary_channels=8)


WHOLE = Inference(resize=(256, SIDE), mode="whole")


def training_batch() -> dict[str, Any]:
    """Two crops as they come from a loader, one of them padded."""
    return {
        "images": torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8),
        "labels": torch.full((2, SIDE, SIDE), 255, dtype=torch.uint8),
        "heights": torch.tensor([SIDE, SIDE - 20]),
        "widths": torch.tensor([SIDE, SIDE]),
        "corrupt": {},
    }


@pytest.mark.parametrize(("backbone", "adapter"), [(mini, "beit"), (mini, "fpn"), (resnet, "fpn")])
def test_an_update(backbone: Any, adapter: str) -> None:
    with rehearsal() as gpu, gpu.leaving_out(ENLARGING):
        model = small_segmentor(settings(adapter), WHOLE, CLASSES, backbone()).train()
        norms = {type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        groups = parameter_groups(
            model, model.pyramid, weight_decay=0.05, layer_decay=0.7, no_weight_decay="one_dimensional"
        )
        wrapper = wrap_optimizer(torch.optim.AdamW(groups, fused=True), "bf16", accumulation=1, clip_grad_norm=1.0)
        losses = model.to("cuda").train_step(training_batch(), wrapper)
    assert nn.SyncBatchNorm in norms
    assert losses.keys() == {"loss", "decode.loss_ce", "decode.acc_seg", "aux.loss_ce", "aux.acc_seg"}
    assert {(each.device.type, each.dtype) for each in losses.values()} == {("cuda", torch.float32)}
    assert gpu.trained == {torch.bfloat16}


@pytest.mark.parametrize(
    "options", [{"mode": "whole", "scales": (1.0, 0.5), "flip": True}, {"mode": "slide", "stride": 43}]
)
def test_predictions(options: dict[str, Any]) -> None:
    """Of an image that is longer than a window, at the size of its labels."""
    inference = Inference(resize=(256, SIDE), **options)
    sizes = [(int(SIDE * scale), int(130 * scale)) for scale in inference.scales]
    batch = {
        "views": [torch.zeros(1, 3, *size, dtype=torch.uint8) for size in sizes],
        "labels": torch.zeros(1, 100, 203, dtype=torch.uint8),
    }
    model = small_segmentor(settings("beit"), inference, CLASSES)
    with rehearsal() as gpu, torch.no_grad():
        (found,) = model.to("cuda").eval().val_step(batch)
    predictions = found["predictions"]
    assert (predictions.device.type, predictions.shape, predictions.dtype) == ("cuda", (1, 100, 203), torch.int64)
    assert gpu.evaluated == {torch.float32}
