"""No pyramid waits for the GPU, whatever trunk and positions it has."""

from typing import Any

import pytest
import torch

from backbones import create_backbone
from backbones.adapters import build_pyramid
from tests.support.waiting import move_to_gpu, no_waiting

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("vit_mini_patch8_48", "fpn", {"window": 2, "relative_position": True}),
    ("vit_mini_patch8_48", "fpn", {"window": 2, "relative_position": True, "activation_checkpointing": True}),
    ("vit_mini_patch8_48", "simple", {"window": 2, "relative_position": True}),
    ("vit_mini_patch8_48", "simple", {"window": None}),
    ("vit_mini_patch8_48", "beit", {"window": None, "relative_position": True}),
    ("swin_tiny_patch4_window7_224", "fpn", {"window": None}),
    ("resnet10t", "fpn", {"window": None}),
]


@pytest.mark.parametrize(("name", "adapter", "settings"), CASES, ids=lambda each: str(each))
def test_a_pyramid_does_not_wait(name: str, adapter: str, settings: dict[str, Any]) -> None:
    backbone = create_backbone(name, drop_path=0.1, for_pyramid=True)
    pyramid = build_pyramid(backbone, adapter, image_size=64, **settings).train()
    with no_waiting() as mode:
        move_to_gpu(mode, pyramid)
        maps = pyramid(torch.zeros(2, 3, 64, 64, device="cuda"))
        assert [each.device.type for each in maps] == ["cuda"] * 4
