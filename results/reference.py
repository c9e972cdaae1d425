"""The published numbers that every table shows beside ours."""

import csv
import functools
import io
import math
from dataclasses import dataclass, fields
from importlib import resources

from results.errors import ResultsError
from results.measurements import simplified
from results.metrics import MetricKind, find_metric

PREVIOUS_BEST = "prev best"


@dataclass(frozen=True)
class ReferenceRow:
    """One published number. `method` "prev best" is the best that the paper knew of, of any model."""

    table: str
    task: str
    dataset: str
    metric: str
    method: str
    pretrain_data: str
    model: str
    value: float
    source: str


def reference_rows(table: str | None = None) -> list[ReferenceRow]:
    """The published numbers of one table, or of all, in the paper's order.

    Raises ResultsError if the file of reference numbers is damaged.
    """
    name = "reference/paper_tables.csv"
    text = (resources.files("results") / name).read_text(encoding="utf-8")
    rows = parse_reference(text, f"results/{name}")
    return [row for row in rows if table is None or row.table == table]


@functools.cache
def _all_rows() -> tuple[ReferenceRow, ...]:
    return tuple(reference_rows())


def reference_value(table: str, dataset: str, metric: str, method: str, pretrain_data: str, model: str) -> float | None:
    """The published number in one cell of a table, by the names that tables compare; None where there is none."""
    wanted = (table, dataset, metric, simplified(method), simplified(pretrain_data), simplified(model))
    for row in _all_rows():
        names = (simplified(row.method), simplified(row.pretrain_data), simplified(row.model))
        if row.method != PREVIOUS_BEST and (row.table, row.dataset, row.metric, *names) == wanted:
            return row.value
    return None


def parse_reference(text: str, name: str) -> list[ReferenceRow]:
    """Read reference numbers from CSV. `name` is what an error calls the file.

    Raises ResultsError for other columns than ReferenceRow's, a missing entry, an unknown metric, a value outside the
    metric's bounds, a number given twice.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    expected = [field.name for field in fields(ReferenceRow)]
    if reader.fieldnames != expected:
        raise ResultsError(f"{name}: expected the columns {', '.join(expected)}; found {reader.fieldnames}")
    rows: dict[tuple[str, ...], ReferenceRow] = {}
    for entries in reader:
        where = f"{name}, line {reader.line_num}"
        row = _parse_row(entries, where)
        place = (row.table, row.dataset, row.metric, row.method, row.pretrain_data, row.model)
        if place in rows:
            raise ResultsError(f"{where}: {' / '.join(place)} is given twice")
        rows[place] = row
    return list(rows.values())


def _parse_row(entries: dict[str, str], where: str) -> ReferenceRow:
    if None in entries or None in entries.values():
        raise ResultsError(f"{where}: expected {len(fields(ReferenceRow))} entries")
    may_be_empty = {"pretrain_data", "model"} if entries["method"] == PREVIOUS_BEST else set()
    empty = [column for column, entry in entries.items() if not entry.strip() and column not in may_be_empty]
    if empty:
        raise ResultsError(f"{where}: {', '.join(empty)} must not be empty")
    metric = _metric(entries["metric"], where)
    try:
        value = float(entries["value"])
    except ValueError:
        value = math.nan
    low, high = metric.bounds
    if not (math.isfinite(value) and low <= value <= high):
        expected = "a percentage" if metric.unit == "%" else f"a number between {low} and {high}"
        raise ResultsError(f"{where}: value must be {expected}, found {entries['value']!r}")
    texts = {column: entry for column, entry in entries.items() if column != "value"}
    return ReferenceRow(value=value, **texts)


def _metric(name: str, where: str) -> MetricKind:
    try:
        return find_metric(name)
    except ResultsError as error:
        raise ResultsError(f"{where}: {error}") from None
