"""What a finished run leaves behind: its record, the weights, the results of single images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from backbones.forward_cost import ForwardCost
from backbones.trained.file import Description, write_weights
from backbones.training.checkpointing import forget_checkpoints
from backbones.training.evaluated import forget_evaluation
from backbones.training.measuring import run_seconds
from backbones.training.outcome import Outcome
from backbones.training.settings import Recipe, TrainingRecipe, protocol
from backbones.training.step_images import step_deviations, step_notes
from backbones.training.trackers.tracking import conclude
from benchmarks.planning.trained_runs import run_of
from benchmarks.running.of_suite import suite_name
from benchmarks.running.preparing import Cell, FinishedCell, collect_anyway
from benchmarks.running.writing import write_record, write_text
from results import Metric, Record, environment
from results.expectation import with_expected
from tasks.data_sets import pretraining_name
from tasks.intervals import metrics_with_intervals
from tasks.outcome import TaskOutcome
from tasks.registry import PRETRAINING, TASKS


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a backbone's weights came from, as the record tells of it.

    checkpoint is the file's name and checkpoint_part the part of it that was chosen, model the table's column,
    declared what the call gave of these names, load_report what became of each weight of the checkpoint, parameters how
    many the encoder has, gflops what a forward pass takes on an image of gflops_image_size pixels a side.
    """

    method: str
    pretrain_data: str
    model: str
    arch: str
    checkpoint: str
    checkpoint_sha256: str | None
    checkpoint_part: str = ""
    declared: dict[str, str] = field(default_factory=dict)
    load_report: dict[str, Any] | None = None
    parameters: int | None = None
    gflops: float | None = None
    gflops_image_size: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """What a run measured: its metrics, percentages by class, and evaluation images that were left out, with why.

    images:  how many the data set has to evaluate on, None where nothing is evaluated
    network: that the run trained, to be left in its directory; None where it only evaluated one
    published: the numbers that were published of the very weights that it evaluated, by metric
    classes: the names of its outputs
    class_ids: their numbers in the data, where those are others than their positions
    """

    metrics: list[Metric]
    images: int | None = None
    table: str = ""
    per_class: Mapping[str, float] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    network: nn.Module | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    classes: Sequence[str] = ()
    class_ids: Sequence[int] = ()


def evaluated_by(cell: Cell, outcome: TaskOutcome, remarks: Sequence[str]) -> Evaluated:
    """What a task's outcome says, with remarks on how it came about; `network` is the caller's to add."""
    task = TASKS[cell.recipe.task]
    return Evaluated(
        metrics=metrics_with_intervals(outcome),
        images=cell.contents.evaluation_images,
        table=task.table_of(cell.data.name),
        per_class=outcome.per_class,
        unreadable=outcome.unreadable,
        notes=(*remarks, *outcome.notes, *(outcome.cost.notes if outcome.cost else ())),
    )


def forward_cost_fields(cost: ForwardCost | None) -> dict[str, Any]:
    """The fields of `WeightsOrigin` that tell of it; none where it is not known."""
    if cost is None or cost.gflops is None:
        return {}
    return {"gflops": cost.gflops, "gflops_image_size": cost.image_size}


def write_per_image(directory: Path, outcome: TaskOutcome) -> None:
    """Leave the results of single images, and the task's own files, in the run's directory."""
    outcome.write(directory)
    if outcome.per_image:
        names = pd.Series(
            outcome.image_names, dtype=object
        )  # pyarrow, where it is installed, takes no foreign encoding
        frame = pd.DataFrame({"image": names, **outcome.per_image})
        write_text(directory / "per_image.csv", frame.to_csv(index=False))


def _note_changed_data(cell: Cell) -> list[str]:
    """What to tell of the first of the sampled files that is not as it was when this call began; nothing if all are."""
    for path, size in cell.contents.sample:
        try:
            found = Path(path).stat().st_size
        except OSError as error:
            return [f"the data changed while the run was at work: {path}: {error.strerror}"]
        if found != size:
            return [f"the data changed while the run was at work: {path} has {found:,} bytes, and had {size:,}"]
    return []


def finish_cell(cell: Cell, out: Path, origin: WeightsOrigin, evaluated: Evaluated, training: Outcome) -> FinishedCell:
    """Write weights and record, and collect the store's results; to be called by the first process alone.

    Raises ResultsError or InputError for what cannot be written.
    """
    record = _record_of(cell, origin, evaluated, training)
    record = with_expected(record, cell.plan.recipe_deviations, evaluated.published)
    if evaluated.network is not None:
        write_weights(cell.directory, evaluated.network, _description(record, evaluated))
    write_record(cell.directory, record)
    conclude({metric.name: metric.value for metric in record.metrics})
    forget_evaluation(cell.directory)
    if cell.recipe.runtime.keep_checkpoints == 0:
        forget_checkpoints(cell.directory)
    collect_anyway(out, record)
    return FinishedCell(cell.directory, record, skipped=False, changes=cell.standing.changes)


def _description(record: Record, evaluated: Evaluated) -> Description:
    """What stands in the header of the weights."""
    pretrain_data = record.pretrain_data
    if record.task != PRETRAINING:
        pretrain_data = f"{pretrain_data}, then {pretraining_name(record.dataset)} w/ labels"
    return Description(
        task=record.task,
        method=record.method,
        pretrain_data=pretrain_data,
        model=record.model,
        recipe=record.recipe_settings,
        classes=list(evaluated.classes),
        class_ids=list(evaluated.class_ids),
        normalisation=dict(record.normalisation),
        metrics={metric.name: metric.value for metric in record.metrics},
        run=run_of(record),
    )


def _step_deviations(recipe: Recipe, training: Outcome) -> list[str]:
    if not isinstance(recipe, TrainingRecipe):
        return []
    return step_deviations(training.step_images, recipe.reference_batch_norm)


def _record_of(cell: Cell, origin: WeightsOrigin, evaluated: Evaluated, training: Outcome) -> Record:
    unreadable = {**training.corrupt, **evaluated.unreadable}
    settings = cell.recipe.model_dump(mode="json")
    steps = training.step_images[-1] if training.step_images else None
    return Record(
        suite=suite_name(),
        table=evaluated.table,
        task=cell.recipe.task,
        dataset=cell.data.name,
        metrics=evaluated.metrics,
        backbone=cell.plan.backbone,
        normalisation=cell.normalisation.as_dict(),
        seed=cell.plan.seed,
        recipe=cell.plan.recipe_name,
        recipe_settings=settings,
        protocol=protocol(cell.plan.protocol_settings(cell.recipe)),
        deviations=[*cell.plan.deviations, *_step_deviations(cell.recipe, training)],
        key=cell.key,
        plan=cell.digest,
        run=cell.standing.run,
        trained=cell.plan.trained,
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
        notes=[*cell.data.notes, *evaluated.notes, *step_notes(training.step_images), *_note_changed_data(cell)],
        **vars(origin),
        **vars(cell.code),
        **environment(training.device),
    )
