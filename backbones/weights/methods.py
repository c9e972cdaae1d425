"""The methods: how a backbone's weights came about, and how the files of each are read."""

import re
from dataclasses import dataclass

from backbones.weights.code_bases.huggingface import from_huggingface
from backbones.weights.code_bases.jax import from_jax
from backbones.weights.code_bases.mmpretrain import from_mmpretrain
from backbones.weights.code_bases.timm_readers import through_timm
from backbones.weights.code_bases.torchvision import from_torchvision
from backbones.weights.naming import (
    Step,
    drop_heads,
    drop_masking,
    match_final_norm,
    spread_position_biases,
    strip_wrappers,
    take_moco_encoder,
)

_OPENING: tuple[Step, ...] = (strip_wrappers, from_torchvision, from_huggingface, from_mmpretrain, from_jax)
_CLOSING: tuple[Step, ...] = (through_timm, drop_heads, match_final_norm)


@dataclass(frozen=True)
class Method:
    """A way to weights.

    name:          as the tables print it
    pretrain_data: what the weights were trained on, as the tables print it
    steps:         what leads from the names in its checkpoint files to timm's, in order; each is a function of
                   (Weights, model)
    """

    name: str
    pretrain_data: str
    steps: tuple[Step, ...]


# A file of unstated origin: whatever is recognised.
ANY_NAMING: tuple[Step, ...] = (take_moco_encoder, *_OPENING, drop_masking, spread_position_biases, *_CLOSING)

# Names and data as in the paper's tables (results/reference/paper_tables.csv), but for BEiT: its files for use were
# pre-trained on ImageNet-22K (microsoft/unilm, beit/README.md:28-39). The one of the paper's "IN1K+DALLE" has absolute
# positions (README.md:190) and is a backbone of its own.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("supervised", "IN1K w/ labels", (*_OPENING, *_CLOSING)),
        Method("MoCo v3", "IN1K", (take_moco_encoder, *_OPENING, *_CLOSING)),
        Method("BEiT", "IN22K+DALLE", (*_OPENING, drop_masking, spread_position_biases, *_CLOSING)),
        Method("MAE", "IN1K", (*_OPENING, drop_masking, *_CLOSING)),
        Method("random", "none", ()),
        Method("custom", "unstated", ANY_NAMING),
    )
}

OTHER_METHODS = ("BEiT v2", "data2vec", "DeiT", "DINO", "DINOv2", "MSN")
"""Names of methods whose files are read as those of unstated origin are."""


def same_name(one: str, other: str) -> bool:
    """Whether two names differ in case and punctuation at most: "MoCo v3" and "mocov3". "MAE+" and "MAE" are two."""
    return simplified(one) == simplified(other)


def simplified(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^\w+]|_", "", name).casefold() or name


def spell_method(name: str) -> str:
    """The name of a method as it is known here: "mocov3" becomes "MoCo v3"; other names stay as they are."""
    return next((known for known in (*METHODS, *OTHER_METHODS) if same_name(known, name)), name)
