"""A part of a file that a finished run chose by another name.

`FILE::teacher` may load what `FILE::teacher.backbone` does. Both are one run, and stand in one row: that of the name
that was first.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from backbones.entries import BackboneEntry
from backbones.errors import InputError
from backbones.inspection import weights_for
from backbones.training.machine import process_rank
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.references import SEPARATOR
from benchmarks.planning.cells import PlannedCell
from benchmarks.running.collecting import warn
from results import find_runs


def named_as_before(
    plan: PlannedCell, entry: BackboneEntry, checkpoint: Checkpoint | None, out: Path
) -> tuple[PlannedCell, Checkpoint | None]:
    """The plan and its weights under the name by which a finished run below `out` chose the same tensors.

    They come back as they are where there is no such run, or where one has the plan's own name. Says so once where the
    name changes.
    """
    if checkpoint is None or not plan.part:
        return plan, checkpoint
    runs = find_runs(out, plan.recipe.task, plan.backbone, None, on_unreadable=warn)
    names = {record.checkpoint_part for _, record in runs if record.checkpoint_sha256 == checkpoint.sha256}
    if plan.part in names:
        return plan, checkpoint
    for name in sorted(each for each in names if each and _is_one_within_the_other(each, plan.part)):
        other = read_checkpoint(checkpoint.path, checkpoint.sha256, name)
        if _load_the_same(entry, checkpoint, other):
            if process_rank() == 0:
                told = f"{checkpoint.name} loads what {SEPARATOR}{name} does, and stands as that"
                print(f"backbench: {told}: a finished run has the name", file=sys.stderr)
            return replace(plan, part=name), other
    return plan, checkpoint


def _is_one_within_the_other(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _load_the_same(entry: BackboneEntry, one: Checkpoint, other: Checkpoint) -> bool:
    """Whether a backbone gets the same numbers from both; not where that cannot be told without building it."""
    try:
        mine, yours = weights_for(entry, one), weights_for(entry, other)
    except InputError:
        return False
    return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)
