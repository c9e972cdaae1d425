"""Records laid out as the paper does, each number beside the paper's own.

A number of ours is averaged over its seeds, carries its interval, and is marked where its run departs from the recipe
that its table asks for. Within a column the best is marked among those of ours that were made under one protocol: all
of them, or else those that follow the reference. Published numbers never take part in that.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.errors import ResultsError, StoreError
from results.latest import latest_of_each_key
from results.measurements import Measurement, Number, combine, measurements, simplified
from results.metrics import find_metric
from results.paper_tables import PAPER_TABLES, PaperTable, find_table, table_of
from results.record import Record
from results.reference import PREVIOUS_BEST, ReferenceRow, reference_rows
from results.table_lines import COLUMNS, table_lines
from results.trained_blocks import in_order_of_blocks

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "In brackets the 95 % confidence interval: over seeds (Student's t) where their number is given, else over the "
    "evaluated images. Bold: the highest of a column whose numbers share one protocol; published numbers, and averages "
    "over seeds that were made differently, take no part."
)
# What the file of reference numbers calls the tables that the project started from.
SOURCES = {"seed": "MAE (arXiv 2111.06377) tables 4-6"}
_SIZES = ("Ti", "T", "S", "B", "L", "H", "g", "G")
_SIZED = re.compile(rf"(?P<family>.*[-_ ])(?P<size>{'|'.join(_SIZES)})(?P<rest>(?![A-Za-z]).*)")


@dataclass(frozen=True)
class Column:
    """One metric of one model, measured here or published. `label` is its heading.

    Where each data set has its own metric, `PaperTable.metric_on` tells which a row is of.
    """

    metric: str
    model: str
    published: bool
    label: str


@dataclass(frozen=True)
class Row:
    """One line. `labels` name it; `cells` stand under the columns: ours as Number, the paper's as float, or None."""

    dataset: str
    labels: tuple[str, ...]
    cells: tuple[Number | float | None, ...]


