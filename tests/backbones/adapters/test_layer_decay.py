"""Learning rates and weight decay of a detector's parameters against detectron2's own rules, and by hand."""

import re
from functools import partial
from typing import Any

import pytest
import timm
import torch
from detectron2.layers import Conv2d, get_norm
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid, ViT, get_vit_lr_decay_rate
from detectron2.solver.build import get_default_optimizer_params
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.adapters import Adapter, Pyramid, build_pyramid, parameter_groups

DEPTH, WIDTH, DECAY, WEIGHT_DECAY, RATE = 8, 32, 0.7, 0.1, 1e-4
Figures = dict[str, tuple[float, float]]  # scale of the learning rate and weight decay by parameter name

OWN_LAYER_NORMS = re.compile(r"^backbone\.simfp_\d\.\d\.norm\.|^backbone\.simfp_2\.1\.|^heads\.2\.norm\.")


def make_pyramid(adapter: Adapter = "simple", **options: Any) -> Pyramid:
    settings = {"img_size": 64, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2, "num_classes": 0} | options
    return build_pyramid(VisionTransformer(**settings), adapter, image_size=96, window=3, channels=16)


def make_heads() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(16, 16, 1),
        nn.BatchNorm2d(16),
        Conv2d(16, 16, 1, bias=False, norm=get_norm("LN", 16)),
        nn.Linear(16, 4),
    )


class Detector(nn.Module):
    def __init__(self, pyramid: nn.Module) -> None:
        super().__init__()
        self.backbone = pyramid
        self.heads = make_heads()


