"""A part of a file that a finished run chose by another name.

`FILE::teacher` may load what `FILE::teacher.backbone` does. Both are one run, and stand in one row: that of the name
that finished first. A run that has begun by its own name goes on by it.
"""

import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from backbones.entries import BackboneEntry
from backbones.errors import InputError
from backbones.inspection import weights_for
from backbones.normalising import normalisation_of
from backbones.training.machine import process_rank
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.references import SEPARATOR
from benchmarks.planning.cells import PlannedCell
from benchmarks.running.collecting import warn
from results import find_runs, run_directory
from results.store import runs_of_cell
from tasks.data_sets import pretraining_name


def named_as_before(
    plan: PlannedCell,
    entry: BackboneEntry,
    checkpoint: Checkpoint | None,
    out: Path,
    data: tuple[str, str] | None = None,
) -> tuple[PlannedCell, Checkpoint | None]:
    """The plan and its weights under the name by which a finished run below `out` chose the same tensors.

    They come back as they are where there is no such run, where one has the plan's own name, and where the plan's own
    run has begun. Says so once where the name changes.

    data: the data set's name and fingerprint; a plan that has not looked at its data is taken to be on those of the
          finished runs
    """
    if checkpoint is None or not plan.part:
        return plan, checkpoint
    runs = find_runs(out, plan.recipe.task, plan.backbone, None, on_unreadable=warn)
    trained = [record for _, record in runs if not record.trained]
    records = [record for record in trained if record.checkpoint_sha256 == checkpoint.sha256]
    names = {record.checkpoint_part for record in records}
    identities = {data} if data else {(record.dataset, record.data_fingerprint) for record in records}
    if not names or plan.part in names or _has_begun(plan, entry, checkpoint, out, identities):
        return plan, checkpoint
    for name in sorted(each for each in names if each and _is_one_within_the_other(each, plan.part)):
        other = read_checkpoint(checkpoint.path, checkpoint.sha256, name)
        if _load_the_same(entry, checkpoint, other):
            if process_rank() == 0:
                told = f"{checkpoint.name} loads what {SEPARATOR}{name} does, and stands as that"
                print(f"backbench: {told}: a finished run has the name", file=sys.stderr)
            return replace(plan, part=name, weights=other), other
    return plan, checkpoint


def _has_begun(
    plan: PlannedCell, entry: BackboneEntry, checkpoint: Checkpoint, out: Path, identities: Collection[tuple[str, str]]
) -> bool:
    settings: Any = plan.recipe
    normalisation = normalisation_of(
        *(entry, checkpoint, settings.task, settings.model.normalisation, plan.declared), spell=pretraining_name
    )
    decided = plan.decided_by(checkpoint.sha256, normalisation)
    firsts = (
        run_directory(out, settings.task, name, plan.backbone, plan.seed, plan.key_on(decided, name, fingerprint))
        for name, fingerprint in identities
    )
    return any(runs_of_cell(first) for first in firsts)


def _is_one_within_the_other(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _load_the_same(entry: BackboneEntry, one: Checkpoint, other: Checkpoint) -> bool:
    """Whether a backbone gets the same numbers from both; not where that cannot be told without building it."""
    try:
        mine, yours = weights_for(entry, one), weights_for(entry, other)
    except InputError:
        return False
    return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)
