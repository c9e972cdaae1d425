"""How the trackers that a recipe asks for are told of a cell."""

from pathlib import Path

from backbones.objectives import find_objective
from backbones.pretraining.settings import MaskedAutoencoderRecipe, PretrainingRecipe
from backbones.training.trackers.tracker import TrackedRun
from benchmarks.running.of_suite import suite_name
from benchmarks.running.preparing import Cell
from tasks.data_sets import pretraining_name


def tracked_run(cell: Cell, out: Path) -> TrackedRun:
    """The run as trackers show it: under the name of its directory, beside those of its suite or of its backbone."""
    method, pretrain_data = _row(cell)
    settings = cell.recipe.model_dump(mode="json") | {
        "dataset": cell.data.name,
        "backbone": cell.plan.backbone,
        "method": method,
        "pretrain_data": pretrain_data,
        "seed": cell.plan.seed,
        "key": cell.key,
    }
    parts = cell.directory.parts[-4:]
    return TrackedRun(
        trackers=cell.recipe.runtime.trackers,
        name="/".join(parts),
        group=suite_name() or "/".join(parts[1:3]),
        settings=settings,
        directory=cell.directory,
        store=out,
    )


def _row(cell: Cell) -> tuple[str, str]:
    """Method and pre-training data: of the weights, or of those that a pre-training is to leave."""
    if cell.origin:
        return cell.origin.method, cell.origin.pretrain_data
    method = "MAE"
    if isinstance(cell.recipe, PretrainingRecipe) and not isinstance(cell.recipe, MaskedAutoencoderRecipe):
        method = find_objective(cell.recipe.model.arch).method
    return method, pretraining_name(cell.data.name)
