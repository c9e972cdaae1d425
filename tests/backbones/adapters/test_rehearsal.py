"""Feature pyramids of all kinds on a GPU that is only claimed: see `tests.support.rehearsal`."""

from typing import Any

import pytest
import timm
import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.adapters import Adapter, Pyramid, build_pyramid, parameter_groups, relative_position
from tests.support.rehearsal import TWO_DEVICES, rehearsal

SMALL = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 0}


def vit(**options: Any) -> nn.Module:
    return VisionTransformer(**SMALL | options)


def beit(**options: Any) -> nn.Module:
    return Beit(**SMALL | {"use_abs_pos_emb": False, "init_values": 0.1} | options)


def train(pyramid: Pyramid, images: Tensor) -> list[Tensor]:
    """One update under bfloat16 autocast, in which every weight takes part; the maps."""
    groups = parameter_groups(
        pyramid, pyramid, weight_decay=0.1, layer_decay=0.7, no_weight_decay="norms_and_positions"
    )
    optimizer = torch.optim.AdamW(groups, fused=True)
    with torch.autocast("cuda", torch.bfloat16):
        maps = pyramid.train()(images)
        sum(level.float().square().mean() for level in maps).backward()
    assert [name for name, weight in pyramid.named_parameters() if weight.requires_grad and weight.grad is None] == []
    optimizer.step()
    return maps


def rehearse(backbone: nn.Module, adapter: Adapter = "fpn", size: int = 64, images: int = 2, **options: Any) -> None:
    """Train and look at images that are somewhat smaller than those which the pyramid is made for."""
    with rehearsal() as gpu:
        pyramid = build_pyramid(backbone, adapter, image_size=size, **{"window": None} | options).to("cuda")
        shape = (images, 3, size - 1, size - 20)
        maps = train(pyramid, torch.randn(shape, device="cuda"))
        with torch.no_grad():
            maps += pyramid.eval()(torch.randn(shape, device="cuda"))
    assert {level.device.type for level in maps} == {"cuda"}
    assert (gpu.trained, gpu.evaluated) == ({torch.bfloat16}, {torch.float32})


@pytest.mark.parametrize(
    ("adapter", "options"),
    [
        ("fpn", {"window": 2, "relative_position": False}),
        ("fpn", {"window": 2, "activation_checkpointing": True}),
        ("fpn", {"shared_positions": False, "position_embeddings": "sincos", "layer_scale": 1.0}),
        ("simple", {"window": 3, "relative_position": False}),
        ("simple", {"window": 3, "activation_checkpointing": True}),
        ("beit", {"relative_position": False}),
        ("beit", {"layer_scale": 1.0, "activation_checkpointing": True, "norm": nn.SyncBatchNorm}),
    ],
)
def test_plain_vits(adapter: Adapter, options: dict[str, Any]) -> None:
    """Windows reach over the edge, and positions are interpolated."""
    rehearse(vit(), adapter, **options)


@pytest.mark.parametrize(("adapter", "shared"), [("fpn", False), ("simple", True), ("beit", False)])
def test_beit_with_relative_positions_of_its_own(adapter: Adapter, shared: bool) -> None:
    own = {"use_shared_rel_pos_bias" if shared else "use_rel_pos_bias": True}
    rehearse(beit(**own), adapter, window=None if adapter == "beit" else 2)


def test_patches_of_14_pixels() -> None:
    rehearse(vit(patch_size=14, img_size=56))


def test_maps_that_go_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many scores as a global block of ViT-L has on 8 images of 1024 pixels, on smaller images and more of them."""
    calls = []
    attend_rows = relative_position._attend_rows

    def counted(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return attend_rows(*arguments)

    monkeypatch.setattr(relative_position, "_attend_rows", counted)
    rehearse(vit(num_heads=16), "beit", 256, images=2048)
    assert len(calls) > 2 * SMALL["depth"]


HIERARCHICAL = {
    "convnext_atto": {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)},
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)},
    "swin_tiny_patch4_window7_224": {"embed_dim": 16, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 2, 2)},
}


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_models_that_are_pyramids(name: str) -> None:
    rehearse(timm.create_model(name, num_classes=0, **HIERARCHICAL[name]), size=128)


def test_positions_that_are_counted_on_the_cpu_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: PyTorch would bring the indices to the GPU, in every block, and wait for it."""

    def by_pair(table: Tensor, size: int) -> Tensor:
        position = torch.arange(size)
        return table[position[:, None] - position + size - 1]

    monkeypatch.setattr(relative_position, "_by_pair", by_pair)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        rehearse(vit(), "simple", 84)
