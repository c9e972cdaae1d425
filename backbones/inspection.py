"""What a checkpoint is, which backbones it fits, and what would become of each of its weights."""

from dataclasses import dataclass
from functools import cache
from typing import cast

import timm
import torch
from torch import nn

from backbones.errors import InputError
from backbones.registry import BackboneEntry, Build, create_backbone, find_backbone, list_backbones
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import LoadReport, match_weights
from backbones.weights.methods import Method
from backbones.weights.recognition import Recognised, recognise


@dataclass(frozen=True)
class CheckpointDescription:
    """All that `backbench inspect` has to say.

    checkpoint: the file: its path, sha256, size, container, tensors and what lies beside them
    recognised: what it seems to be
    fits:       names of registered backbones that it loads into strictly, position embeddings interpolated if need be
    report:     what would become of each weight in the backbone that was asked about; None if none was
    """

    checkpoint: Checkpoint
    recognised: Recognised
    fits: tuple[str, ...]
    report: LoadReport | None


def describe(checkpoint: Checkpoint, name: str | None = None) -> CheckpointDescription:
    """Say what a checkpoint is and where it fits; with a backbone's name, what loading it there would do.

    Raises InputError, as `create_backbone` does, if it does not load into the backbone of that name.
    """
    recognised = recognise(checkpoint.state_dict)
    report = None if name is None else cast(LoadReport, create_backbone(name, checkpoint).load_report)
    return CheckpointDescription(checkpoint, recognised, _fitting(checkpoint, recognised), report)


def _fitting(checkpoint: Checkpoint, recognised: Recognised) -> tuple[str, ...]:
    """Try the registered backbones that take a checkpoint, then timm's model of the recognised size."""
    entries = [entry for entry in list_backbones() if entry.needs_checkpoint]
    if recognised.timm_name and timm.is_model(recognised.timm_name):
        entries.append(find_backbone(recognised.timm_name, with_checkpoint=True))
    return tuple(entry.name for entry in entries if _fits(checkpoint, entry))


def _fits(checkpoint: Checkpoint, entry: BackboneEntry) -> bool:
    try:
        match_weights(_outline(entry.build), checkpoint, Method(entry.method, entry.pretrain_data, entry.steps))
    except InputError:
        return False
    return True


@cache
def _outline(build: Build) -> nn.Module:
    """Build a backbone without memory for its weights: names and shapes only."""
    with torch.device("meta"):
        return build(None, 0.0)
