"""Before a cell is carried out: its data, its key, whether it has finished, and which of its runs this is."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backbones.cache import found_anew
from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.normalising import normalisation_of
from backbones.pretraining.images import require_outside
from backbones.pretraining.settings import PretrainingRecipe
from backbones.registry import BackboneEntry
from backbones.trained.file import WEIGHTS, read_description
from backbones.training.checkpointing import forget_checkpoints
from backbones.training.job import check_batch_size
from backbones.training.settings import Recipe, TrainingRecipe
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.origin import Declared, Origin
from benchmarks.planning.cells import PlannedCell, find_planned_backbone, plan_pretraining, plan_task
from benchmarks.planning.names import place_of, settle_names
from benchmarks.running.claim import claimed
from benchmarks.running.collecting import collect_run, is_collected, warn
from benchmarks.running.foreseeing import identify_images
from benchmarks.running.of_suite import tell_directory
from benchmarks.running.renaming import rename
from benchmarks.running.repeating import Code, Repeat, Standing, find_standing
from benchmarks.running.same_part import named_as_before
from benchmarks.running.writing import write_record
from results import Record, ResultsError, cell_key, read_record, run_directory
from results.expectation import with_expected
from tasks.data_sets import name_data_set, pretraining_name
from tasks.datasets.identity import Contents, NamedData
from tasks.registry import TASKS


@dataclass(frozen=True)
class FinishedCell:
    """A cell's directory and record, and whether this call had anything left to do.

    renamed: where the finished run stood in the tables until this call, if it stands elsewhere now
    changes: what is not as it was for the latest finished run, a line each
    """

    directory: Path
    record: Record
    skipped: bool
    renamed: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """All that decides one run, and where it lies.

    recipe:   with the precision as written, until the run begins or goes on
    digest:   the plan's
    standing: whether it has finished, and which of the cell's runs it is
    origin:   where its weights come from, None of a pre-training
    arch:     the backbone's architecture
    sha256:   of the file of its weights, or of those that a pre-training begins with, if any
    """

    plan: PlannedCell
    recipe: Recipe
    contents: Contents
    data: NamedData
    normalisation: Normalisation
    key: str
    digest: str
    code: Code
    standing: Standing
    origin: Origin | None = None
    arch: str = ""
    sha256: str | None = None

    @property
    def directory(self) -> Path:
        """The run's."""
        return self.standing.directory


def prepare_pretraining(
    recipe: str,
    data: Path,
    out: Path,
    *,
    seed: int,
    overrides: list[str],
    begin: Path | None,
    repeat: Repeat,
    rescan: bool,
) -> Cell | FinishedCell:
    """Find out what a pre-training is, or that it has finished. Raises InputError for a wrong call or input."""
    plan = plan_pretraining(recipe, data, seed=seed, overrides=overrides, begin=begin)
    require_outside(data, out)
    settings = plan.recipe
    assert isinstance(settings, PretrainingRecipe)
    checkpoint = read_checkpoint(plan.checkpoint, part=plan.part) if plan.checkpoint else None
    sha256 = checkpoint.sha256 if checkpoint else None
    with found_anew(rescan):
        contents = identify_images(data)
    cell = make_cell(plan, contents, sha256, plan.normalisation, out, Code.of_pretraining(settings), repeat)
    if finished := already_finished(cell, out):
        return finished
    check_batch_size(settings, contents.train_images or 0)
    plan.require_beginning(checkpoint)
    return cell


def prepare_task(
    recipe: str,
    data: Path,
    backbone: str,
    out: Path,
    *,
    seed: int,
    overrides: list[str],
    declared: Declared | None,
    repeat: Repeat,
    rescan: bool,
) -> Cell | FinishedCell:
    """Find out what a fine-tuning is, or that it has finished; a finished one takes other names that are declared.

    Raises InputError for a wrong call or input.
    """
    plan = plan_task(recipe, data, backbone, seed=seed, overrides=overrides, declared=declared)
    checkpoint = read_checkpoint(plan.checkpoint, part=plan.part) if plan.checkpoint else None
    entry, plan = find_planned_backbone(plan, checkpoint)
    settings: Any = plan.recipe
    task = TASKS[settings.task]
    with found_anew(rescan):
        contents = task.module("task").identify_data(settings, data)
    named = name_data_set(settings.dataset, plan.data, contents)
    plan, checkpoint = named_as_before(plan, entry, checkpoint, out, (named.name, named.fingerprint))
    normalisation = normalisation_of(
        entry, checkpoint, task.name, settings.model.normalisation, plan.declared, spell=pretraining_name
    )
    sha256 = checkpoint.sha256 if checkpoint else None
    cell = make_cell(plan, contents, sha256, normalisation, out, Code.of(entry), repeat)
    if finished := already_finished(cell, out):
        return _renamed(finished, cell, entry, checkpoint, out)
    if isinstance(settings, TrainingRecipe):
        check_batch_size(settings, contents.train_images or 0)
    return replace(cell, origin=settle_names(plan, entry, checkpoint), arch=entry.arch)


def make_cell(
    plan: PlannedCell,
    contents: Contents,
    sha256: str | None,
    normalisation: Normalisation,
    out: Path,
    code: Code,
    repeat: Repeat,
) -> Cell:
    """Make the key, and find out which of its runs this is."""
    data = name_data_set(plan.recipe.dataset, plan.data, contents)
    decided = plan.decided_by(sha256, normalisation)
    key = plan.key_on(decided, data.name, data.fingerprint)
    first = run_directory(out, plan.recipe.task, data.name, plan.backbone, plan.seed, key)
    identity = (data.name, data.fingerprint)
    standing = find_standing(first, repeat, code, lambda: plan.find_earlier(out, decided, identity, warn))
    return Cell(
        plan,
        plan.recipe,
        contents,
        data,
        normalisation,
        key,
        cell_key(decided),
        code,
        standing,
        sha256=sha256,
    )


def already_finished(cell: Cell, out: Path) -> FinishedCell | None:
    """What a call finds where there is nothing to do, collected; else None."""
    record = cell.standing.finished
    if record is None:
        return None
    if cell.recipe.runtime.keep_checkpoints == 0 and read_description(cell.directory / WEIGHTS):
        forget_checkpoints(cell.directory)  # a call that ended before it could
    if not is_collected(out, record):
        collect_anyway(out, record)
    tell_directory(cell.directory, out, cell.plan.data)
    return FinishedCell(cell.directory, record, skipped=True, changes=cell.standing.changes)


def _renamed(
    finished: FinishedCell, cell: Cell, entry: BackboneEntry, checkpoint: Checkpoint | None, out: Path
) -> FinishedCell:
    """Write the names that are declared into the record of a finished run, if it stands under others."""

    def named(record: Record) -> Record:
        return rename(record, cell.plan, entry, checkpoint)

    if named(finished.record) is finished.record:
        return finished
    with claimed(finished.directory, out, begin=lambda: None):
        before = read_record(finished.directory)  # another call may have renamed it too
        record = with_expected(named(before), cell.plan.recipe_deviations)
        write_record(finished.directory, record)
    collect_anyway(out, record)
    return replace(finished, record=record, renamed=place_of(before))


def collect_anyway(out: Path, record: Record) -> None:
    """Renew results.csv for a finished run, which nothing that goes wrong with that file spoils."""
    try:
        collect_run(out, record)
    except (InputError, ResultsError, OSError) as error:
        print(f"backbench: {error}", file=sys.stderr)
