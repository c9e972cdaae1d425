"""A look at what a suite's cells need before the first of them starts."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.weights.checkpoints import Checkpoint
from benchmarks.planning.cells import PlannedCell, find_planned_backbone
from benchmarks.planning.known_weights import KnownWeights
from benchmarks.planning.names import settle_names
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.expanding import expected_numbers
from benchmarks.planning.suites.plan import SuitePlan
from tasks.data_sets import DATA_SETS
from tasks.datasets.places import explain_absence
from tasks.registry import PRETRAINING

ENCODER = Path("checkpoints/encoder.pth")
"""In the directory of a pre-training's run, the weights that it makes."""


def settled(plan: SuitePlan) -> tuple[SuiteCell, ...]:
    """A suite's cells, those whose weights a finished pre-training has made with the file of them."""
    made: dict[str, Path] = {}
    cells = []
    for cell in plan.cells:
        if cell.needs in made:
            cell = named_by_weights(cell.with_weights(made[cell.needs]))
        elif not cell.comparison and (found := cell.planned.find_record(plan.out, lambda error: None)):
            made[cell.name] = found[0] / ENCODER
        cells.append(cell)
    return tuple(cells)


def named_by_weights(cell: SuiteCell) -> SuiteCell:
    """The cell in the row that its file of weights tells, and with what deviates by it."""
    if cell.planned.checkpoint is None:
        return cell
    try:
        weights = cell.planned.with_weights()
        entry, planned = find_planned_backbone(weights, weights.weights)
        named = settle_names(planned, entry, weights.weights)
    except InputError:  # it has gone, or is told by whoever looks at it
        return cell
    expected = expected_numbers(planned, named, cell.table) if cell.expected else {}
    return replace(
        cell,
        planned=replace(cell.planned, deviations=planned.deviations),
        method=named.method,
        pretrain_data=named.pretrain_data,
        column=named.model,
        expected=expected,
    )


def require_sound(plan: SuitePlan, on_reading: Callable[[Path], None] = lambda path: None) -> SuitePlan:
    """Look at the data's folders and at the weights of all cells that have not finished, as far as they are there.

    Nothing is listed, and of a file of weights no more read than its names, but for a digest that is not known yet:
    `on_reading` is told of such a file first, and it comes back with the plan, so that it is read once. Where a file
    tells of another row, or of a training that deviates, the cell comes back without the published number.
    Raises InputError that names, with their lines in the suite, all that cannot go well: weights that contradict their
    backbone, or cannot be read, and data in no layout of their recipe's.
    """
    plan = replace(plan, cells=tuple(_with_weights_read(plan, on_reading)))
    looked: dict[tuple[Any, ...], str | None] = {}
    for cell in settled(plan):
        if cell.missing or _is_finished(cell, plan.out):
            continue
        planned, places = cell.planned, getattr(cell.planned.recipe, "data", None)
        of_data = (planned.data, cell.task, cell.dataset, str(places))
        if of_data not in looked:
            told = explain_data(cell) or _explain_place(cell, plan.out)
            looked[of_data] = told and f"{cell.place}: data {cell.dataset}: {told}"
        of_weights = (cell.backbone, planned.checkpoint, planned.part)
        if of_weights not in looked:
            told = _explain_weights(cell)
            looked[of_weights] = told and f"{plan.suite.backbones[cell.backbone].at()}: {cell.backbone}: {told}"
    if wrong := list(filter(None, looked.values())):
        raise InputError("\n".join(wrong))
    return replace(plan, cells=tuple(_as_weights_say(plan)))


def _as_weights_say(plan: SuitePlan) -> Iterator[SuiteCell]:
    """The cells, those that have a published number and have not finished as their files of weights tell."""
    read: dict[tuple[Path, str], Checkpoint | None] = {}
    for cell in plan.cells:
        planned, path = cell.planned, cell.planned.checkpoint
        if path is None or cell.needs or not cell.expected or not planned.can_be_read or _is_finished(cell, plan.out):
            yield cell
            continue
        if (path, planned.part) not in read:
            read[path, planned.part] = _weights_of(planned)
        weights = read[path, planned.part]
        yield replace(named_by_weights(replace(cell, planned=replace(planned, weights=weights))), planned=planned)


def _with_weights_read(plan: SuitePlan, on_reading: Callable[[Path], None]) -> Iterator[SuiteCell]:
    """The cells, with what their files of weights hold where not even the digest of it is known."""
    read: dict[tuple[Path, str], Checkpoint | None] = {}
    for cell in plan.cells:
        planned, path = cell.planned, cell.planned.checkpoint
        if path is None or cell.needs or cell.missing or KnownWeights(path).sha256 is not None:
            yield cell
            continue
        if (path, planned.part) not in read:
            on_reading(path)
            read[path, planned.part] = _weights_of(planned)
        yield replace(cell, planned=replace(planned, weights=read[path, planned.part]))


def _weights_of(planned: PlannedCell) -> Checkpoint | None:
    """What a file of weights holds; None where it cannot be read, which is told by whoever looks at it."""
    try:
        return planned.with_weights().weights
    except InputError:
        return None


def _is_finished(cell: SuiteCell, out: Path) -> bool:
    try:
        return cell.planned.find_record(out, lambda error: None) is not None
    except InputError:  # weights that cannot be read: looked at anew, where that is told
        return False


def _explain_weights(cell: SuiteCell) -> str | None:
    """Why a cell's weights cannot be those of its backbone; None where nothing speaks against it."""
    planned = cell.planned
    if planned.checkpoint is None or not planned.can_be_read:
        return None
    try:
        weights = planned.with_weights()
        entry, weights = find_planned_backbone(weights, weights.weights)
        settle_names(weights, entry, weights.weights)
    except InputError as error:
        return str(error)
    return None


def _explain_place(cell: SuiteCell, out: Path) -> str | None:
    """Why runs cannot lie below `out`; None where nothing speaks against it."""
    if cell.task != PRETRAINING:
        return None
    from backbones.pretraining.images import require_outside

    try:
        require_outside(cell.planned.data, out)
    except InputError as error:
        return str(error)
    return None


def explain_data(cell: SuiteCell) -> str | None:
    """Why a cell's folder of data cannot be what its recipe speaks of; None where nothing speaks against it."""
    root = cell.planned.data
    settings = getattr(cell.planned.recipe, "data", None)
    places = {
        name: value
        for name, value in (settings.model_dump() if settings else {}).items()
        if name.startswith(("train_", "val_")) and isinstance(value, str)
    }
    if places:
        return explain_absence(root, places, f"data set {cell.dataset}")
    try:
        is_empty = next(root.iterdir(), None) is None
    except OSError as error:
        return f"{root}: cannot be read: {error.strerror or error}"
    if not is_empty:
        return None
    layout = next((each.layout for each in DATA_SETS.values() if each.record_name == cell.dataset), "images")
    return f"{root}: an empty folder. Expected {layout}"
