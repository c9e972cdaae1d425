"""How the tensors of others' UPerNets are named, on their way to the names of a `Segmentor`.

Two code bases name them: BEiT's segmentation code (microsoft/unilm, beit/semantic_segmentation/backbone/beit.py), which
implus/mae_segmentation follows (backbone/mae.py); and mmsegmentation (models/backbones/mae.py and beit.py,
models/necks/featurepyramid.py). The heads are mmsegmentation's in all of them, and so they are here.
"""

import re
from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.trained.loading import Step
from backbones.weights.conversion import Weights

LOGITS = "decode_head.conv_seg"
AUXILIARY = "auxiliary_head."

_TRUNK = "backbone.pyramid.trunk."
_LEVELS = "backbone.pyramid.levels."
_TABLE = "relative_position_bias_table"

_OF_MMSEG = (
    (r"backbone\.patch_embed\.projection\.", "backbone.patch_embed.proj."),
    (r"backbone\.layers\.(\d+)\.ln([12])\.", r"backbone.blocks.\1.norm\2."),
    (r"backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.", r"backbone.blocks.\1.mlp.fc1."),
    (r"backbone\.layers\.(\d+)\.ffn\.layers\.1\.", r"backbone.blocks.\1.mlp.fc2."),
    (r"backbone\.layers\.", "backbone.blocks."),
)


def take_off_wrapper(weights: Weights, network: nn.Module) -> None:
    """Remove what DistributedDataParallel puts before every name."""
    weights.rename(r"module\.", "")


def from_mmsegmentation(weights: Weights, network: nn.Module) -> None:
    """To the names of BEiT's code: `layers` to `blocks`, and the neck's layers to the backbone's `fpn`.

    Where patches have 8 pixels, the finest map takes one layer only, and the neck has no `upsample_4x`.
    """
    if not weights.names(r"backbone\.layers\."):
        return
    for pattern, replacement in _OF_MMSEG:
        weights.rename(pattern, replacement)
    finest = 4 if weights.names(r"neck\.upsample_4x\.") else 2
    for map_number, scale in enumerate((4, 2) if finest == 4 else (2,), 1):
        weights.rename(rf"neck\.upsample_{scale}x\.", f"backbone.fpn{map_number}.")


def from_beits_code(weights: Weights, network: nn.Module) -> None:
    """To a `Segmentor`'s names. Positions that blocks share become each block's own."""
    index = [name for name in weights.tensors if name.endswith("relative_position_index")]
    weights.drop(index, "computed from the image size")
    _spread_shared_table(weights)
    own = network.state_dict().keys()
    for map_number in range(4):
        weights.rename(rf"backbone\.fpn{map_number + 1}\.", f"{_LEVELS}{map_number}.")
    weights.rename(r"backbone\.(?!pyramid\.)", _TRUNK)
    block = rf"({re.escape(_TRUNK)}blocks\.\d+\.)"
    weights.rename(rf"{block}attn\.{_TABLE}", rf"\1attn.attend.{_TABLE}")
    weights.rename(rf"{block}attn\.(?!attend\.)", r"\1attn.attention.")
    if f"{_TRUNK}blocks.0.gamma_1" not in own:
        weights.rename(rf"{block}gamma_([12])$", r"\1ls\2.gamma")


def _spread_shared_table(weights: Weights) -> None:
    shared = f"backbone.rel_pos_bias.{_TABLE}"
    if shared not in weights.tensors:
        return
    blocks = {found[1] for name in weights.tensors if (found := re.match(r"backbone\.blocks\.(\d+)\.", name))}
    for block in sorted(blocks, key=int):
        name = f"backbone.blocks.{block}.attn.{_TABLE}"
        weights.make(name, weights.tensors[shared], [shared], "this block's copy of the shared table")
    weights.remove_joined([shared])


def require_class_count(weights: Weights, network: Any) -> None:
    """Raise InputError unless the heads have as many outputs as the data have classes."""
    for head in (name for name in weights.tensors if name.endswith("conv_seg.weight")):
        outputs, classes = len(weights.tensors[head]), network.num_classes
        if outputs != classes:
            raise InputError(
                f"labels {outputs:,} classes ({head}), and the data have {classes:,}. Give the data set that it was "
                "trained on"
            )


def allow_no_auxiliary_head(weights: Weights, network: nn.Module) -> None:
    """A file may lack the auxiliary head, which only training looks at."""
    if not weights.names(re.escape(AUXILIARY)):
        lacking = (name for name in network.state_dict() if name.startswith(AUXILIARY))
        weights.initialised.update(dict.fromkeys(lacking, "the file has no auxiliary head; evaluation needs none"))


def norms_of(epsilon: float | None) -> Step | None:
    """What gives the trunk's norms another epsilon, which no tensor tells; None for none."""
    if epsilon is None:
        return None

    def change(weights: Weights, network: Any) -> None:
        for module in network.pyramid.trunk.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = epsilon

    return change
