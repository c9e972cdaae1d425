"""backbench's own fine-tuned networks, `weights.safetensors`: their trunk, as a backbone to go on from.

Of a detector's or a segmentor's ViT what its task added goes: relative positions, and layer scale, which the layers
before it take over. What the task left out begins anew: the last norm, in detection also the class token.
"""

import re

import torch
from timm.models.beit import Beit
from torch import Tensor, nn

from backbones.weights.conversion import Weights

_TRUNK = r"(?:backbone\.)?(?:bottom_up\.)?pyramid\.trunk\."
_LAST_NORM = re.compile(r"(?:head\.)?norm\.(?:weight|bias)")
_BEFORE_SCALE = {"1": "attn.proj", "2": "mlp.fc2"}


def from_own_network(weights: Weights, model: nn.Module) -> None:
    """Take the trunk of a detector or segmentor of backbench's; of a classifier allow for the norm that it put aside.

    A file without such names is left alone.
    """
    own = model.state_dict()
    fresh = {name: "its task has no last norm; as a new one" for name in own if _LAST_NORM.fullmatch(name)}
    if weights.names(_TRUNK) and not any(re.match(_TRUNK, name) for name in own):
        weights.drop(weights.names(rf"(?!{_TRUNK})"), "not part of the backbone")
        weights.rename(_TRUNK, "")
        if all(name.startswith("backbone.") for name in weights.tensors):
            weights.rename(r"backbone\.", "")
        else:
            _restore_vit(weights, model, own)
            fresh |= {"cls_token": "its task has no class token; as a new one"} if "cls_token" in own else {}
    elif "fc_norm.weight" not in weights.dropped:
        return
    weights.initialised |= {name: why for name, why in fresh.items() if name not in weights.tensors}


def _restore_vit(weights: Weights, model: nn.Module, own: dict[str, Tensor]) -> None:
    weights.rename(r"(blocks\.\d+\.attn)\.attention\.", r"\1.")
    if isinstance(model, Beit):
        weights.rename(r"(blocks\.\d+\.attn)\.attend\.(?=relative_position_bias_table)", r"\1.")
        for name in weights.names(r"blocks\.\d+\.attn\.relative_position_bias_table"):
            _add_class_tokens_biases(weights, name)
    added = weights.names(r"blocks\.\d+\.attn\.attend\.|(?:global|windowed)_positions\.")
    weights.drop(added, "relative positions that its task added")
    for name in weights.names(r"blocks\.\d+\.(?:ls[12]\.gamma|gamma_[12])$"):
        if name not in own:
            _fold_scale(weights, name)
    position = weights.tensors.get("pos_embed")
    if position is not None and position.ndim == 4:
        patches = position.flatten(1, 2)
        tokens = position.new_zeros(1, 1, position.shape[-1])
        weights.make("pos_embed", torch.cat([tokens, patches], 1), ["pos_embed"], "none of the class token: zero")


def _add_class_tokens_biases(weights: Weights, name: str) -> None:
    """A table without the three entries of the class token, as `fpn` and `simple` have it, gets zeros for them."""
    table = weights.tensors[name]
    side = round(len(table) ** 0.5)
    if side * side == len(table):
        whole = torch.cat([table, table.new_zeros(3, table.shape[1])])
        weights.make(name, whole, [name], "none of the class token: zero")


def _fold_scale(weights: Weights, name: str) -> None:
    """Let the layer before a layer scale do what that did."""
    gamma, found = weights.tensors[name], re.match(r"(blocks\.\d+)\.\D+([12])", name)
    assert found
    layer = f"{found[1]}.{_BEFORE_SCALE[found[2]]}"
    for kind in ("weight", "bias"):
        tensor = weights.tensors[f"{layer}.{kind}"]
        scaled = tensor * (gamma[:, None] if kind == "weight" else gamma)
        weights.make(f"{layer}.{kind}", scaled, [f"{layer}.{kind}", name], "with the layer scale that its task added")
    weights.remove_joined([name])