@dataclass(frozen=True)
class Block:
    """The numbers of one data set, or of all of a table. `remarks` say which columns are not ranked, and why."""

    title: str
    label_headings: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A paper's table filled with records: first the paper's own data sets, then one block for each other data set.

    `caption` explains the notation, `sources` names where the published numbers come from (empty if none are shown).
    `left_out` says which records stand in other tables, each with the layout that shows them.
    """

    name: str
    blocks: tuple[Block, ...]
    caption: str
    sources: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def to_frame(self) -> "pd.DataFrame":
        """One row a number, ours and the published ones, in the columns of `results.table_lines`."""
        import pandas as pd

        return pd.DataFrame(table_lines(self), columns=list(COLUMNS)).astype(COLUMNS)


@dataclass(frozen=True)
class _Place:
    """Whose row a number belongs to: names as they are compared, not as they are shown."""

    dataset: str
    method: str
    pretrain_data: str


Cells = dict[tuple[_Place, Column], list[Number | float]]
Runs = dict[str, list[Record]]  # all by their key


def build_table(records: Sequence[Record], name: str) -> Table:
    """Lay out records as the paper does: "imagenet", "coco", "ade20k", "transfer", "transfer-more" or "robustness".

    Records of other tables are left out, and what was run anew: of that the latest run counts, whatever came out of it.
    The order of the records does not matter.
    Raises ResultsError for an unknown table, for no records, and for records among which none fits the table.
    """
    table = find_table(name)
    _require_some(records)
    runs: Runs = {}
    for record in records:
        runs.setdefault(record.key, []).append(record)
    standing = latest_of_each_key(records)
    fitting = [record for record in standing if table_of(record) == table.name]
    measured = [one for one in measurements(fitting, table.metrics) if _is_shown(one, table)]
    if not measured:
        raise ResultsError(_nothing_fits(standing, fitting, table))
    paper = _Paper(table)
    ours = [one for one in measured if one.record.dataset in table.datasets]
    blocks = [_block(paper, _main_title(table), ours, paper.rows, runs)] if ours else []
    for dataset in sorted({one.record.dataset for one in measured} - set(table.datasets)):
        own = [one for one in measured if one.record.dataset == dataset]
        blocks.append(_block(paper, f"{dataset}: {table.measures}", own, [], runs))
    sources = tuple(dict.fromkeys(SOURCES.get(row.source, row.source) for row in paper.rows)) if ours else ()
    elsewhere = [record for record in standing if table_of(record) not in (table.name, None)]
    caption = f"{CAPTION} {table.remark}".rstrip()
    return Table(table.name, tuple(blocks), caption, sources, tuple(_counted(elsewhere)))


def build_tables(records: Sequence[Record]) -> list[Table]:
    """All of the paper's tables to which a record belongs, in the paper's order.

    Raises ResultsError for no records, and for records of which none belongs to a table.
    """
    _require_some(records)
    standing = latest_of_each_key(records)
    names = [name for name, table in PAPER_TABLES.items() if any(_fits(record, table) for record in standing)]
    if not names:
        raise ResultsError(f"no run belongs to one of the paper's tables. Found: {'; '.join(_counted(standing))}")
    return [build_table(records, name) for name in names]


def _fits(record: Record, table: PaperTable) -> bool:
    return table_of(record) == table.name and any(metric.name in table.metrics for metric in record.metrics)


def _is_shown(one: Measurement, table: PaperTable) -> bool:
    return table.metric_on(one.record.dataset) in (one.metric.name, None)


def _require_some(records: Sequence[Record]) -> None:
    if not records:
        raise StoreError(
            "no finished runs found. Expected record.json in the directory of a run: give the directory that was the "
            "--out of `backbench run`, once the run has finished"
        )


class _Paper:
    """The published rows of a table, and its spelling and order of the names that it shares with ours."""

    def __init__(self, table: PaperTable) -> None:
        self.table = table
        self.rows = reference_rows(table.name)
        named = [row for row in self.rows if row.method != PREVIOUS_BEST]
        names = dict.fromkeys(name for row in named for name in (row.method, row.pretrain_data, row.model))
        self._spelling = {simplified(name): name for name in names}
        self._methods = list(dict.fromkeys(simplified(row.method) for row in named))
        self._models = list(dict.fromkeys(simplified(row.model) for row in named))
        self._datasets = list(table.datasets)

    def spell(self, name: str) -> str:
        """The paper's spelling of a name, or the name itself where the paper has none."""
        return self._spelling.get(simplified(name), name)

    def order_model(self, model: str) -> tuple[int, tuple[str, int, str]]:
        """The paper's models first, in its order; of others those that differ in size alone from small to large."""
        return _position(self._models, simplified(model)), _by_size(model)

    def order_place(self, place: _Place) -> tuple[int, int, str, str]:
        """The paper's data sets and methods first, in its order."""
        dataset, method = _position(self._datasets, place.dataset), _position(self._methods, place.method)
        return dataset, method, place.method, place.pretrain_data

    def labels(self, dataset: str, method: str, pretrain_data: str) -> tuple[str, ...]:
        """What stands before the numbers of a row."""
        labels = (self.spell(method), self.spell(pretrain_data))
        return (self.table.datasets.get(dataset, dataset), *labels) if self.table.datasets_as_rows else labels


def _block(
    paper: _Paper, title: str, ours: Sequence[Measurement], published: Sequence[ReferenceRow], runs: Runs
) -> Block:
    labels = {_own_place(one): paper.labels(one.record.dataset, one.method, one.record.pretrain_data) for one in ours}
    for row in published:
        if row.method != PREVIOUS_BEST:
            labels[_published_place(row)] = paper.labels(row.dataset, row.method, row.pretrain_data)
    places = sorted(labels, key=paper.order_place)
    cells, remarks = _own_cells(paper, ours, runs)
    cells |= _published_cells(paper, published, places)
    columns = tuple(sorted({column for _, column in cells}, key=lambda column: _order_column(paper, column)))
    rows = []
    for place in places:
        stacks = [cells.get((place, column), []) for column in columns]
        for line in range(max(len(stack) for stack in stacks)):
            under = tuple(stack[line] if line < len(stack) else None for stack in stacks)
            rows.append(Row(place.dataset, labels[place], under))
    headings = (
        ("data set", "method", "pre-train data") if paper.table.datasets_as_rows else ("method", "pre-train data")
    )
    return Block(title, headings, columns, tuple(rows), remarks)


