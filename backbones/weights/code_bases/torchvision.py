"""torchvision's ViT, Swin and ConvNeXt, whose modules are numbered and not named.

Its ResNets are named as timm's, unless their modules were put in a row (`nn.Sequential(*resnet.children())`), as
lightly's examples do without the last.
"""

from collections.abc import Iterable

from torch import nn

from backbones.errors import InputError
from backbones.weights.conversion import Weights

_VIT = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"
_SWIN = "features.1.0.attn.qkv.weight"
_CONVNEXT = "features.1.0.layer_scale"
_SWIN_V2 = "features.1.0.attn.logit_scale"

_VIT_NAMES = (
    (r"conv_proj\.", "patch_embed.proj."),
    (r"class_token$", "cls_token"),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.", "head."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.mlp\.(?:linear_1|0)\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.mlp\.(?:linear_2|3)\.", r"\1.mlp.fc2."),
)
_SWIN_NAMES = (
    (r"features\.0\.0\.", "patch_embed.proj."),
    (r"features\.0\.2\.", "patch_embed.norm."),
    (r"(layers\.\d+\.blocks\.\d+\.mlp)\.0\.", r"\1.fc1."),
    (r"(layers\.\d+\.blocks\.\d+\.mlp)\.3\.", r"\1.fc2."),
)
_CONVNEXT_NAMES = (
    (r"features\.0\.", "stem."),
    (r"(stages\.\d+\.blocks\.\d+)\.block\.0\.", r"\1.conv_dw."),
    (r"(stages\.\d+\.blocks\.\d+)\.block\.2\.", r"\1.norm."),
    (r"(stages\.\d+\.blocks\.\d+)\.block\.3\.", r"\1.mlp.fc1."),
    (r"(stages\.\d+\.blocks\.\d+)\.block\.5\.", r"\1.mlp.fc2."),
    (r"(stages\.\d+\.blocks\.\d+)\.layer_scale", r"\1.gamma"),
    (r"classifier\.0\.", "head.norm."),
    (r"classifier\.2\.", "head.fc."),
)
_ROW = {"1.running_var", "4.0.conv1.weight", "7.0.conv1.weight"}
_ROW_NAMES = (
    (r"0\.", "conv1."),
    (r"1\.", "bn1."),
    *((rf"{stage + 3}\.(?=\d+\.)", f"layer{stage}.") for stage in range(1, 5)),
    (r"9\.(?=weight$|bias$)", "fc."),
)
"""2 is the activation, 3 and 8 are poolings: they have no weights."""


def in_a_row(names: Iterable[str]) -> bool:
    """Whether a ResNet has these names whose modules are numbered."""
    return {*names} >= _ROW


def from_row(weights: Weights, model: nn.Module) -> None:
    """Name the modules of a ResNet that stood in a row, unless the model's do as well."""
    if in_a_row(weights.tensors) and not in_a_row(model.state_dict()):
        _rename(weights, _ROW_NAMES)


def named_by_torchvision(names: Iterable[str]) -> bool:
    """Whether a Swin, ConvNeXt or ViT has these names in torchvision."""
    return not {_VIT, _SWIN, _CONVNEXT}.isdisjoint(names)


def from_torchvision(weights: Weights, model: nn.Module) -> None:
    """Rename from torchvision's ViT, Swin and ConvNeXt, unless the model is torchvision's too.

    Raises InputError for its Swin V2, which has another attention than timm's.
    """
    if not named_by_torchvision(weights.tensors) or named_by_torchvision(model.state_dict()):
        return
    if _SWIN_V2 in weights.tensors:
        raise InputError(
            "torchvision's own Swin V2, whose weights timm's models cannot take. Register torchvision's model as a "
            "backbone of your own; the README says how."
        )
    if _VIT in weights.tensors:
        _rename(weights, _VIT_NAMES)
        return
    if _SWIN in weights.tensors:
        index = [name for name in weights.tensors if name.endswith("relative_position_index")]
        weights.drop(index, "computed from the image size")
        _name_stages(weights, r"layers.{stage}.blocks.\1.", r"layers.{stage}.downsample.")
        _rename(weights, _SWIN_NAMES)
        return
    _name_stages(weights, r"stages.{stage}.blocks.\1.", r"stages.{stage}.downsample.")
    _rename(weights, _CONVNEXT_NAMES)
    for name in weights.names(r"stages\.\d+\.blocks\.\d+\.gamma"):
        weights.tensors[name] = weights.tensors[name].flatten()  # (C, 1, 1) there


def _rename(weights: Weights, rules: Iterable[tuple[str, str]]) -> None:
    for pattern, replacement in rules:
        weights.rename(pattern, replacement)


def _name_stages(weights: Weights, block: str, downsampling: str) -> None:
    """Name the numbered stages: 1, 3, 5 and 7 are blocks, and between them 2, 4 and 6 lead to the next."""
    for stage in range(4):
        weights.rename(rf"features\.{2 * stage + 1}\.(\d+)\.", block.format(stage=stage))
        if stage:
            weights.rename(rf"features\.{2 * stage}\.", downsampling.format(stage=stage))
