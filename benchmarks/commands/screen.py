"""What the commands print."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.pretraining.settings import PretrainingRecipe
from backbones.registry import BackboneEntry, find_backbone
from backbones.trained import WEIGHTS
from backbones.training.machine import process_rank
from backbones.training.settings import Recipe, TrainingRecipe
from backbones.training.step_images import MIXUP_REFERENCE
from backbones.weights.directories import locate
from backbones.weights.origin import Origin
from backbones.weights.references import SEPARATOR
from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import nothing_else_on_stdout, print_json
from benchmarks.planning.blocks import require_blocks
from benchmarks.planning.cells import PlannedCell, find_planned_backbone
from benchmarks.planning.evaluations import PlannedEvaluation
from benchmarks.planning.names import place_of, settle_names
from benchmarks.running.collecting import warn
from benchmarks.running.evaluating import origin_of
from benchmarks.running.predicting import PICTURES, PREDICTIONS, Predicted
from benchmarks.running.preparing import FinishedCell
from benchmarks.running.repeating import Code, Repeat, Standing, find_standing
from benchmarks.running.same_part import named_as_before
from results import Metric, Record
from results.metrics import METRICS
from tasks.registry import PRETRAINING

KEPT = "  kept as it is; --rerun, or --if-changed rerun, runs it anew beside it"


def show_cell(cell: FinishedCell, *, as_json: bool = False) -> None:
    """A finished run: its numbers, what they deviate in, and where everything lies."""
    if process_rank() != 0:
        return
    record = cell.record
    if as_json:
        done = {"directory": str(cell.directory), "skipped": cell.skipped, "renamed": cell.renamed}
        print_json({**done, "changes": cell.changes, "record": record.model_dump(mode="json")})
        return
    console = plain_console()
    state = " (finished before; nothing to do)" if cell.skipped else ""
    headline = Text.assemble(
        (record.backbone, "bold"), f" on {record.dataset}, recipe {record.recipe}, seed {record.seed}{state}"
    )
    console.print(headline, soft_wrap=True)
    if record.table:
        size = f"; an encoder of {record.parameters:,} parameters" if record.parameters else ""
        if record.gflops is not None:
            size += f"; {record.gflops:.3g} GFLOPs a forward pass at {record.gflops_image_size} pixels"
        console.print(f"  {place_of(record)}{size}", soft_wrap=True)
    for change in cell.changes:
        console.print(f"  changed since {'this run' if cell.skipped else 'the run before'}: {change}", soft_wrap=True)
    if cell.changes and cell.skipped:
        console.print(KEPT, soft_wrap=True)
    if cell.renamed:
        console.print(f"  recorded until now as {cell.renamed}", soft_wrap=True)
    for metric in record.metrics:
        if metric.ci_low is not None or len(record.metrics) == 1:
            images = f", {metric.n_eval:,} images" if metric.n_eval else ""
            if part := record.evaluated_part(metric):
                images = f", {part}"
            console.print(f"  {metric.name} {_shown(metric)}{_expected(record, metric)}{_interval(metric)}{images}")
    others = [
        f"{metric.name} {_shown(metric)}{_expected(record, metric)}"
        for metric in record.metrics
        if metric.ci_low is None
    ]
    if others and len(record.metrics) > 1:
        console.print(f"  {', '.join(others)}", soft_wrap=True)
    if record.normalisation:
        console.print(f"  normalisation {Normalisation(**record.normalisation)}", soft_wrap=True)
    for title, lines in (
        ("deviates", record.deviations),
        ("note", record.notes),
        ("unreadable image", record.corrupt_images[:5]),
    ):
        for line in lines:
            console.print(f"  {title}: {line}", soft_wrap=True)
    if (more := len(record.corrupt_images) - 5) > 0:
        console.print(f"  and {more} more unreadable images, all named in record.json")
    for path in outputs(cell.directory):
        console.print(f"  {path}", soft_wrap=True)


def show_predicted(done: Predicted) -> None:
    """Where pictures and answers of images lie, and which images are not among them."""
    if done.images:
        console = plain_console()
        console.print(f"{done.images:,} image{'' if done.images == 1 else 's'}", soft_wrap=True)
        console.print(f"  {done.directory / PICTURES}", soft_wrap=True)
        console.print(f"  {done.directory / PREDICTIONS}", soft_wrap=True)
    for path, why in done.unreadable.items():
        print(f"backbench: {path}: unreadable image: {why}", file=sys.stderr)


def show_plan(plan: PlannedCell, out: Path, repeat: Repeat, *, as_json: bool = False) -> bool:
    """A run that is to be: of what, how it deviates, and whether it is finished or, by `repeat`, to be run anew.

    False if files are missing, or if carrying it out would say no. Raises InputError for a backbone that cannot be
    carried out: unknown, without the weights that it needs, or the class token or blocks that the recipe takes;
    ResultsError for a record that would stop it.
    """
    entry = names = None
    with nothing_else_on_stdout(as_json):  # another author's model may print
        if isinstance(plan, PlannedEvaluation):
            entry, names = find_backbone(plan.backbone, with_checkpoint=True), origin_of(plan)
        elif plan.recipe.task != PRETRAINING:
            plan = plan.with_weights() if plan.can_be_read else plan
            entry, plan = find_planned_backbone(plan, plan.weights)
            require_blocks(plan.recipe, entry)
            plan, checkpoint = named_as_before(plan, entry, plan.weights, out)
            names = settle_names(plan, entry, checkpoint)
        elif plan.can_be_read:
            plan.require_beginning()
        finished = None if plan.missing else plan.find_record(out, on_unreadable=warn)
        standing = _standing(finished, _code(plan, entry), repeat) if finished else None
    fails = standing is not None and repeat.is_failed_by(standing.finished is not None, standing.changes)
    if process_rank() == 0 and as_json:
        print_json(_plan_document(plan, names, finished and finished[0], standing))
    elif process_rank() == 0:
        _show_planned(plan, names)
        if not plan.missing:
            _show_standing(plan, out, finished, standing)
    return not plan.missing and not fails


def _code(plan: PlannedCell, entry: BackboneEntry | None) -> Code:
    """What the run would be made with."""
    return Code.of_pretraining(plan.recipe) if isinstance(plan.recipe, PretrainingRecipe) else Code.of(entry)


def _standing(finished: tuple[Path, Record], code: Code, repeat: Repeat) -> Standing:
    """What a call finds where the latest finished run of its cell is this one, whose data are still the same."""
    directory, record = finished
    first = directory.with_name(f"seed{record.seed}-{record.key}")
    return find_standing(first, repeat, code, lambda: finished)


def _show_planned(plan: PlannedCell, names: Origin | None) -> None:
    console = plain_console()
    headline = Text.assemble(
        (plan.backbone, "bold"), f" on {plan.recipe.dataset}, recipe {plan.recipe_name}, seed {plan.seed}"
    )
    console.print(headline, soft_wrap=True)
    console.print(f"  data {plan.data}", soft_wrap=True)
    if plan.checkpoint:
        part = f"{SEPARATOR}{plan.part}" if plan.part else ""
        console.print(f"  weights {plan.checkpoint}{part}", soft_wrap=True)
    if names:
        console.print(f"  {place_of(names)}", soft_wrap=True)
        for remark in names.remarks:
            console.print(f"  note: {remark}", soft_wrap=True)
    if plan.can_be_read:
        console.print(f"  normalisation {plan.normalisation}", soft_wrap=True)
    for deviation in plan.deviations:
        console.print(f"  deviates: {deviation}", soft_wrap=True)
    for path in plan.missing:
        console.print(f"  {_why_missing(path, plan)}", soft_wrap=True)


def _show_standing(
    plan: PlannedCell, out: Path, finished: tuple[Path, Record] | None, standing: Standing | None
) -> None:
    console = plain_console()
    if finished and standing:
        state = "finished on" if standing.finished else "to be run anew, beside what has finished on"
        console.print(f"  {state} {finished[1].dataset}, if those are the data still: {finished[0]}", soft_wrap=True)
        for change in standing.changes:
            console.print(f"  changed since: {change}", soft_wrap=True)
        if standing.finished:
            if standing.changes:
                console.print(KEPT, soft_wrap=True)
            return
    else:
        console.print(f"  to be {'evaluated' if plan.trained else 'run'}; results go below {out}", soft_wrap=True)
    for line in [] if plan.trained else _decided_at_start(plan.recipe):
        console.print(f"  decided at start: {line}", soft_wrap=True)


def _why_missing(path: Path, plan: PlannedCell) -> str:
    if not path.exists():
        return f"missing: {path}"
    if path == plan.checkpoint:
        try:
            locate(path)
        except InputError as error:
            return f"unfit: {error}"
    return f"unfit: {path}: is a file. Expected the data set's root folder"


def _plan_document(
    plan: PlannedCell, names: Origin | None, finished: Path | None, standing: Standing | None
) -> dict[str, Any]:
    return {
        "task": plan.recipe.task,
        "dataset": plan.recipe.dataset,
        "recipe": plan.recipe_name,
        "settings": plan.recipe.model_dump(mode="json"),
        "deviations": plan.deviations,
        "data": str(plan.data),
        "backbone": plan.backbone,
        "checkpoint": plan.checkpoint and str(plan.checkpoint),
        "part": plan.part,
        "seed": plan.seed,
        "trained": plan.trained,
        "names": names and asdict(names),
        "normalisation": plan.normalisation.as_dict() if plan.can_be_read else None,
        "missing": [str(path) for path in plan.missing],
        "finished": finished and str(finished),
        "changes": standing.changes if standing else [],
        "to_be_run": not plan.missing and not (standing and standing.finished),
    }


def _decided_at_start(recipe: Recipe) -> list[str]:
    """What runtime.batch_per_device, the number of processes and the model decide, and may make a deviation."""
    lines = [f"whether the images are {recipe.dataset}'s, by their numbers; others go by another name"]
    if not isinstance(recipe, TrainingRecipe):
        return lines
    if recipe.task != PRETRAINING:
        lines.append(f"over how many images batch norm goes, if there is any (reference {recipe.optimizer.batch_size})")
    if recipe.mixes_images:
        fewest, most = MIXUP_REFERENCE
        lines.append(f"for how many images mixup is drawn (reference {fewest} to {most})")
    return lines


def _shown(metric: Metric, value: float | None = None) -> str:
    kind = METRICS.get(metric.name)  # a later version's record may hold others
    value = metric.value if value is None else value
    return kind.shown(value) if kind else f"{value:.2f}"


def _expected(record: Record, metric: Metric) -> str:
    if metric.expected is None:
        return ""
    return f" (published {_shown(metric, metric.expected)}, {record.method} on {record.pretrain_data})"


def _interval(metric: Metric) -> str:
    return "" if metric.ci_low is None else f"  95 % interval {metric.ci_low:.2f} to {metric.ci_high:.2f}"


def outputs(directory: Path) -> list[Path]:
    """The files of a finished run that a person opens or uses next: record, weights, last picture."""
    pictures = sorted((directory / "pictures").glob("*.png"), key=lambda path: path.stat().st_mtime)
    wanted = [directory / "record.json", directory / "checkpoints/encoder.pth", directory / WEIGHTS, *pictures[-1:]]
    return [path for path in wanted if path.exists()]
