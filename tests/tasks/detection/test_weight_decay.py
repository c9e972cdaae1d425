"""Rates and weight decay of the whole `simple` Mask R-CNN, at full size, against detectron2's released configurations.

The models lie on paper, without memory for their weights.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import detectron2
import pytest
import timm
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import batch_norm
from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate
from torch import nn

from backbones.adapters import build_pyramid, parameter_groups
from benchmarks.planning.recipe import load_recipe
from tasks.detection.detector import Detector, build_detector

CONFIGS = Path(detectron2.__file__).parent / "model_zoo/configs/common"

# The trunk and the optimizer as detectron2's projects/ViTDet/configs/COCO changes them: mask_rcnn_vitdet_b_100ep.py,
# lines 38 to 40, mask_rcnn_vitdet_l_100ep.py, lines 16 to 25, and mask_rcnn_vitdet_h_75ep.py, lines 16 to 27.
SIZES: dict[str, tuple[dict[str, Any], float, dict[str, Any]]] = {
    "coco_simple_vit_base": ({}, 0.7, {"overrides": {"pos_embed": {"weight_decay": 0.0}}}),
    "coco_simple_vit_large": (
        {"embed_dim": 1024, "depth": 24, "num_heads": 16},
        0.8,
        {"overrides": {"pos_embed": {"weight_decay": 0.0}}},
    ),
    "coco_simple_vit_huge": (
        {"embed_dim": 1280, "depth": 32, "num_heads": 16},
        0.9,
        {"overrides": {}, "weight_decay_norm": None},
    ),
}
Figures = dict[str, tuple[float, float]]  # learning rate and weight decay by parameter name


def named(model: nn.Module, groups: Iterable[dict[str, Any]]) -> Figures:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]
    }


def reference(size: str) -> tuple[nn.Module, Figures]:
    """detectron2's model, and what its AdamW is told of each parameter."""
    trunk, layer_decay, changes = SIZES[size]
    model_config = LazyConfig.load(str(CONFIGS / "models/mask_rcnn_vitdet.py")).model
    model_config.backbone.net.update(trunk)
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # of which drop path takes numbers
        model = instantiate(model_config)
    config = LazyConfig.load(str(CONFIGS / "optim.py")).AdamW
    depth = trunk.get("depth", 12)
    config.params.lr_factor_func = partial(get_vit_lr_decay_rate, num_layers=depth, lr_decay_rate=layer_decay)
    config.params.update(changes)
    config.params.model = model
    return model, named(model, instantiate(config).param_groups)


def own(size: str) -> tuple[Detector, Figures]:
    """The packaged recipe's model, and what its AdamW is told of each parameter."""
    recipe: Any = load_recipe(size, [], {"detection"}).recipe
    settings = recipe.model
    with torch.device("meta"):
        backbone = timm.create_model(settings.arch, num_classes=0)
        pyramid = build_pyramid(backbone, settings.adapter, image_size=settings.image_size, window=settings.window)
        model = build_detector(pyramid, settings, 80)
    groups = parameter_groups(model, pyramid, **recipe.optimizer.decays)
    return model, named(model, [{**group, "lr": recipe.optimizer.lr * group["lr_scale"]} for group in groups])


def pairs(ours: Detector, theirs: nn.Module) -> dict[str, str]:
    """detectron2's name of each of our parameters."""
    stages = [name for stage in theirs.backbone.stages for name in _names(theirs, stage.parameters())]
    levels = dict(zip(_names(ours, ours.pyramid.levels.parameters()), stages, strict=True))
    trunk = next(name for name, module in ours.named_modules() if module is ours.pyramid.trunk)
    return {
        name: levels.get(name)
        or name.replace(f"{trunk}.", "backbone.net.")
        .replace("attn.attention.", "attn.")
        .replace("attn.attend.", "attn.")
        for name, _ in ours.named_parameters()
    }


def _names(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in parameters]


@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_has_detectron2s_rate_and_weight_decay(size: str) -> None:
    (model, ours), (other, theirs) = own(size), reference(size)
    expected = {name: theirs[paired] for name, paired in pairs(model, other).items()}
    assert len(theirs) == len(expected) == len(ours)
    departing = {name: (ours[name], figures) for name, figures in expected.items() if ours[name][1] != figures[1]}
    assert departing == {}
    for name, figures in expected.items():
        assert ours[name][0] == pytest.approx(figures[0]), name

    own_norms = [
        f"{prefix}.{name}"
        for prefix, module in other.named_modules()
        if isinstance(module, batch_norm.LayerNorm)
        for name, _ in module.named_parameters()
    ]
    assert len(own_norms) == 34 and {theirs[name] for name in own_norms} == {(1e-4, 0.1)}
