"""The adapter `beit` against mmsegmentation's MAE with its pyramid and its learning rates, and by hand."""

import re
from typing import Any

import pytest
import torch
from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmseg.models.backbones import MAE
from mmseg.models.necks import Feature2Pyramid
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.adapters import Pyramid, build_pyramid, parameter_groups

DEPTH, WIDTH, HEADS, SIZE = 12, 32, 2, 64
TAPS = (3, 5, 7, 11)
RATE, WEIGHT_DECAY, LAYER_DECAY = 1e-4, 0.05, 0.65
EXACT = {"rtol": 1e-4, "atol": 1e-4}
Figures = dict[str, tuple[float, float]]  # scale of the learning rate and weight decay by parameter name

NAMES_OF_MMSEG = {
    r"patch_embed\.proj": "patch_embed.projection",
    r"blocks\.": "layers.",
    r"norm(\d)": r"ln\1",
    r"attn\.(attention|attend)": "attn",
    r"ls(\d)\.gamma": r"gamma_\1",
    r"mlp\.fc1": "ffn.layers.0.0",
    r"mlp\.fc2": "ffn.layers.1",
    r"levels\.0": "neck.upsample_4x",
    r"levels\.1": "neck.upsample_2x",
}


def own_pyramid() -> Pyramid:
    model = VisionTransformer(img_size=SIZE, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0)
    return build_pyramid(model, "beit", image_size=SIZE, window=None, taps=TAPS, layer_scale=1.0)


class Segmentor(nn.Module):
    """A backbone and a neck, named as in mmsegmentation, and a head."""

    def __init__(self, backbone: nn.Module, neck: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.decode_head = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))


def mmseg_encoder() -> MAE:
    return MAE(
        img_size=SIZE,
        embed_dims=WIDTH,
        num_layers=DEPTH,
        num_heads=HEADS,
        out_indices=TAPS,
        norm_cfg={"type": "LN", "eps": 1e-6},
        init_values=1.0,
    )


def mmseg_name(name: str) -> str:
    for ours, theirs in NAMES_OF_MMSEG.items():
        name = re.sub(ours, theirs, name)
    return name


def mmseg_neck() -> Feature2Pyramid:
    return Feature2Pyramid(WIDTH, [4, 2, 1, 0.5], {"type": "BN", "requires_grad": True})


def test_maps_and_gradients_equal_those_of_mmsegmentation() -> None:
    """Of the trunk and of the pyramid, in training, with the batch norm's running statistics."""
    torch.manual_seed(0)
    pyramid = own_pyramid()
    for parameter in pyramid.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    reference, neck = mmseg_encoder(), mmseg_neck()
    theirs = dict(reference.named_parameters()) | {f"neck.{name}": p for name, p in neck.named_parameters()}
    own_names = {name: name.removeprefix("trunk.") for name, _ in pyramid.named_parameters()}
    pairs = {name: (own, theirs.pop(mmseg_name(own_names[name]))) for name, own in pyramid.named_parameters()}
    assert not theirs
    with torch.no_grad():
        for own, other in pairs.values():
            other.copy_(own)
    images = torch.randn(2, 3, SIZE, SIZE)
    own_maps, maps = pyramid(images), neck(reference(images))
    for own_map, other_map in zip(own_maps, maps, strict=True):
        torch.testing.assert_close(own_map, other_map, **EXACT)
    directions = [torch.randn_like(other_map) for other_map in maps]
    torch.autograd.backward(own_maps, directions)
    torch.autograd.backward(maps, directions)
    largest = max(other.grad.abs().max() for _, other in pairs.values())
    for name, (own, other) in pairs.items():
        scale = other.grad.abs().max()
        # What batch norm takes away again, the bias before it, is left with rounding errors alone.
        if scale < 1e-6 * largest:
            assert own.grad.abs().max() < 1e-6 * largest, name
            continue
        torch.testing.assert_close(
            own.grad / scale, other.grad / scale, **EXACT, msg=lambda text, name=name: name + text
        )
    for own, other in zip(pyramid.buffers(), neck.buffers(), strict=True):
        torch.testing.assert_close(own, other)


def reference_figures() -> Figures:
    """By mmsegmentation's optimizer constructor."""
    constructor = LearningRateDecayOptimizerConstructor(
        {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": RATE, "weight_decay": WEIGHT_DECAY}},
        {"num_layers": DEPTH, "decay_rate": LAYER_DECAY, "decay_type": "layer_wise"},
    )
    groups: list[dict[str, Any]] = []
    constructor.add_params(groups, Segmentor(mmseg_encoder(), mmseg_neck()))
    return {name: (group["lr"] / RATE, group["weight_decay"]) for group in groups for name in group["param_names"]}


def own_figures(model: Segmentor) -> Figures:
    groups = parameter_groups(
        model, model.backbone, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY, no_weight_decay="one_dimensional"
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def test_rates_and_weight_decay_are_those_of_mmsegmentation() -> None:
    ours, reference = own_figures(Segmentor(own_pyramid())), reference_figures()
    for name, found in ours.items():
        own_name = name.replace(".trunk.", ".").replace("backbone.levels", "levels")
        assert found == pytest.approx(reference.pop(mmseg_name(own_name))), name
    assert not reference


def test_rates_and_weight_decay_by_hand() -> None:
    ours = own_figures(Segmentor(own_pyramid()))
    expected = {
        "cls_token": (0.65**13, 0.05),
        "pos_embed": (0.65**13, 0.05),
        "patch_embed.proj.bias": (0.65**13, 0.0),
        "blocks.0.attn.attend.relative_position_bias_table": (0.65**12, 0.05),
        "blocks.0.ls1.gamma": (0.65**12, 0.0),
        "blocks.11.attn.attend.relative_position_bias_table": (0.65, 0.05),
        "blocks.11.attn.attention.qkv.weight": (0.65, 0.05),
        "blocks.11.norm2.weight": (0.65, 0.0),
        "blocks.11.ls2.gamma": (0.65, 0.0),
    }
    for name, figures in expected.items():
        assert ours[f"backbone.trunk.{name}"] == pytest.approx(figures), name
