"""A table as lines, one number a line, ours and the published ones, for programs and for pandas."""

from typing import TYPE_CHECKING, Any

from results.measurements import Number
from results.paper_tables import find_table
from results.reference import PREVIOUS_BEST

if TYPE_CHECKING:
    from results.tables import Column, Row, Table

COLUMNS = {
    "table": "string",
    "dataset": "string",
    "split": "string",
    "metric": "string",
    "method": "string",
    "pretrain_data": "string",
    "model": "string",
    "published": "bool",
    "value": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "interval": "string",
    "seeds": "string",
    "n_eval": "Int64",
    "best": "boolean",
    "note": "string",
}
"""What a line holds, and as what pandas has it.

`interval` is over "seeds" or "images"; `seeds` lists them, separated by spaces; `note` is the footnote's text. Of
published numbers the last seven are None.
"""


def table_lines(table: "Table") -> list[dict[str, Any]]:
    """One dictionary a number, at full precision, with `COLUMNS` as its keys."""
    return [
        dict(zip(COLUMNS, _line(table.name, row, column, cell), strict=True))
        for block in table.blocks
        for row in block.rows
        for column, cell in zip(block.columns, row.cells, strict=True)
        if cell is not None
    ]


def _line(table: str, row: "Row", column: "Column", cell: Number | float) -> list[object]:
    method, pretrain_data = row.labels[-2:]
    metric = find_table(table).metric_on(row.dataset) or column.metric
    if isinstance(cell, float):
        names = (PREVIOUS_BEST, "", "") if column.model == PREVIOUS_BEST else (method, pretrain_data, column.model)
        return [table, row.dataset, "", metric, *names, True, cell, *[None] * 7]
    names = (method, pretrain_data, column.model)
    seeds = " ".join(str(seed) for seed in cell.seeds)
    measured = (cell.value, cell.low, cell.high, cell.interval, seeds, cell.n_eval, cell.best, cell.note)
    return [table, row.dataset, cell.split, metric, *names, False, *measured]
