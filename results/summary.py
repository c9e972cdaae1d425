"""Records as rows: `results.csv`, one metric a row, whose columns are only ever added."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.errors import StoreError
from results.record import Metric, Record
from results.store import find_records

if TYPE_CHECKING:
    import pandas as pd

# The contract's columns, in its order, and what each holds; files of earlier versions end before the later ones.
LATER = {"images_per_step": "Int64", "expected": "float64", "parameters": "Int64", "evaluation_images": "Int64"}
COLUMNS = {
    "suite": "string",
    "table": "string",
    "task": "string",
    "dataset": "string",
    "split": "string",
    "metric": "string",
    "value": "float64",
    "method": "string",
    "pretrain_data": "string",
    "model": "string",
    "backbone": "string",
    "checkpoint_sha256": "string",
    "seed": "Int64",
    "recipe": "string",
    "deviations": "string",
    "n_eval": "Int64",
    "ci_low": "float64",
    "ci_high": "float64",
    "train_images_per_second": "float64",
    "peak_memory_mb": "float64",
    "wall_seconds": "float64",
    "device": "string",
    "world_size": "Int64",
    "data_fingerprint": "string",
    "train_loss": "float64",
    "backbench_version": "string",
    "git_commit": "string",
    "finished_at": "string",
    "key": "string",
    **LATER,
}
ORDER = [
    "suite",
    "table",
    "task",
    "dataset",
    "method",
    "model",
    "backbone",
    "seed",
    "key",
    "finished_at",
    "split",
    "metric",
]


def to_frame(records: Iterable[Record]) -> "pd.DataFrame":
    """One row per metric, in the columns of the contract, sorted by what names a number.

    The order of the records does not matter. An unknown text is empty, an unknown number missing; several deviations
    are joined by "; ".
    """
    import pandas as pd

    rows = [_row(record, metric) for record in records for metric in record.metrics]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return frame.sort_values(ORDER, kind="stable", ignore_index=True)


def results_csv(records: Iterable[Record]) -> str:
    """`to_frame(records)` as CSV; the same records give the same text."""
    text: str = to_frame(records).to_csv(index=False, lineterminator="\n")
    return text


def load_results(path: Path | str) -> "pd.DataFrame":
    """The numbers of a `results.csv`, or of all finished runs below a directory, one row a metric, for pandas.

    Records below a directory that can't be read are passed over with a warning.
    Raises StoreError, naming the path, where there is neither.
    """
    path = Path(path)
    if not path.is_dir():
        return read_results_csv(path)
    found = find_records([path], on_unreadable=lambda error: warnings.warn(f"passed over: {error}", stacklevel=2))
    return to_frame(record for _, record in found)


def read_results_csv(path: Path) -> "pd.DataFrame":
    """Read a file with what `results_csv` gave, value for value; columns that this version does not know are kept, and
    those that came later stand without values in files of earlier ones.

    Raises StoreError, naming the file, if it cannot be read, lacks a column or holds text where a number belongs.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype="string", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as CSV: {error}") from error
    frame = frame.assign(**{column: "" for column in LATER if column not in frame.columns})
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise StoreError(f"{path}: not a table of results, it lacks the columns {', '.join(missing)}")
    frame = frame[[*COLUMNS, *(column for column in frame.columns if column not in COLUMNS)]]
    for column, kind in COLUMNS.items():
        if kind != "string":
            frame[column] = _numbers(frame[column], kind, f"{path}, column {column}")
    return frame


def _row(record: Record, metric: Metric) -> dict[str, Any]:
    fields = {column: getattr(record, column) for column in COLUMNS if column in Record.model_fields}
    return fields | {
        "split": metric.split,
        "metric": metric.name,
        "value": metric.value,
        "n_eval": metric.n_eval,
        "ci_low": metric.ci_low,
        "ci_high": metric.ci_high,
        "expected": metric.expected,
        "checkpoint_sha256": record.checkpoint_sha256 or "",
        "git_commit": record.git_commit or "",
        "deviations": "; ".join(record.deviations),
        "finished_at": record.finished_at.isoformat(),
    }


def _numbers(texts: "pd.Series[Any]", kind: str, where: str) -> "pd.Series[Any]":
    """Python's own conversion of each text, because it is exact."""
    import pandas as pd

    convert = float if kind == "float64" else int
    try:
        numbers = [convert(text) if text else None for text in texts]
    except ValueError as error:
        raise StoreError(f"{where}: expected numbers: {error}") from None
    return pd.Series(numbers, index=texts.index, dtype=kind)
