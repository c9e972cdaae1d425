"""What the shapes of weights do not show, where the file or the description beside it tells: activation, heads, norms.

Weights of one model load into another that differs in these, and mean something else.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.layers import GELUTanh, QuickGELU
from torch import nn

from backbones.errors import InputError
from backbones.weights import hub_files
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.code_bases.timm_readers import is_openais

_NEGLIGIBLE = 1e-6
"""A norm's epsilon up to which others do as well. transformers' ViT, ViTMAE and BEiT say 1e-12; timm's models and the
code that trained the weights (Google's, MAE's, BEiT's) have 1e-6. Tokens of variance 1 come out within 1e-5."""

_TANH = "gelu_pytorch_tanh"

_DEFAULTS = {"clip": "quick_gelu", "siglip": _TANH}
"""The activations of transformers' models, by what their kind begins with, which a published config.json leaves out."""

Claims = Mapping[str, Any]


def require_same_arithmetic(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise InputError if a ViT's activation, number of heads or the epsilon of its norms are not those of the file.

    They are known of OpenAI's CLIP by what its file holds, and of others by the `config.json` of transformers or the
    `open_clip_config.json` beside the file. Nothing is said of what nobody tells.
    """
    block, decoders = getattr(model, "blocks", [None])[0], getattr(model, "decoder_blocks", [None])[0]
    claims = _claims(checkpoint)
    for what, key, found in (
        ("activation", "hidden_act", _activation(getattr(getattr(block, "mlp", None), "act", None))),
        ("number of attention heads", "num_attention_heads", getattr(getattr(block, "attn", None), "num_heads", None)),
        (
            "number of the decoder's attention heads",
            "decoder_num_attention_heads",
            getattr(getattr(decoders, "attn", None), "num_heads", None),
        ),
        ("epsilon of the norms", "layer_norm_eps", getattr(getattr(block, "norm1", None), "eps", None)),
    ):
        said = claims.get(key)
        if said is None or found is None or said == found:
            continue
        if key == "layer_norm_eps" and max(said, found) <= _NEGLIGIBLE:
            continue
        raise InputError(
            f"{checkpoint.path}: its {what} is {said}, and this model's {found}: the weights would load and mean "
            f"something else.{_instead(model, key, said)}"
        )


def tells_activation(checkpoint: Checkpoint) -> bool:
    """Whether the file, or what lies beside it, says which activation its image encoder has."""
    return is_openais(checkpoint.beside) or "hidden_act" in _claims(checkpoint)


def _claims(checkpoint: Checkpoint) -> Claims:
    """What is told of the image encoder, in transformers' words."""
    if is_openais(checkpoint.state_dict):
        return {"hidden_act": "quick_gelu"}
    name = checkpoint.path.name
    if name in hub_files.OPEN_CLIPS_WEIGHTS:
        described = _read(checkpoint, hub_files.OPEN_CLIPS).get("model_cfg")
        quick = isinstance(described, dict) and described.get("quick_gelu", False)
        return {"hidden_act": "quick_gelu" if quick else "gelu"} if described else {}
    if name not in hub_files.WEIGHTS:
        return {}
    config = _read(checkpoint, hub_files.MODEL)
    inner = config.get("vision_config")
    kinds: dict[str, Callable[[Any], bool]] = {
        "hidden_act": lambda value: value in {"gelu", "quick_gelu", _TANH},
        "num_attention_heads": lambda value: isinstance(value, int),
        "decoder_num_attention_heads": lambda value: isinstance(value, int),
        "layer_norm_eps": lambda value: isinstance(value, float),
    }
    claims = inner if isinstance(inner, dict) else config
    kind = str(config.get("model_type"))
    defaults = next(({"hidden_act": told} for begin, told in _DEFAULTS.items() if kind.startswith(begin)), {})
    return defaults | {key: claims[key] for key, is_meant in kinds.items() if key in claims and is_meant(claims[key])}


def _read(checkpoint: Checkpoint, name: str) -> Claims:
    try:
        content = json.loads(checkpoint.path.with_name(name).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _activation(layer: nn.Module | None) -> str | None:
    if isinstance(layer, QuickGELU):
        return "quick_gelu"
    if isinstance(layer, GELUTanh) or (isinstance(layer, nn.GELU) and layer.approximate == "tanh"):
        return _TANH
    return "gelu" if isinstance(layer, nn.GELU) else None


def _instead(model: nn.Module, key: str, said: Any) -> str:
    """Name timm's model with the other GELU, where it has one, or the setting of an autoencoder's decoder."""
    if key == "decoder_num_attention_heads":
        return f" Set model.decoder_heads={said} as the file has it."
    if key == "hidden_act" and said == _TANH:
        return ' Give a function that builds it with timm.create_model(…, act_layer="gelu_tanh"): docs/backbones.md.'
    own = str((getattr(model, "pretrained_cfg", None) or {}).get("architecture") or "")
    other = own.replace("_clip_quickgelu_", "_clip_")
    if said == "quick_gelu":
        other = other.replace("_clip_", "_clip_quickgelu_")
    known = key == "hidden_act" and other != own and timm.is_model(other)
    return f" Use --backbone {other}=FILE" if known else " Choose the backbone that it was trained as."
