"""Which learning rate and weight decay each parameter of a model with a pyramid in it gets."""

from typing import Any, Literal

from timm.layers import LayerNorm2d
from timm.models._manipulate import group_with_matcher
from torch import nn

from backbones.adapters.pyramids import Pyramid
from backbones.depth import require_layers

NoWeightDecay = Literal["norms_and_positions", "detectron2", "one_dimensional", "nothing"]
"""What has no weight decay: see `parameter_groups`."""

_EMBEDDINGS_AND_BIAS_TABLES = {"pos_embed", "absolute_pos_embed", "relative_position_bias_table"}

_DETECTRON2_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
"""The norms that `get_default_optimizer_params` knows (detectron2, solver/build.py, lines 203 to 215)."""


def parameter_groups(
    model: nn.Module,
    pyramid: Pyramid,
    *,
    weight_decay: float,
    layer_decay: float | None,
    no_weight_decay: NoWeightDecay,
) -> list[dict[str, Any]]:
    """Group a model's trainable parameters for AdamW; each group has `params`, `weight_decay` and `lr_scale`.

    pyramid:         a part of the model
    layer_decay:     the factor, in `lr_scale`, of the learning rate from each layer of the trunk to the one before it;
                     None is 1. Layers are what the backbone's `group_matcher` says: of a plain ViT the embeddings, then
                     each block with its own relative positions. All else in the model, with bias tables that blocks
                     share, is the last layer, of scale 1 (ViTDet's code)
    no_weight_decay: what does not decay. "norms_and_positions": norms, position embeddings and relative position bias
                     tables (MIMDet's configurations; biases do decay in them). "detectron2": the norms that detectron2
                     knows, and position embeddings (ViTDet's configurations for ViT-B and L). It does not know the
                     LayerNorm over channels of its own pyramid and heads, timm's LayerNorm2d here, and so that decays,
                     as biases and all relative positions do. "one_dimensional": biases and all else of one
                     dimension, such as norms and layer scale; position embeddings and relative positions do decay
                     (the segmentation code of BEiT and mae_segmentation: it lists `pos_embed` among those without
                     decay, but compares that with `backbone.pos_embed`). "nothing": everything decays (ViTDet's
                     configuration for ViT-H)

    Raises ValueError if the pyramid is not in the model, and InputError if layers are to differ and none can be told.
    """
    if layer_decay not in (None, 1.0):
        require_layers(pyramid.trunk.layered)
    scales = _learning_rate_scales(model, pyramid, layer_decay)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            scale = scales.pop(f"{module_name}.{name}".lstrip("."), None)
            if scale is None or not parameter.requires_grad:  # None: met before, under another name
                continue
            decay = weight_decay if _decays(module, name, parameter, no_weight_decay) else 0.0
            group = groups.setdefault((decay, scale), {"params": [], "weight_decay": decay, "lr_scale": scale})
            group["params"].append(parameter)
    return list(groups.values())


def _decays(module: nn.Module, name: str, parameter: nn.Parameter, no_weight_decay: NoWeightDecay) -> bool:
    if no_weight_decay == "one_dimensional":
        return parameter.ndim > 1 and name != "bias"
    if no_weight_decay == "detectron2":
        known = isinstance(module, _DETECTRON2_NORMS) and not isinstance(module, LayerNorm2d)
        return name != "pos_embed" and not known
    if no_weight_decay == "norms_and_positions":  # torch's, timm's and detectron2's norms have no class in common
        return name not in _EMBEDDINGS_AND_BIAS_TABLES and "Norm" not in type(module).__name__
    return True


def _learning_rate_scales(model: nn.Module, pyramid: Pyramid, layer_decay: float | None) -> dict[str, float]:
    """Return the scale of every parameter of the model by its name."""
    layered = pyramid.trunk.layered
    prefix = next((name for name, module in model.named_modules() if module is layered), None)
    if prefix is None:
        raise ValueError("the pyramid is not a part of the model")
    prefix = f"{prefix}." if prefix else ""
    outside = ""  # a name that no matcher knows
    own_names = [name for name, _ in layered.named_parameters()]
    layers = group_with_matcher(
        ((name, None) for name in [*own_names, outside]), pyramid.trunk.layer_matcher, reverse=True
    )
    return {
        name: (layer_decay or 1.0) ** (layers[outside] - layers.get(_within(name, prefix), layers[outside]))
        for name, _ in model.named_parameters()
    }


def _within(name: str, prefix: str) -> str:
    return name[len(prefix) :] if name.startswith(prefix) else ""