def figures(model: nn.Module, groups: list[dict[str, Any]]) -> Figures:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = [
        (names[id(parameter)], (group["lr_scale"], group["weight_decay"]))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(listed) == len(dict(listed))  # each parameter once
    return dict(listed)


def own_figures(
    model: Detector, no_weight_decay: Any = "norms_and_positions", layer_decay: float | None = DECAY
) -> Figures:
    return figures(
        model,
        parameter_groups(
            model, model.backbone, weight_decay=WEIGHT_DECAY, layer_decay=layer_decay, no_weight_decay=no_weight_decay
        ),
    )


def reference_figures() -> Figures:
    """As ViTDet's mask_rcnn_vitdet_b_100ep.py configures detectron2."""
    trunk = ViT(
        img_size=96,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=2,
        use_rel_pos=True,
        window_size=3,
        window_block_indexes=(0, 2, 4, 6),
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        pretrain_img_size=64,
    )
    model = Detector(SimpleFeaturePyramid(trunk, "last_feat", 16, (4.0, 2.0, 1.0, 0.5)))
    groups = get_default_optimizer_params(
        model,
        base_lr=RATE,
        weight_decay=WEIGHT_DECAY,
        weight_decay_norm=0.0,
        lr_factor_func=partial(get_vit_lr_decay_rate, lr_decay_rate=DECAY, num_layers=DEPTH),
        overrides={"pos_embed": {"weight_decay": 0.0}},
    )
    for group in groups:
        group["lr_scale"] = group["lr"] / RATE
    return figures(model, groups)


@pytest.mark.parametrize("no_weight_decay", ["detectron2", "norms_and_positions"])
def test_rates_and_weight_decay_are_those_of_vitdet(no_weight_decay: str) -> None:
    """detectron2's rule does not know the layer norm over channels of its own pyramid and heads, and so decays it."""
    model = Detector(make_pyramid())
    ours, reference = own_figures(model, no_weight_decay), reference_figures()
    compared, departing = set(), set()
    levels = list(model.backbone.levels.named_parameters(prefix="backbone.levels"))
    stages = [name for name in reference if "simfp" in name]
    pairs = {name: stage for (name, _), stage in zip(levels, sorted_as_stages(stages), strict=True)}
    for name, found in ours.items():
        other = pairs.get(name) or name.replace("backbone.trunk.", "backbone.net.").replace(
            "attn.attention.", "attn."
        ).replace("attn.attend.", "attn.")
        compared.add(other)
        assert found[0] == pytest.approx(reference[other][0]), name
        if found[1] != pytest.approx(reference[other][1]):
            departing.add(other)
    assert compared == reference.keys()
    own_norms = {name for name in reference if OWN_LAYER_NORMS.search(name)}
    assert departing == (own_norms if no_weight_decay == "norms_and_positions" else set())
    assert all(reference[name][1] == WEIGHT_DECAY for name in departing)


def sorted_as_stages(names: list[str]) -> list[str]:
    """From the finest level, in the order of its layers."""
    return sorted(names, key=lambda name: int(name.split("simfp_")[1].split(".")[0]))


def test_figures_of_a_vit_by_hand() -> None:
    ours = own_figures(Detector(make_pyramid("fpn")))
    embeddings = DECAY ** (DEPTH + 1)
    assert ours["backbone.trunk.pos_embed"] == pytest.approx((embeddings, 0.0))
    assert ours["backbone.trunk.patch_embed.proj.weight"] == pytest.approx((embeddings, WEIGHT_DECAY))
    assert ours["backbone.trunk.patch_embed.proj.bias"] == pytest.approx((embeddings, WEIGHT_DECAY))
    for block in range(DEPTH):
        name, scale = f"backbone.trunk.blocks.{block}", DECAY ** (DEPTH - block)
        assert ours[f"{name}.attn.attention.qkv.bias"] == pytest.approx((scale, WEIGHT_DECAY))
        assert ours[f"{name}.norm1.weight"] == pytest.approx((scale, 0.0))
    for kind in ("windowed", "global"):
        assert ours[f"backbone.trunk.{kind}_positions.relative_position_bias_table"] == (1.0, 0.0)
    assert ours["backbone.levels.0.1.weight"] == (1.0, 0.0)  # GroupNorm
    assert ours["backbone.levels.1.0.weight"] == (1.0, WEIGHT_DECAY)
    assert ours["heads.0.bias"] == (1.0, WEIGHT_DECAY)
    assert ours["heads.1.weight"] == ours["heads.2.norm.weight"] == (1.0, 0.0)


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_vectors_can_be_spared_and_positions_then_decay(adapter: Adapter) -> None:
    model = Detector(make_pyramid(adapter, init_values=0.1))
    ours = own_figures(model, no_weight_decay="one_dimensional")
    for name, parameter in model.named_parameters():
        assert ours[name][1] == (0.0 if parameter.ndim == 1 else WEIGHT_DECAY), name
    assert ours["backbone.trunk.pos_embed"][1] == WEIGHT_DECAY
    assert ours["backbone.trunk.blocks.0.ls1.gamma"][1] == 0.0
    assert own_figures(model)["backbone.trunk.blocks.0.ls1.gamma"][1] == WEIGHT_DECAY


def test_biases_of_more_than_one_dimension_are_spared_with_the_vectors() -> None:
    model = Detector(make_pyramid())
    model.heads[3].bias = nn.Parameter(torch.zeros(1, 4))
    assert own_figures(model, no_weight_decay="one_dimensional")["heads.3.bias"][1] == 0.0
    assert own_figures(model)["heads.3.bias"][1] == WEIGHT_DECAY


def test_relative_positions_of_a_block_belong_to_the_block() -> None:
    ours = own_figures(Detector(make_pyramid()))
    for block in range(DEPTH):
        assert ours[f"backbone.trunk.blocks.{block}.attn.attend.rel_pos_h"] == pytest.approx(
            (DECAY ** (DEPTH - block), WEIGHT_DECAY)
        )


def test_nothing_need_be_spared() -> None:
    assert {decay for _, decay in own_figures(Detector(make_pyramid("fpn")), no_weight_decay="nothing").values()} == {
        WEIGHT_DECAY
    }


def test_without_layer_decay_all_rates_are_the_same() -> None:
    assert {scale for scale, _ in own_figures(Detector(make_pyramid()), layer_decay=None).values()} == {1.0}


def test_frozen_parameters_are_left_out() -> None:
    model = Detector(make_pyramid())
    model.backbone.trunk.patch_embed.requires_grad_(False)
    ours = own_figures(model)
    assert set(dict(model.named_parameters())) - set(ours) == {
        "backbone.trunk.patch_embed.proj.weight",
        "backbone.trunk.patch_embed.proj.bias",
    }


def test_layers_of_a_hierarchical_model_are_those_of_its_group_matcher() -> None:
    model = timm.create_model("resnet18", num_classes=0)
    detector = Detector(build_pyramid(model, "fpn", image_size=64, window=3))
    ours = own_figures(detector)
    scales = [
        ours[f"backbone.trunk.backbone.{name}.weight"][0] for name in ("conv1", "layer1.0.conv1", "layer4.1.conv2")
    ]
    assert scales == pytest.approx([DECAY**9, DECAY**8, DECAY])  # the stem, eight blocks, the heads
    assert ours["heads.3.weight"] == (1.0, WEIGHT_DECAY)
    assert ours["backbone.trunk.backbone.bn1.weight"][1] == 0.0


def test_the_groups_serve_adamw() -> None:
    model = Detector(make_pyramid())
    groups = parameter_groups(
        model, model.backbone, weight_decay=WEIGHT_DECAY, layer_decay=DECAY, no_weight_decay="norms_and_positions"
    )
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    assert len(optimizer.param_groups) == 2 * (DEPTH + 2)  # with and without weight decay in each layer


def test_a_pyramid_outside_the_model_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a part of the model"):
        parameter_groups(
            make_heads(), make_pyramid(), weight_decay=0.1, layer_decay=None, no_weight_decay="norms_and_positions"
        )
