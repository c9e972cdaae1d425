"""What can be told of a file of weights against the method whose name it is loaded under.

A name chosen by mistake still loads where the shapes agree, and its number then stands under another method.
"""

from collections.abc import Callable
from typing import Protocol

import timm
import torch
from torch import nn

from backbones.errors import InputError
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.methods import same_name
from backbones.weights.positions import Positions
from backbones.weights.published import PublishedFile
from backbones.weights.recognition import Recognised
from backbones.weights.statements import Statement

_MOCO_SMALL = (384, 12)
"""Width and attention heads of MoCo v3's ViT-S (facebookresearch/moco-v3, vits.py, lines 45-48); timm's has 6."""

_POSITIONS: dict[str, tuple[Positions, ...]] = {
    "MAE": ("column first",),
    "MoCo v3": ("row first",),
    "supervised": ("learned",),
    "DINO": ("learned",),
    "iBOT": ("learned",),
    "DINOv2": ("learned",),
    "MSN": ("learned",),
    "CLIP": ("learned",),
    "I-JEPA": ("column first",),
}
_NAMED_ALIKE = {"iBOT": "DINO", "DINOv2": "DINO", "data2vec": "BEiT", "SimMIM": "BEiT"}
"""Methods whose code began as another's, and whose tensors are named as that one's."""

_LOOKS: dict[Positions, str] = {
    "column first": "its position embeddings are fixed sin-cos ones, the column first as in MAE's",
    "row first": "its position embeddings are fixed sin-cos ones, the row first as in MoCo v3's",
    "learned": "its position embeddings are learned as in supervised training or DINO, no fixed sin-cos ones",
}

# How timm's names of a method's architectures begin; supervised training is of any.
_ARCHITECTURES = {
    **dict.fromkeys(("MAE", "MoCo v3", "DINO", "iBOT", "DINOv2", "MSN", "CLIP", "I-JEPA"), "vit_"),
    **dict.fromkeys(("BEiT", "data2vec", "SimMIM"), "beit_"),
}

GOOGLES_CLASSES = 21_843
# Outputs of a classifier of all of ImageNet, as BEiT and as Google count its classes, and of its winter 2021 selection.
_ALL_OF_IMAGENET = {21_841, GOOGLES_CLASSES, 11_221}
_LABELLED = {"supervised": "IN21K w/ labels", "BEiT": "IN22K+DALLE, then IN22K w/ labels"}


class NamedBackbone(Protocol):
    """What is needed of the registry's entry (backbones/registry.py, BackboneEntry)."""

    @property
    def name(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def pretrain_data(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def build(self) -> Callable[[int | None, float], nn.Module]: ...


def find_contradictions(
    method: str,
    recognised: Recognised,
    statement: Statement,
    published: PublishedFile | None,
) -> list[str]:
    """Return what speaks against `method`, in words, the surest first.

    Whoever says it of the file is believed before its looks. Of "custom" nothing can be contradicted, and of a method
    that is not known here only what is said.
    """
    if same_name(method, "custom"):
        return []
    if statement.method:
        return [] if same_name(statement.method, method) else [str(statement)]
    if published:
        known = f"it is {published.name}, byte for byte, which is {published.method}'s"
        return [] if same_name(published.method, method) else [known]
    found = []
    expected = next((known for known in (*_POSITIONS, *_NAMED_ALIKE, "BEiT") if same_name(known, method)), None)
    architecture = statement.architecture
    if architecture and not architecture.startswith(_ARCHITECTURES.get(expected or "", "")):
        found.append(f"{statement.who} architecture {architecture}, which is none of {expected}'s")
    if expected and recognised.method not in (None, expected, _NAMED_ALIKE.get(expected)):
        found.append(f"its tensors are named as {recognised.method}'s")
    if expected in _POSITIONS and recognised.positions and recognised.positions not in _allowed(expected, recognised):
        found.append(_LOOKS[recognised.positions])
    return found


def _allowed(method: str, recognised: Recognised) -> tuple[Positions, ...]:
    """mmpretrain's own MAE has its axes in MoCo v3's order."""
    also: tuple[Positions, ...] = ("row first",) if method == "MAE" and recognised.naming == "mmpretrain" else ()
    return (*_POSITIONS[method], *also)


def label_data(method: str, recognised: Recognised | None) -> str | None:
    """The pre-training data that a classifier of all of ImageNet gives away: labels, and more than IN1K."""
    if recognised is None or recognised.classes not in _ALL_OF_IMAGENET:
        return None
    return _LABELLED.get(method)


def fine_tuning_data(classes: int | None) -> str:
    """What fine-tuned weights have seen after their pre-training, as `pretrain_data` goes on: labels, of ImageNet-1K's
    1,000 classes or of others."""
    return ", then IN1K w/ labels" if classes == 1000 else ", then labels"


def require_heads(entry: NamedBackbone, checkpoint: Checkpoint, recognised: Recognised, statement: Statement) -> None:
    """Raise InputError if MoCo v3's ViT-S is about to be loaded into timm's: twelve heads into six, in equal shapes."""
    width, heads = _MOCO_SMALL
    told = statement.method or recognised.method
    moco = same_name(told, "MoCo v3") if told else recognised.positions == "row first"
    if recognised.width != width or not moco or not timm.is_model(entry.arch):
        return
    with torch.device("meta"):
        model = entry.build(None, 0.0)
    attention = getattr(getattr(model, "blocks", [None])[0], "attn", None)
    found = getattr(attention, "num_heads", heads)
    if found != heads:
        raise InputError(
            f"{checkpoint.path}: by its own word, its names or its position embeddings it is MoCo v3's, whose "
            f"ViT-S has {heads} attention heads; {entry.name} has {found}. The weights would load "
            "and mean something else. Use --backbone mocov3_vit_small=FILE, or say which method made them: --method "
            "METHOD"
        )
