"""The adapter `fpn` as ADE20K's protocol has it, against mmsegmentation's MAE and its learning rates, and by hand."""

import re
from typing import Any

import pytest
import torch
from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmseg.models.backbones import MAE
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.adapters import Pyramid, build_pyramid, parameter_groups

DEPTH, WIDTH, HEADS, SIZE, GRID = 12, 32, 2, 64, 4
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
}


def own_pyramid() -> Pyramid:
    model = VisionTransformer(img_size=SIZE, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0)
    settings: dict[str, Any] = {"window": None, "shared_positions": False, "taps": TAPS, "layer_scale": 1.0}
    return build_pyramid(model, "fpn", image_size=SIZE, **settings)


class Segmentor(nn.Module):
    """A backbone, named as in mmsegmentation, and a head."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
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


def of_patches(name: str, value: Tensor) -> Tensor:
    """mmsegmentation's value without what concerns the class token, as ours is laid out."""
    if name == "pos_embed":
        return value[:, 1:].unflatten(1, (GRID, GRID))
    return value[:-3] if name.endswith("relative_position_bias_table") else value


def test_maps_and_gradients_equal_those_of_mmsegmentation() -> None:
    """Whose class token is kept out of the patches' attention by a bias of minus infinity."""
    torch.manual_seed(0)
    trunk = own_pyramid().trunk
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    reference = mmseg_encoder()
    theirs = dict(reference.named_parameters())
    pairs = {name: (own, theirs.pop(mmseg_name(name))) for name, own in trunk.named_parameters()}
    assert theirs.keys() == {"cls_token"}
    with torch.no_grad():
        for name, (own, other) in pairs.items():
            of_patches(name, other).copy_(own)
        for layer in reference.layers:
            layer.attn.relative_position_bias_table[-2] = -torch.inf
    images = torch.randn(2, 3, SIZE, SIZE)
    own_maps, maps = trunk(images), reference(images)
    for own_map, other_map in zip(own_maps, maps, strict=True):
        torch.testing.assert_close(own_map, other_map, **EXACT)
    directions = [torch.randn_like(other_map) for other_map in maps]
    torch.autograd.backward(own_maps, directions)
    torch.autograd.backward(maps, directions)
    for name, (own, other) in pairs.items():
        gradient = of_patches(name, other.grad)
        scale = gradient.abs().max()
        torch.testing.assert_close(own.grad / scale, gradient / scale, **EXACT, msg=lambda text, name=name: name + text)


def reference_figures() -> Figures:
    """By mmsegmentation's optimizer constructor."""
    constructor = LearningRateDecayOptimizerConstructor(
        {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": RATE, "weight_decay": WEIGHT_DECAY}},
        {"num_layers": DEPTH, "decay_rate": LAYER_DECAY, "decay_type": "layer_wise"},
    )
    groups: list[dict[str, Any]] = []
    constructor.add_params(groups, Segmentor(mmseg_encoder()))
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
    del reference["backbone.cls_token"]
    resampling = {name: ours.pop(name) for name in list(ours) if ".levels." in name}
    for name, found in ours.items():
        assert found == pytest.approx(reference.pop(mmseg_name(name.replace(".trunk.", ".")))), name
    assert not reference
    assert len(resampling) == 8  # three transposed convolutions and a norm; as in a neck of mmsegmentation's
    for name, found in resampling.items():
        vector = name.endswith("bias") or name == "backbone.levels.0.1.weight"
        assert found == (1.0, 0.0 if vector else WEIGHT_DECAY), name


def test_rates_and_weight_decay_by_hand() -> None:
    ours = own_figures(Segmentor(own_pyramid()))
    expected = {
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
