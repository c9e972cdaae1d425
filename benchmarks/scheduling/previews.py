"""What becomes of each cell of a suite, said before anything is started: its state, its key, and what it will take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from backbones.errors import InputError
from backbones.training.settings import deciding_settings, protocol
from backbones.weights.published import Cell as PublishedCell
from backbones.weights.published import published
from benchmarks.planning.records import complete
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.looking import named_by_weights, settled
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.running.foreseeing import Foresight
from benchmarks.running.inventory import Run, files_of, find_run
from benchmarks.running.lease import find_owner
from benchmarks.scheduling.finished import find_finished
from benchmarks.scheduling.folders import SuiteFolder
from results import Record, ResultsError, find_records, read_record
from results.record import Outline

State: TypeAlias = Literal["finished", "at work", "unfinished", "failed", "missing", "waits", "to be run"]

_LENGTH = ("schedule.", "optimizer.batch_size", "model.image_size")
"""The settings that have to agree before one run's time tells of another's."""


@dataclass(frozen=True)
class Preview:
    """One cell as it stands.

    detail:    how far it is, who is at work on it, why it failed, or what it waits for
    metrics:   of its table, once it has finished
    key:       empty while data or weights are missing
    directory: of its run; None while that is not known
    hours:     that it will take still, by what was measured in this store; None where nothing was
    devices:   on which those were measured, "8 × NVIDIA H100"; empty of a run's own, and where nothing was
    bytes:     that it will add to the store, likewise
    source:    where its weights are to be had, or how it is known that they are not
    """

    cell: SuiteCell
    state: State
    detail: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    directory: Path | None = None
    hours: float | None = None
    devices: str = ""
    bytes: int | None = None
    source: str = ""


def preview(plan: SuitePlan, on_listing: Callable[[Path], None] = lambda root: None) -> list[Preview]:
    """Every cell as it stands; nothing is claimed, and nothing written but what is kept of data and weights.

    on_listing: told of a data set's root before it is looked at
    """
    return _Look(plan, on_listing).at_all()


class _Look:
    def __init__(self, plan: SuitePlan, on_listing: Callable[[Path], None]) -> None:
        self.plan, self.folder = plan, SuiteFolder(plan.out, plan.name)
        self.foresight = Foresight(plan.out, on_listing)
        self.measured = _Measured(plan.out)
        self.finished: set[str] = set()

    def at_all(self) -> list[Preview]:
        return [self._at(cell) for cell in settled(self.plan)]

    def _at(self, cell: SuiteCell) -> Preview:
        source = source_of(cell)
        try:
            found = self._record(cell)
            if found:
                return self._finished(cell, *found)
            cell = self._of_its_data(cell if cell.needs else named_by_weights(cell))
        except InputError as error:
            return Preview(cell, "missing", str(error), source=source)
        measured = self.measured.of(cell)
        known = Preview(cell, "missing", "; ".join(cell.missing), source=source, **asdict(measured))
        if cell.missing:
            return known
        if cell.needs and cell.needs not in self.finished:
            return replace(known, state="waits", detail=f"for the pre-training {cell.needs}")
        try:
            foreseen = self.foresight.of(cell.planned)
        except InputError as error:
            return Preview(cell, "missing", str(error), source=source)
        state, detail, run = self._state(cell, foreseen.directory)
        if run and run.record:
            return self._finished(cell, run.directory, run.record)
        if run and run.seconds_left is not None:
            known = replace(known, hours=run.seconds_left / 3600, devices="")
        directory = run.directory if run else foreseen.directory
        return replace(known, state=state, detail=detail, key=foreseen.key, directory=directory)

    def _finished(self, cell: SuiteCell, directory: Path, record: Record) -> Preview:
        self.finished.add(cell.name)
        if cell.table:
            published = {each.name: each.expected for each in record.metrics if each.expected is not None}
            cell = replace(cell, method=record.method, pretrain_data=record.pretrain_data, expected=published)
        known = Preview(cell, "finished", metrics=_metrics(cell, record), key=record.key, directory=directory)
        return replace(known, hours=0.0, bytes=0, source=source_of(cell))

    def _record(self, cell: SuiteCell) -> tuple[Path, Record] | None:
        """The finished run that answers to a cell, on its data where they are there.

        Raises InputError for data that do not serve.
        """
        try:
            found = cell.planned.find_record(self.plan.out, lambda error: None)
        except InputError:  # weights that are not there, or cannot be read
            return self._record_of_removed_weights(cell)
        if found and not cell.missing:
            data = self.foresight.data_of(cell.planned)
            if (found[1].dataset, found[1].data_fingerprint) != (data.name, data.fingerprint):
                return None
        return found

    def _record_of_removed_weights(self, cell: SuiteCell) -> tuple[Path, Record] | None:
        """The finished run of a cell whose weights another cell has made, and nobody keeps any more."""
        directory = find_finished(cell, self.folder)
        if directory is None:
            return None
        try:
            return self.plan.out / directory, read_record(self.plan.out / directory)
        except ResultsError:
            return None

    def _of_its_data(self, cell: SuiteCell) -> SuiteCell:
        """A cell that has not finished, without published numbers where the images are not those of its recipe.

        Raises InputError for data that do not serve.
        """
        planned = cell.planned
        if not cell.expected or not planned.data.is_dir():
            return cell
        is_whole = self.foresight.data_of(planned).name == planned.recipe.dataset
        return cell if is_whole else replace(cell, expected={})

    def _state(self, cell: SuiteCell, first: Path) -> tuple[State, str, Run | None]:
        """Of a cell that can be run and has not finished."""
        folder = self.folder.cell(cell.name)
        directory = folder.run or first
        run = find_run(directory) if directory.is_dir() else None
        if run and run.state == "at work":
            return "at work", run.detail, run
        owner = find_owner(folder.owner) if folder.owner.exists() else None
        if owner and owner.lives:
            return "at work", owner.name, run
        told = folder.read()
        if told.outcome == "failed":
            return "failed", told.reason, run
        if run and run.state in ("unfinished", "broken"):
            return "unfinished", run.detail, run
        return "to be run", "", None


def _metrics(cell: SuiteCell, record: Record) -> dict[str, float]:
    from results.paper_tables import PAPER_TABLES

    wanted = PAPER_TABLES[cell.table].metrics if cell.table else ("reconstruction_loss", "loss")
    return {metric.name: metric.value for metric in record.metrics if metric.name in wanted}


@dataclass(frozen=True)
class _Cost:
    """Hours, the devices that took them, and bytes; each None, or empty, where it is not known."""

    hours: float | None = None
    devices: str = ""
    bytes: int | None = None


class _Measured:
    """What runs of the same recipe and model took in this store."""

    def __init__(self, out: Path) -> None:
        self.records: list[tuple[Path, Record]] = []
        if out.is_dir():
            found = find_records([out], lambda error: None, Outline)
            self.records = [(directory, complete(record)) for directory, record in found]

    def of(self, cell: SuiteCell) -> _Cost:
        """What such runs took, the median; of hours that of runs on as many of the same devices as the latest was."""
        alike = [(path, record) for path, record in self.records if _is_alike(cell, record)]
        if not alike:
            return _Cost()
        size = int(median(sum(size for _, size, _ in files_of(path)) for path, _ in alike))
        timed = [record for _, record in alike if record.total_seconds is not None]
        if not timed:
            return _Cost(bytes=size)
        devices = _devices(max(timed, key=lambda record: record.finished_at))
        seconds = [record.total_seconds or 0.0 for record in timed if _devices(record) == devices]
        return _Cost(median(seconds) / 3600, devices, size)


def _devices(record: Record) -> str:
    """Such as "8 × NVIDIA H100"."""
    device = record.device or "an unknown device"
    return f"{record.world_size} × {device}" if record.world_size > 1 else device


def _is_alike(cell: SuiteCell, record: Record) -> bool:
    planned = cell.planned
    own = cell.column or planned.backbone
    if record.trained or (record.task, record.recipe, record.model) != (cell.task, planned.recipe_name, own):
        return False
    wanted = protocol(deciding_settings(planned.recipe))
    return all(record.protocol.get(name) == value for name, value in wanted.items() if name.startswith(_LENGTH))


def source_of(cell: SuiteCell) -> str:
    """Where a cell's weights are to be had, in words; empty where it needs none, or nothing is known."""
    if not cell.weights:
        return ""
    file = next((file for file in published().files if file.name == cell.weights), None)
    if file:
        return file.page
    place: PublishedCell | None = cell.published
    if place is None:
        return ""
    return f"never released: {place.evidence}" if not place.weights else _pages(place.weights)


def _pages(names: Sequence[str]) -> str:
    pages = {file.name: file.page for file in published().files}
    return "; ".join(f"{name}: {pages[name]}" for name in names)