def _own_cells(paper: _Paper, ours: Sequence[Measurement], runs: Runs) -> tuple[Cells, tuple[str, ...]]:
    """Our numbers, compared within each column of each data set, and a remark on each that cannot be ranked."""
    groups: dict[tuple[str, str, str], list[Measurement]] = {}
    for one in ours:
        groups.setdefault((one.record.dataset, one.metric.name, simplified(one.record.model)), []).append(one)
    cells: Cells = {}
    remarks = []
    for (dataset, metric, _), group in groups.items():
        column = _column(paper, metric, paper.spell(group[0].record.model), published=False)
        numbers, differing = combine(group, runs)
        for measurement, number in numbers:
            cells.setdefault((_own_place(measurement), column), []).append(number)
        if differing:
            name = (
                f"{paper.table.datasets.get(dataset, dataset)}, {column.label}"
                if paper.table.datasets_as_rows
                else column.label
            )
            ranked = any(number.best for _, number in numbers)
            which = "only numbers that follow the reference are ranked" if ranked else "not ranked"
            remarks.append(f"{name}: {which}, protocols differ ({', '.join(differing)}).")
    return cells, tuple(remarks)


def _published_cells(paper: _Paper, published: Sequence[ReferenceRow], places: Sequence[_Place]) -> Cells:
    """The paper's numbers; a data set's previous best stands in its first row."""
    cells: Cells = {}
    for row in published:
        if row.method == PREVIOUS_BEST:
            place = next(place for place in places if place.dataset == row.dataset)
            column = _column(paper, row.metric, PREVIOUS_BEST, published=True)
        else:
            place = _published_place(row)
            column = _column(paper, row.metric, row.model, published=True)
        cells[place, column] = [row.value]
    return cells


def _column(paper: _Paper, metric: str, model: str, published: bool) -> Column:
    if paper.table.metric_of:
        metric = paper.table.metrics[0]
    several = len(paper.table.metrics) > 1 and not paper.table.metric_of
    label = f"{find_metric(metric).label} {model}" if several else model
    return Column(metric, model, published, f"{label} (paper)" if published else label)


def _by_size(model: str) -> tuple[str, int, str]:
    """What a model's name begins with, which size it is, and what follows: "Mine-L/14" stands behind "Mine-B/14"."""
    said = _SIZED.fullmatch(model)
    rest = in_order_of_blocks(said["rest"] if said else model)
    return (said["family"], _SIZES.index(said["size"]), rest) if said else (rest, 0, "")


def _order_column(paper: _Paper, column: Column) -> tuple[bool, int, tuple[int, tuple[str, int, str]], bool]:
    return (
        column.model == PREVIOUS_BEST,
        paper.table.place(column.metric),
        paper.order_model(column.model),
        column.published,
    )


def _own_place(one: Measurement) -> _Place:
    return _Place(one.record.dataset, simplified(one.method), simplified(one.record.pretrain_data))


def _published_place(row: ReferenceRow) -> _Place:
    return _Place(row.dataset, simplified(row.method), simplified(row.pretrain_data))


def _position(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _main_title(table: PaperTable) -> str:
    return f"{table.title or next(iter(table.datasets.values()))}: {table.measures}"


def _nothing_fits(records: Iterable[Record], fitting: Sequence[Record], table: PaperTable) -> str:
    if fitting:
        found = sorted({metric.name for record in fitting for metric in record.metrics})
        return (
            f'layout "{table.name}" shows {" and ".join(table.metrics)}, but the {len(fitting)} runs that belong to it '
            f"recorded {', '.join(found)} only"
        )
    return f'no run belongs to layout "{table.name}". Found: {"; ".join(_counted(records))}'


def _counted(records: Iterable[Record]) -> list[str]:
    """How many records there are of what, and where they stand: "2 of detection on coco2017 (layout coco)"."""
    counts = Counter((record.task, record.dataset, table_of(record)) for record in records)
    return [
        f"{count} of {task} on {dataset}" + (f" (layout {own})" if own else "")
        for (task, dataset, own), count in sorted(counts.items(), key=str)
    ]
