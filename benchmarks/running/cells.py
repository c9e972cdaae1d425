"""Carrying out one cell: the run itself, and its record. What the first process decides holds for all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from backbones.pretraining.beginning import data_with_beginning
from backbones.pretraining.job import pretrain
from backbones.pretraining.settings import MaskedAutoencoderRecipe, PretrainingRecipe
from backbones.registry import find_backbone
from backbones.training.agreement import first_decides
from backbones.training.machine import process_rank
from backbones.training.measuring import begin_run
from backbones.training.trackers.tracking import tracked
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.directories import file_sha256
from backbones.weights.origin import Declared
from benchmarks.planning.evaluations import PlannedEvaluation
from benchmarks.planning.names import given
from benchmarks.running.claim import EVALUATES, claimed
from benchmarks.running.finishing import (
    Evaluated,
    WeightsOrigin,
    evaluated_by,
    finish_cell,
    forward_cost_fields,
    write_per_image,
)
from benchmarks.running.machines import require_same_code, require_same_data, require_same_directory
from benchmarks.running.of_suite import tell_directory
from benchmarks.running.preparing import Cell, FinishedCell, prepare_pretraining, prepare_task
from benchmarks.running.repeating import Code, Repeat
from benchmarks.running.starting import meet, note_code, settle_precision, tell, tell_evaluation, tell_start
from benchmarks.running.together import together
from benchmarks.running.tracking import tracked_run
from results import Metric, Record, read_record
from results.store import RECORD
from tasks.data_sets import pretraining_name
from tasks.outcome import TaskOutcome
from tasks.registry import PRETRAINING, TASKS, evaluates_in_fp32

ONCE = Repeat()


@dataclass(frozen=True)
class Begun:
    """A run whose directory is this call's alone.

    cell:     its recipe has the precision that the run began with
    remarks:  what its record has to note of how it goes on
    finished: its record, if another call has finished it meanwhile
    """

    cell: Cell
    remarks: tuple[str, ...] = ()
    finished: Record | None = None


def run_pretraining(
    recipe: str,
    data: Path,
    out: Path,
    *,
    seed: int,
    overrides: list[str],
    begin: Path | None = None,
    repeat: Repeat = ONCE,
    rescan: bool = False,
) -> FinishedCell:
    """Pre-train, or go on, or find it done; `rescan` takes nothing that was kept of the data.

    `begin` is a file of weights to begin with.

    Raises InputError for anything wrong with the call or its input.
    """
    meet(recipe, overrides, {PRETRAINING})
    with together():
        cell = first_decides(
            lambda: prepare_pretraining(
                *(recipe, data, out),
                seed=seed,
                overrides=overrides,
                begin=begin,
                repeat=repeat,
                rescan=rescan,
            )
        )
        return cell if isinstance(cell, FinishedCell) else _pretrain(cell, data, out)


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
    rescan: bool = False,
) -> FinishedCell:
    """Fine-tune and evaluate, or go on, or find it done; a finished run takes other names that are declared.

    `rescan` takes nothing that was kept of the data. Raises InputError for a wrong call or input.
    """
    meet(recipe, overrides, TASKS)
    with together():
        cell = first_decides(
            lambda: prepare_task(
                *(recipe, data, backbone, out),
                seed=seed,
                overrides=overrides,
                declared=declared,
                repeat=repeat,
                rescan=rescan,
            )
        )
        return cell if isinstance(cell, FinishedCell) else _fine_tune(cell, data, out)


def _pretrain(cell: Cell, data: Path, out: Path) -> FinishedCell:
    with claimed_run(cell, data, out) as begun:
        if begun.finished:
            return finished_meanwhile(begun)
        settings = begun.cell.recipe
        assert isinstance(settings, PretrainingRecipe)
        pretrain_data = pretraining_name(cell.data.name)
        file = cell.plan.checkpoint
        begin = read_checkpoint(file, sha256=cell.sha256, part=cell.plan.part) if file else None
        of_beginning: tuple[str, ...] = ()
        if begin:
            pretrain_data, of_beginning = data_with_beginning(begin, pretrain_data, pretraining_name)
        model = pretrain(
            *(settings, data, cell.directory),
            seed=cell.plan.seed,
            pretrain_data=pretrain_data,
            begin=begin,
            deviations=cell.plan.deviations,
        )
        name = "reconstruction_loss" if isinstance(settings, MaskedAutoencoderRecipe) else "loss"
        metric = Metric(name=name, value=model.outcome.train_loss, split="train")
        remarks, report = begun.remarks, model.begun_with
        if begin:
            taken = report.summary() if report else "what was taken of it is not known"
            remarks = (f"began with {begin.path.name} ({begin.sha256[:8]}): {taken}", *of_beginning, *remarks)

        def finish() -> FinishedCell:
            origin = WeightsOrigin(
                method=model.method,
                pretrain_data=pretrain_data,
                model=settings.model.arch,
                arch=settings.model.arch,
                checkpoint=model.encoder.name,
                checkpoint_sha256=file_sha256(model.encoder),
                load_report=asdict(report) if report else None,
                parameters=model.parameters,
                **forward_cost_fields(model.cost),
            )
            notes = (*remarks, *(model.cost.notes if model.cost else ()))
            evaluated = Evaluated([metric], notes=notes, network=model.network)
            return finish_cell(begun.cell, out, origin, evaluated, model.outcome)

        return first_decides(finish)


def _fine_tune(cell: Cell, data: Path, out: Path) -> FinishedCell:
    plan, origin, task = cell.plan, cell.origin, TASKS[cell.recipe.task]
    assert origin is not None
    with claimed_run(cell, data, out) as begun:
        if begun.finished:
            return finished_meanwhile(begun)
        checkpoint = read_checkpoint(plan.checkpoint, cell.sha256, plan.part) if plan.checkpoint else None
        outcome: TaskOutcome = task.module("task").fine_tune(
            *(begun.cell.recipe, data, plan.backbone, checkpoint, cell.directory),
            seed=plan.seed,
            normalisation=cell.normalisation,
        )

        def finish() -> FinishedCell:
            write_per_image(cell.directory, outcome)
            evaluated = replace(
                evaluated_by(cell, outcome, (*origin.remarks, *begun.remarks)),
                network=outcome.network,
                classes=outcome.classes,
                class_ids=outcome.class_ids,
            )
            weights = WeightsOrigin(
                method=origin.method,
                pretrain_data=origin.pretrain_data,
                model=origin.model,
                arch=cell.arch,
                checkpoint=plan.checkpoint.absolute().name if plan.checkpoint else "",
                checkpoint_sha256=cell.sha256,
                checkpoint_part=plan.part,
                declared=given(plan.declared),
                load_report=asdict(outcome.load_report) if outcome.load_report else None,
                parameters=outcome.parameters,
                **forward_cost_fields(outcome.cost),
            )
            return finish_cell(begun.cell, out, weights, evaluated, outcome.training)

        return first_decides(finish)


@contextmanager
def claimed_run(cell: Cell, data: Path, out: Path) -> Iterator[Begun]:
    """The run's directory for this call alone, from which on time and memory are the run's."""
    require_same_code(_own_code(cell))
    require_same_data(cell.contents.sample, data)
    begun: list[Begun] = []

    def begin() -> str | None:
        """What recipe.yaml is to hold; None if there is nothing left to do."""
        begun.append(_begin(cell))
        if begun[0].finished:
            return None
        settings = begun[0].cell.recipe.model_dump(mode="json")
        of_what = f"{EVALUATES}{cell.plan.trained}\n" if cell.plan.trained else ""
        return of_what + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)

    if process_rank() == 0:
        tell_directory(cell.directory, out, data)
    with claimed(cell.directory, out, begin):
        begin_run()
        decided = first_decides(lambda: begun[0])
        if not decided.finished:
            require_same_directory(cell.directory, cell.recipe.runtime.shared_directory_seconds)
        with tracked(tracked_run(decided.cell, out)):
            yield decided


def _begin(cell: Cell) -> Begun:
    if (cell.directory / RECORD).is_file():
        return Begun(cell, finished=read_record(cell.directory))
    evaluation = cell.plan if isinstance(cell.plan, PlannedEvaluation) else None
    recipe, notes = cell.recipe, tuple[str, ...]()
    if not (evaluation and evaluates_in_fp32(recipe.task)):
        precision, notes = settle_precision(recipe, cell.directory)
        recipe = recipe.model_copy(update={"precision": precision})
    if evaluation:
        tell_evaluation(cell.directory, recipe, cell.normalisation, evaluation.limit)
    else:
        tell_start(cell.directory, recipe, cell.normalisation)
    remarks = (*notes, *note_code(cell.directory, cell.code))
    tell(cell.directory, remarks)
    return Begun(replace(cell, recipe=recipe), remarks)


def finished_meanwhile(begun: Begun) -> FinishedCell:
    """What another call has come to."""
    assert begun.finished is not None
    return FinishedCell(begun.cell.directory, begun.finished, skipped=True, changes=begun.cell.standing.changes)


def _own_code(cell: Cell) -> Code:
    """What this process would run the cell with; the first has found that out."""
    if process_rank() == 0:
        return cell.code
    if isinstance(cell.recipe, PretrainingRecipe):
        return Code.of_pretraining(cell.recipe)
    return Code.of(find_backbone(cell.plan.backbone, with_checkpoint=cell.plan.checkpoint is not None))
