"""Layer-wise learning-rate decay: timm's groups on our backbones against the reference's definition."""

import pytest
import timm.optim
from torch import nn

from backbones.registry import create_backbone

DEPTH = 4  # vit_mini
DECAY = 0.65
WEIGHT_DECAY = 0.05


def classifier(pool: str) -> nn.Module:
    """A classifier on the mini ViT. With average pooling its last norm stands behind the pooling, as in MAE."""
    model = create_backbone("random_vit_mini")
    model.reset_classifier(10, global_pool=pool)
    if pool == "avg":
        model.norm, model.fc_norm = nn.Identity(), nn.LayerNorm(model.embed_dim, eps=1e-6)
    return model


def expected(name: str, dimensions: int) -> tuple[float, float]:
    """Scale of the learning rate and weight decay of one parameter, as MAE's table 9 and its reference code define it:
    embeddings are layer 0, block i is layer i + 1, the rest is the last layer, which learns at the full rate."""
    if name in {"cls_token", "pos_embed"} or name.startswith("patch_embed."):
        layer = 0
    elif name.startswith("blocks."):
        layer = int(name.split(".")[1]) + 1
    else:
        layer = DEPTH + 1
    spared = dimensions <= 1 or name.endswith(".bias") or name in {"cls_token", "pos_embed"}
    return DECAY ** (DEPTH + 1 - layer), 0.0 if spared else WEIGHT_DECAY


def actual(model: nn.Module) -> dict[str, tuple[float, float]]:
    groups = timm.optim.param_groups_layer_decay(
        model, weight_decay=WEIGHT_DECAY, no_weight_decay_list=model.no_weight_decay(), layer_decay=DECAY
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_every_parameter_has_the_reference_rate_and_weight_decay() -> None:
    model = classifier("avg")
    found = actual(model)
    assert found.keys() == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert found[name] == pytest.approx(expected(name, parameter.ndim)), name
    assert found["fc_norm.weight"] == (1.0, 0.0)
    assert found["head.weight"] == (1.0, WEIGHT_DECAY)
    assert found["patch_embed.proj.weight"] == pytest.approx((DECAY**5, WEIGHT_DECAY))


def test_with_the_class_token_only_the_last_norm_departs() -> None:
    """timm puts a norm over tokens with the last block; the reference has it in the last layer."""
    model = classifier("token")
    found = actual(model)
    departing = {
        name
        for name, parameter in model.named_parameters()
        if found[name] != pytest.approx(expected(name, parameter.ndim))
    }
    assert departing == {"norm.weight", "norm.bias"}
    assert found["norm.weight"] == pytest.approx((DECAY, 0.0))
