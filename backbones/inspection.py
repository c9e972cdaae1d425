"""What a checkpoint is, which backbones it fits, and what would become of each of its weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

import timm
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.registry import BackboneEntry, Build, create_backbone, find_backbone, list_backbones
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.loading import LoadReport, is_finite, match_weights, prepare_for_pyramid
from backbones.weights.methods import Method
from backbones.weights.origin import Origin, find_known, settle_origin
from backbones.weights.patches import has_pyramids_patches
from backbones.weights.prefixes import known_parts, looks_of
from backbones.weights.published import PublishedFile
from backbones.weights.recognition import Recognised, recognise
from backbones.weights.statements import Statement, read_statement


@dataclass(frozen=True)
class Part:
    """A network in a file, by the name that chooses it: its size, what it seems to be, and what it fits."""

    name: str
    tensors: int
    numbers: int
    recognised: Recognised
    fits: tuple[str, ...]


@dataclass(frozen=True)
class CheckpointDescription:
    """All that `backbench inspect` has to say.

    checkpoint: the file: its path, sha256, size, container, tensors and what lies beside them
    recognised: what it seems to be
    statement:  what it says of itself
    published:  the published file that it is, byte for byte, if it is a known one
    undefined:  the names of its tensors that hold infinite or undefined numbers
    parts:      where there are several networks in it, or one under names that no code base is known for: each
    fits:       names of registered backbones that it loads into strictly, position embeddings interpolated if need be,
                and whose method it does not contradict; with the tasks in brackets if not for all of them
    report:     what would become of each weight in the backbone that was asked about; None if none was
    origin:     the method, data and column that its numbers would stand for in that backbone
    """

    checkpoint: Checkpoint
    recognised: Recognised
    statement: Statement
    published: PublishedFile | None
    undefined: tuple[str, ...]
    parts: tuple[Part, ...]
    fits: tuple[str, ...]
    report: LoadReport | None
    origin: Origin | None


def describe(
    checkpoint: Checkpoint, name: str | None = None, spell: Callable[[str], str] = str
) -> CheckpointDescription:
    """Say what a checkpoint is and where it fits; with a backbone's name, what loading it there would do.

    `spell` gives the tables' name of a data set.

    Raises InputError if it does not load into the backbone of that name, as `create_backbone` does, or contradicts its
    method.
    """
    report, origin = None, None
    if name is not None:
        report = cast(LoadReport, create_backbone(name, checkpoint, for_pyramid=True).load_report)
        origin = settle_origin(find_backbone(name, with_checkpoint=True), checkpoint, spell=spell)
    recognised = looks_of(checkpoint)
    undefined = _undefined(checkpoint)
    return CheckpointDescription(
        checkpoint,
        recognised,
        read_statement(checkpoint),
        find_known(checkpoint),
        undefined,
        _parts(checkpoint),
        _fitting(checkpoint, recognised, {*undefined}),
        report,
        origin,
    )


def _parts(checkpoint: Checkpoint) -> tuple[Part, ...]:
    """The networks in a file, unless it holds a single one where the common code bases have it."""
    known = [*known_parts(checkpoint)]
    if len(known) < 2 and recognise(checkpoint.state_dict, checkpoint.grid).family is not None:
        return ()
    return tuple(
        Part(part.part, len(part.state_dict), part.parameters, looks, _fitting(part, looks, {*_undefined(part)}))
        for part, looks in known
    )


def _undefined(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The keys of the file whose tensors hold infinite or undefined numbers."""
    return tuple(checkpoint.prefix + name for name, tensor in checkpoint.state_dict.items() if not is_finite(tensor))


def _fitting(checkpoint: Checkpoint, recognised: Recognised, undefined: set[str]) -> tuple[str, ...]:
    """Try the registered backbones that take a checkpoint, then timm's model of the recognised size."""
    entries = [entry for entry in list_backbones() if entry.needs_checkpoint]
    if recognised.timm_name and timm.is_model(recognised.timm_name):
        entries.append(find_backbone(recognised.timm_name, with_checkpoint=True))
    return tuple(name for entry in entries if (name := _fit(checkpoint, entry, undefined)))


def _fit(checkpoint: Checkpoint, entry: BackboneEntry, undefined: set[str]) -> str | None:
    """The name of the backbone if it takes the checkpoint's weights, none `undefined`, and the methods agree."""
    method = Method(entry.method, entry.pretrain_data, entry.steps)
    try:
        settle_origin(entry, checkpoint)
    except InputError:
        return None
    outline = _outline(entry.build)
    if _matches(outline, checkpoint, method, undefined):
        return entry.name
    if has_pyramids_patches(outline):
        return None
    outline = copy.deepcopy(outline)
    if prepare_for_pyramid(outline, checkpoint, method) and _matches(outline, checkpoint, method, undefined):
        return f"{entry.name} (detection and segmentation)"
    return None


def weights_for(entry: BackboneEntry, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names of a backbone that is only outlined. Raises InputError if they do not fit,
    or if the backbone cannot be built without memory for its weights."""
    try:
        outline = _outline(entry.build)
    except Exception as error:  # another author's model can fail in any way
        raise InputError(f"{entry.name}: building it without memory for its weights failed.") from error
    weights, _ = match_weights(outline, checkpoint, Method(entry.method, entry.pretrain_data, entry.steps))
    return weights.tensors


def _matches(outline: nn.Module, checkpoint: Checkpoint, method: Method, undefined: set[str]) -> bool:
    try:
        _, report = match_weights(outline, checkpoint, method)
    except InputError:
        return False
    return not any(undefined.intersection(keys) for keys in report.used.values())


@cache
def _outline(build: Build) -> nn.Module:
    """Build a backbone without memory for its weights: names and shapes only."""
    with torch.device("meta"):
        return build(None, 0.0)
