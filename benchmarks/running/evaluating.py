"""Carrying out an evaluation of a network that is trained already, from its key to its record."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from backbones.cache import found_anew
from backbones.errors import InputError
from backbones.registry import find_backbone
from backbones.trained.file import Description
from backbones.training.agreement import first_decides
from backbones.training.compiling import require_compiler
from backbones.training.machine import choose_device, device_type, meet_processes
from backbones.training.settings import RuntimeSettings, read_overrides, validate
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.origin import Declared, Origin
from benchmarks.planning.evaluations import PlannedEvaluation, plan_evaluation
from benchmarks.planning.names import given, spell_declared
from benchmarks.planning.recipe import load_recipe
from benchmarks.running.cells import ONCE, claimed_run, finished_meanwhile
from benchmarks.running.finishing import WeightsOrigin, evaluated_by, finish_cell, forward_cost_fields, write_per_image
from benchmarks.running.preparing import Cell, FinishedCell, already_finished, make_cell
from benchmarks.running.repeating import Code, Repeat
from benchmarks.running.together import together
from tasks.outcome import TaskOutcome
from tasks.registry import LEAVE_NETWORKS
from tasks.trained import PublishedNetwork, TrainedNetwork


def run_evaluation(
    recipe: str | None,
    data: Path,
    weights: Path,
    out: Path,
    *,
    overrides: list[str],
    backbone: str | None = None,
    declared: Declared | None = None,
    limit: int | None = None,
    repeat: Repeat = ONCE,
    rescan: bool = False,
) -> FinishedCell:
    """Evaluate, or find it done. Raises InputError for a wrong call or input."""

    def plan() -> PlannedEvaluation:
        return plan_evaluation(
            recipe, data, weights, overrides=overrides, declared=declared, backbone=backbone, limit=limit
        )

    _meet(recipe, overrides)
    with together():
        cell = first_decides(lambda: _prepare(plan(), out, repeat=repeat, rescan=rescan))
        return cell if isinstance(cell, FinishedCell) else _evaluate(cell, data, out)


def _meet(recipe: str | None, overrides: list[str]) -> None:
    """Meet the job's other processes, all on the device that is asked for."""
    complaint = ""
    try:
        runtime = _asked_runtime(recipe, overrides)
        choose_device(runtime.device)
        if runtime.compile:
            require_compiler(device_type())
    except InputError as error:
        complaint = str(error)
    meet_processes(complaint)


def _asked_runtime(recipe: str | None, overrides: list[str]) -> RuntimeSettings:
    """How this call is to go about it, which no run has a say in. Raises InputError."""
    asked = load_recipe(recipe, [], LEAVE_NETWORKS).recipe.runtime.model_dump() if recipe else {}
    asked |= read_overrides(overrides).get("runtime") or {}
    return validate(RuntimeSettings, asked, "--set, section runtime")


def require_devices(processes: int, recipe: str | None, overrides: list[str]) -> None:
    """Raise InputError, before any is started, where so many processes would not find a device each to evaluate on."""
    choose_device(_asked_runtime(recipe, overrides).device, to_start=processes)


def _prepare(plan: PlannedEvaluation, out: Path, *, repeat: Repeat, rescan: bool) -> Cell | FinishedCell:
    """Find out what an evaluation is, or that it has finished. Raises InputError for a wrong call or input."""
    settings: Any = plan.recipe
    checkpoint = plan.weights or read_checkpoint(plan.checkpoint or "", part=plan.part)
    entry = find_backbone(plan.backbone, with_checkpoint=True)
    with found_anew(rescan):
        classes = plan.known.classes if plan.known else ()
        contents = LEAVE_NETWORKS[settings.task].module("evaluating").identify_data(settings, plan.data, classes)
    plan = plan.on(contents.evaluation_images).without_weights()
    cell = make_cell(plan, contents, checkpoint.sha256, plan.normalisation, out, Code.of(entry), repeat)
    if finished := already_finished(cell, out):
        return finished
    return replace(cell, plan=plan.on_data(cell.data.name), origin=origin_of(plan), arch=entry.arch)


def origin_of(plan: PlannedEvaluation) -> Origin:
    """The row and the column: as declared, else as the run is recorded, or the file is known."""
    known = plan.known
    assert known is not None
    named = known.run if isinstance(known, Description) else vars(known)
    declared = given(spell_declared(plan.declared or Declared()))
    names = {name: declared.get(name) or str(named[name]) for name in ("method", "pretrain_data", "model")}
    if isinstance(known, Description):
        where = f"by the run with the key {plan.trained}"
    else:
        where = f"elsewhere: {known.kind}" + (f", its numbers by {known.source}" if plan.published else "")
    more = known.remark if isinstance(known, PublishedNetwork) else ""
    remarks = (f"evaluated only; trained {where}", *([more] if more else []))
    return Origin(**names, said_by=dict.fromkeys(declared, "declared"), remarks=remarks)


def _weights_of(plan: PlannedEvaluation, checkpoint: Checkpoint) -> dict[str, Any]:
    """The file that the record names: of a run that which its training began with, so that the seeds of one backbone
    stay one cell; else the file that is evaluated. That one the report of what was loaded names in either case."""
    names = ("checkpoint", "checkpoint_sha256", "checkpoint_part")
    if isinstance(plan.known, Description):
        return {name: plan.known.run[name] for name in names}
    return dict(zip(names, (checkpoint.path.absolute().name, checkpoint.sha256, plan.part), strict=True))


def _evaluate(cell: Cell, data: Path, out: Path) -> FinishedCell:
    plan, origin, task = cell.plan, cell.origin, LEAVE_NETWORKS[cell.recipe.task]
    assert isinstance(plan, PlannedEvaluation) and origin is not None and plan.known and plan.checkpoint
    with claimed_run(cell, data, out) as begun:
        if begun.finished:
            return finished_meanwhile(begun)
        checkpoint = read_checkpoint(plan.checkpoint, cell.sha256, plan.part)
        outcome: TaskOutcome = task.module("evaluating").evaluate(
            *(begun.cell.recipe, data, TrainedNetwork(plan.backbone, checkpoint, plan.known), cell.directory),
            seed=plan.seed,
            normalisation=cell.normalisation,
            limit=plan.limit,
        )

        def finish() -> FinishedCell:
            write_per_image(cell.directory, outcome)
            evaluated = evaluated_by(cell, outcome, (*origin.remarks, *begun.remarks))
            evaluated = replace(evaluated, published=plan.published)
            weights = WeightsOrigin(
                method=origin.method,
                pretrain_data=origin.pretrain_data,
                model=origin.model,
                arch=cell.arch,
                **_weights_of(plan, checkpoint),
                declared=given(plan.declared),
                load_report=asdict(outcome.load_report) if outcome.load_report else None,
                parameters=outcome.parameters,
                **forward_cost_fields(outcome.cost),
            )
            return finish_cell(begun.cell, out, weights, evaluated, outcome.training)

        return first_decides(finish)
