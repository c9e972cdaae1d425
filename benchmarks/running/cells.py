"""Carrying out one cell: its key, whether it is done, the run itself, and its record."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from backbones.errors import InputError
from backbones.images.folders import find_images, fingerprint
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.mae.pretraining import PretrainingRecipe, pretrain
from backbones.registry import BackboneEntry, normalisation_of
from backbones.training.job import Outcome, check_batch_size
from backbones.training.machine import process_rank
from backbones.training.measuring import begin_run, run_seconds
from backbones.training.settings import Recipe, deciding_settings, protocol
from backbones.training.step_images import step_deviations, step_notes
from backbones.weights.checkpoints import Checkpoint, file_sha256, read_checkpoint
from backbones.weights.origin import Declared
from benchmarks.planning.cells import PlannedCell, find_planned_backbone, plan_pretraining, plan_task
from benchmarks.planning.names import given, place_of, settle_names
from benchmarks.running.claim import claimed
from benchmarks.running.collecting import collect_run, is_collected, warn
from benchmarks.running.renaming import rename
from benchmarks.running.repeating import Code, Repeat, Standing, find_standing
from benchmarks.running.starting import note_code, settle_precision, tell
from benchmarks.running.writing import write_record, write_text
from results import (
    Metric,
    Record,
    ResultsError,
    cell_key,
    environment,
    run_directory,
)
from results.expectation import with_expected
from tasks.datasets.identity import Contents, NamedData
from tasks.intervals import metrics_with_intervals
from tasks.outcome import TaskOutcome
from tasks.registry import TASKS, name_data_set, pretraining_name

ONCE = Repeat()


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

    recipe:   with the precision that this run began with
    digest:   the plan's
    standing: whether it has finished, and which of the cell's runs it is
    """

    plan: PlannedCell
    recipe: Recipe
    data: NamedData
    normalisation: Normalisation
    key: str
    digest: str
    code: Code
    standing: Standing
    notes: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """The run's."""
        return self.standing.directory


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a backbone's weights came from, as the record tells of it.

    checkpoint is the file's name, model the table's column, declared what the call gave of these names, load_report
    what became of each weight of the checkpoint, parameters how many the encoder has.
    """

    method: str
    pretrain_data: str
    model: str
    arch: str
    checkpoint: str
    checkpoint_sha256: str | None
    declared: dict[str, str] = field(default_factory=dict)
    load_report: dict[str, Any] | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """What a run measured: its metrics, percentages by class, and evaluation images that were left out, with why.

    images: how many the data set has to evaluate on, None where nothing is evaluated
    """

    metrics: list[Metric]
    images: int | None = None
    table: str = ""
    per_class: Mapping[str, float] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def run_pretraining(
    recipe: str, data: Path, out: Path, *, seed: int, overrides: list[str], repeat: Repeat = ONCE
) -> FinishedCell:
    """Pre-train, or go on, or find it done. Raises InputError for anything wrong with the call or its input."""
    plan = plan_pretraining(recipe, data, seed=seed, overrides=overrides)
    settings = plan.recipe
    assert isinstance(settings, PretrainingRecipe)
    contents = _unlabelled(data)
    cell = _cell(plan, contents, None, settings.model.normalisation or IMAGENET, out, Code.of(), repeat)
    if finished := _already_finished(cell, out):
        return finished
    check_batch_size(settings, contents.train_images)
    with _claimed(cell, out) as remarks:
        pretrain_data = pretraining_name(cell.data.name)
        assert isinstance(cell.recipe, PretrainingRecipe)
        model = pretrain(cell.recipe, data, cell.directory, seed=seed, pretrain_data=pretrain_data)
        origin = WeightsOrigin(
            method="MAE",
            pretrain_data=pretrain_data,
            model=settings.model.arch,
            arch=settings.model.arch,
            checkpoint=model.encoder.name,
            checkpoint_sha256=file_sha256(model.encoder),
            parameters=model.parameters,
        )
        metric = Metric(name="reconstruction_loss", value=model.outcome.train_loss, split="train")
        return _finish(cell, out, origin, Evaluated([metric], notes=tuple(remarks)), model.outcome)


def run_task(
    recipe: str,
    data: Path,
    backbone: str,
    out: Path,
    *,
    seed: int,
    overrides: list[str],
    declared: Declared | None = None,
    repeat: Repeat = ONCE,
) -> FinishedCell:
    """Fine-tune and evaluate, or go on, or find it done; a finished run takes other names that are declared.

    Raises InputError for a wrong call or input.
    """
    plan = plan_task(recipe, data, backbone, seed=seed, overrides=overrides, declared=declared)
    checkpoint = read_checkpoint(plan.checkpoint) if plan.checkpoint else None
    entry, plan = find_planned_backbone(plan)
    settings: Any = plan.recipe
    task = TASKS[settings.task]
    contents = task.module("task").identify_data(settings, data)
    normalisation = normalisation_of(
        entry, checkpoint, task.name, settings.model.normalisation, plan.declared, spell=pretraining_name
    )
    sha256 = checkpoint.sha256 if checkpoint else None
    cell = _cell(plan, contents, sha256, normalisation, out, Code.of(entry), repeat)
    if finished := _already_finished(cell, out):
        return _renamed(finished, cell, entry, checkpoint, out)
    origin = settle_names(plan, entry, checkpoint)
    check_batch_size(settings, contents.train_images)
    with _claimed(cell, out) as remarks:
        outcome: TaskOutcome = task.module("task").fine_tune(
            cell.recipe, data, plan.backbone, checkpoint, cell.directory, seed=seed, normalisation=normalisation
        )
        if process_rank() == 0:
            _write_per_image(cell.directory, outcome)
        evaluated = Evaluated(
            metrics=metrics_with_intervals(outcome),
            images=contents.evaluation_images,
            table=task.table_of(cell.data.name),
            per_class=outcome.per_class,
            unreadable=outcome.unreadable,
            notes=(*origin.remarks, *remarks, *outcome.notes),
        )
        weights = WeightsOrigin(
            method=origin.method,
            pretrain_data=origin.pretrain_data,
            model=origin.model,
            arch=entry.arch,
            checkpoint=plan.checkpoint.name if plan.checkpoint else "",
            checkpoint_sha256=sha256,
            declared=given(plan.declared),
            load_report=asdict(outcome.load_report) if outcome.load_report else None,
            parameters=outcome.parameters,
        )
        return _finish(cell, out, weights, evaluated, outcome.training)


def _unlabelled(data: Path) -> Contents:
    """What tells which data set the images below `data` are. Raises InputError if there are none."""
    paths = find_images(data)
    return Contents(len(paths), evaluation_images=None, classes=None, fingerprint=fingerprint(paths, data))


def _cell(
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
    recipe = decided["recipe"] | {"dataset": data.name}
    key = cell_key(decided | {"recipe": recipe, "data": data.fingerprint})
    first = run_directory(out, plan.recipe.task, data.name, plan.backbone, plan.seed, key)
    identity = (data.name, data.fingerprint)
    standing = find_standing(first, repeat, code, lambda: plan.find_earlier(out, decided, identity, warn))
    precision, notes = settle_precision(plan.recipe, standing.directory)
    return Cell(
        plan,
        plan.recipe.model_copy(update={"precision": precision}),
        data,
        normalisation,
        key,
        cell_key(decided),
        code,
        standing,
        notes,
    )


def _already_finished(cell: Cell, out: Path) -> FinishedCell | None:
    record = cell.standing.finished
    if record is None:
        return None
    if process_rank() == 0 and not is_collected(out, record):
        _collect(out, record)
    return FinishedCell(cell.directory, record, skipped=True, changes=cell.standing.changes)


def _renamed(
    finished: FinishedCell, cell: Cell, entry: BackboneEntry, checkpoint: Checkpoint | None, out: Path
) -> FinishedCell:
    """Write the names that are declared into the record of a finished run, if it stands under others."""
    before = finished.record
    named = rename(before, cell.plan, entry, checkpoint)
    if named is before:
        return finished
    record = with_expected(named, cell.plan.recipe_deviations)
    if process_rank() == 0:
        write_record(finished.directory, record)
        _collect(out, record)
    return replace(finished, record=record, renamed=place_of(before))


@contextmanager
def _claimed(cell: Cell, out: Path) -> Iterator[list[str]]:
    """The run's directory for this call alone, from which on time and memory are the run's.

    Gives what its record has to note of how it goes on.
    """
    text = yaml.safe_dump(cell.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with claimed(cell.directory, out, text):
        begin_run()
        remarks = [*cell.notes, *note_code(cell.directory, cell.code)]
        tell(cell.directory, remarks)
        yield remarks


def _collect(out: Path, record: Record) -> None:
    """Renew results.csv for a finished run, which nothing that goes wrong with that file spoils."""
    try:
        collect_run(out, record)
    except (InputError, ResultsError, OSError) as error:
        print(f"backbench: {error}", file=sys.stderr)


def _write_per_image(directory: Path, outcome: TaskOutcome) -> None:
    outcome.write(directory)
    if outcome.per_image:
        frame = pd.DataFrame({"image": outcome.image_names, **outcome.per_image})
        write_text(directory / "per_image.csv", frame.to_csv(index=False))


def _finish(cell: Cell, out: Path, origin: WeightsOrigin, evaluated: Evaluated, training: Outcome) -> FinishedCell:
    unreadable = {**training.corrupt, **evaluated.unreadable}
    settings = cell.recipe.model_dump(mode="json")
    steps = training.step_images[-1] if training.step_images else None
    record = Record(
        table=evaluated.table,
        task=cell.recipe.task,
        dataset=cell.data.name,
        metrics=evaluated.metrics,
        backbone=cell.plan.backbone,
        normalisation=cell.normalisation.as_dict(),
        seed=cell.plan.seed,
        recipe=cell.plan.recipe_name,
        recipe_settings=settings,
        protocol=protocol(deciding_settings(cell.recipe)),
        deviations=[*cell.plan.deviations, *step_deviations(training.step_images, cell.recipe.optimizer.batch_size)],
        key=cell.key,
        plan=cell.digest,
        run=cell.standing.run,
        train_loss=training.train_loss,
        per_class=dict(evaluated.per_class),
        data_fingerprint=cell.data.fingerprint,
        evaluation_images=evaluated.images,
        corrupt_images=[f"{path}: {why}" for path, why in sorted(unreadable.items())],
        train_images_per_second=training.images_per_second,
        peak_memory_mb=training.peak_memory_mb,
        wall_seconds=training.seconds,
        evaluation_seconds=training.evaluation_seconds,
        total_seconds=training.earlier_seconds + run_seconds(),
        cuda=training.cuda,
        driver=training.driver,
        world_size=training.processes,
        images_per_step=steps.per_step if steps else None,
        batch_norm_images=steps.batch_norm if steps else None,
        mixup_images=steps.mixup if steps else None,
        precision=training.precision,
        notes=[*cell.data.notes, *evaluated.notes, *step_notes(training.step_images)],
        **vars(origin),
        **vars(cell.code),
        **environment(training.device),
    )
    record = with_expected(record, cell.plan.recipe_deviations)
    if process_rank() == 0:
        write_record(cell.directory, record)
        _collect(out, record)
    return FinishedCell(cell.directory, record, skipped=False, changes=cell.standing.changes)
