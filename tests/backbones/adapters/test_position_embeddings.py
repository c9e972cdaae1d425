"""Position embeddings in a pyramid: the backbone's own as ViTDet has them, or new ones as MIMDet has them."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.backbone.utils import get_abs_pos
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.adapters import Adapter, build_pyramid
from backbones.mae.positions import sincos_position_embedding
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import load_weights
from backbones.weights.methods import METHODS
from tests.support.checkpoint_examples import save

WIDTH = 32
SMALL: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": WIDTH, "depth": 4, "num_heads": 2}


def trunk_of(model: nn.Module, adapter: Adapter = "fpn", **settings: Any) -> Any:
    window = None if adapter == "beit" else 2
    return build_pyramid(model, adapter, image_size=128, window=window, **settings).trunk


def small_vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(**SMALL, num_classes=0)


def mimdets(side: int) -> Tensor:
    """MIMDet's formula, number by number: its `grid_w` runs along the first axis, and so it comes to mean rows."""
    grid_w, grid_h = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    tokens = []
    for w, h in zip(grid_w.flatten(), grid_h.flatten(), strict=True):
        rates = [1 / 10_000 ** (index / (WIDTH // 4)) for index in range(WIDTH // 4)]
        functions = (math.sin, math.cos)
        tokens.append([function(place * rate) for place in (w, h) for function in functions for rate in rates])
    return torch.tensor(tokens).view(1, side, side, WIDTH)


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_sincos_are_mimdets_and_train(adapter: Adapter) -> None:
    model = small_vit()
    model.pos_embed.requires_grad_(False)
    position = trunk_of(model, adapter, position_embeddings="sincos").pos_embed
    torch.testing.assert_close(position.detach(), mimdets(8), rtol=0, atol=1e-6)
    assert isinstance(position, nn.Parameter)
    assert position.requires_grad


def test_mimdets_axes_are_those_of_mae_transposed() -> None:
    """MAE's published position embeddings begin with the column of a patch, MIMDet's with its row."""
    maes, other = (
        sincos_position_embedding((8, 8), WIDTH, class_token=False, rows_first=first).view(8, 8, WIDTH)
        for first in (False, True)
    )
    assert torch.equal(maes.transpose(0, 1), other)
    assert not torch.equal(maes, other)


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
@pytest.mark.parametrize("grid", [(4, 4), (8, 8), (5, 7)])
def test_loaded_ones_are_interpolated_to_each_image_as_vitdet_does(adapter: Adapter, grid: tuple[int, int]) -> None:
    model = small_vit()
    expected = get_abs_pos(model.pos_embed.detach().clone(), True, grid)
    trunk = trunk_of(model, adapter)
    assert trunk.pos_embed.shape == (1, 4, 4, WIDTH)
    trunk.patch_embed.proj.weight.data.zero_(), trunk.patch_embed.proj.bias.data.zero_()
    seen: list[Tensor] = []
    trunk.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trunk(torch.randn(1, 3, 16 * grid[0], 16 * grid[1]))
    torch.testing.assert_close(seen[0], expected)


def test_sincos_of_a_model_that_keeps_its_class_token_leave_that_its_own() -> None:
    model = small_vit()
    own = model.pos_embed[:, :1].detach().clone()
    position = trunk_of(model, "beit", position_embeddings="sincos").pos_embed.detach()
    assert torch.equal(position[:, :1], own)
    torch.testing.assert_close(position[:, 1:].view(1, 8, 8, WIDTH), mimdets(8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("position_embeddings", ["loaded", "sincos"])
def test_a_backbone_without_keeps_none(position_embeddings: str) -> None:
    model = Beit(**SMALL, num_classes=0, use_abs_pos_emb=False, use_rel_pos_bias=True)
    assert trunk_of(model, position_embeddings=position_embeddings).pos_embed is None


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("grid", [(3, 3), (6, 6)])
def test_dinov2s_are_interpolated_alike_in_all_tasks(registers: int, grid: tuple[int, int], tmp_path: Path) -> None:
    """facebookresearch/dinov2, models/vision_transformer.py, `interpolate_pos_encoding` without its offset: with
    antialiasing for the models with registers (hub/backbones.py)."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_classes": 0, "reg_tokens": registers, "no_embed_class": True, "init_values": 1.0}
    model = VisionTransformer(**SMALL, **options)
    file = read_checkpoint(save(model.state_dict(), tmp_path))
    own = model.pos_embed.detach().view(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
    expected = F.interpolate(own, size=grid, mode="bicubic", antialias=registers > 0).permute(0, 2, 3, 1)
    classifier = VisionTransformer(**(SMALL | {"img_size": 16 * grid[0]}), **options)
    load_weights(classifier, file, METHODS["DINOv2"])
    torch.testing.assert_close(classifier.pos_embed.detach().view(1, *grid, WIDTH), expected)
    for adapter, chosen in (("fpn", "loaded"), ("simple", "loaded"), ("beit", "loaded"), ("beit", "resized")):
        trunk = build_pyramid(
            copy.deepcopy(model),
            adapter,
            image_size=16 * grid[0],
            window=None if adapter == "beit" else 2,
            position_embeddings=chosen,
        ).trunk
        trunk.patch_embed.proj.weight.data.zero_(), trunk.patch_embed.proj.bias.data.zero_()
        seen: list[Tensor] = []
        trunk.blocks[0].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        trunk(torch.randn(1, 3, 16 * grid[0], 16 * grid[1]))
        patches = seen[0].view(1, -1, WIDTH)[:, -grid[0] * grid[1] :].view(1, *grid, WIDTH)
        torch.testing.assert_close(patches, expected)
