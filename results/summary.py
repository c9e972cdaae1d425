"""Records as rows: `results.csv`, one metric a row, whose columns are only ever added."""

import csv
import io
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.errors import StoreError
from results.measurements import Measurement, checkpoint_name, protocol_digits
from results.record import Record, spell_out
from results.store import find_records

if TYPE_CHECKING:
    import pandas as pd

# The contract's columns, in its order, and what each holds; files of earlier versions end before the later ones.
LATER = {
    "precision": "string",
    "torch": "string",
    "protocol": "string",
    "images_per_step": "Int64",
    "corrupt_images": "Int64",
    "total_seconds": "float64",
    "evaluation_seconds": "float64",
    "expected": "float64",
    "run": "Int64",
    "code": "string",
    "cuda": "string",
    "driver": "string",
    "parameters": "Int64",
    "directory": "string",
    "checkpoint": "string",
    "settings": "string",
    "evaluation_images": "Int64",
    "schema_version": "Int64",
    "checkpoint_part": "string",
    "gflops": "float64",
    "gflops_image_size": "Int64",
    "trained": "string",
}
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
OF_METRICS = ("split", "metric", "value", "n_eval", "ci_low", "ci_high", "expected", "protocol")
"""The columns in which the rows of one record differ."""

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""What spreadsheets write in place of commas, in some languages."""

_AS_CSV = 'Save it as "CSV UTF-8", with commas'
_NO_TEXT = {
    b"PK\x03\x04": f"a workbook. {_AS_CSV}",
    b"\xff\xfe": f"text in UTF-16. {_AS_CSV}",
    b"\xfe\xff": f"text in UTF-16. {_AS_CSV}",
    b"\x1f\x8b": "compressed. Unpack it: gunzip",
}
"""How files begin that are named like tables and are none yet."""

_PLACES = [list(COLUMNS).index(column) for column in OF_METRICS]
_FIELDS = [column for column in COLUMNS if column in Record.model_fields and column not in OF_METRICS]

ORDER = (
    "suite",
    "table",
    "task",
    "dataset",
    "method",
    "model",
    "backbone",
    "seed",
    "key",
    "run",
    "finished_at",
    "directory",
)
"""By what records are sorted; the rows of one are by split and metric."""


def to_frame(records: Iterable[Record], directories: Sequence[str] | None = None) -> "pd.DataFrame":
    """One row per metric, in the columns of the contract, sorted by what names a number.

    The order of the records does not matter. An unknown text is empty, an unknown number missing; several deviations
    are joined by "; ". `directories` say where each record's run lies. Rows of one `protocol`, a digest, may be
    compared; `settings` holds every setting that decides the number, flat, as a JSON object.
    """
    import pandas as pd

    return pd.DataFrame(_rows(records, directories), columns=list(COLUMNS)).astype(COLUMNS)


def results_csv(records: Iterable[Record], directories: Sequence[str] | None = None) -> str:
    """`to_frame(records, directories)` as CSV; the same records give the same text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(records, directories))
    return text.getvalue()


def _rows(records: Iterable[Record], directories: Sequence[str] | None) -> Iterator[list[Any]]:
    """A value for each column, a row for each metric, in their order."""
    records = list(records)
    each = zip(records, directories or [""] * len(records), strict=True)
    shared = [(_shared(record, directory), record) for record, directory in each]
    shared.sort(key=lambda one: [one[0][column] for column in ORDER])
    for columns, record in shared:
        row = [columns.get(column) for column in COLUMNS]
        for of_metric in _of_metrics(record):
            for place, value in zip(_PLACES, of_metric, strict=True):
                row[place] = value
            yield [*row]


def load_results(path: Path | str) -> "pd.DataFrame":
    """The numbers of a `results.csv`, or of all finished runs below a directory, one row a metric, for pandas.

    Both are the same, but that records of earlier versions are read here as they are, while `backbench collect`
    completes them. Records below a directory that can't be read are passed over with a warning.
    Raises StoreError, naming the path, where there is neither.
    """
    path = Path(path)
    if not path.is_dir():
        return read_results_csv(path)
    found = find_records([path], on_unreadable=lambda error: warnings.warn(f"passed over: {error}", stacklevel=2))
    return to_frame((record for _, record in found), [place.relative_to(path).as_posix() for place, _ in found])


def read_results_csv(path: Path | str) -> "pd.DataFrame":
    """Read a file with what `results_csv` gave, value for value; columns that this version does not know are kept, and
    those that came later stand without values in files of earlier ones.

    Raises StoreError, naming the file, if it cannot be read, lacks a column, was cut off within a row, or holds text
    where a number belongs.
    """
    import pandas as pd

    try:
        _require_text(Path(path))
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            heading = file.readline()
        if separators := [name for mark, name in _OTHER_SEPARATORS.items() if heading.count(mark) > heading.count(",")]:
            raise StoreError(f"{path}: its columns are separated by {separators[0]}. Save it with commas")
        _require_whole_rows(Path(path))
        frame = pd.read_csv(path, dtype="string", keep_default_na=False)
    except StoreError:
        raise
    except UnicodeDecodeError:
        raise StoreError(f"{path}: cannot be read as CSV: no UTF-8. {_AS_CSV}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read as CSV: {error}") from error
    empty = pd.Series("", index=frame.index, dtype="string")
    frame = frame.assign(**{column: empty for column in LATER if column not in frame.columns})
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise StoreError(f"{path}: not a table of results, it lacks the columns {', '.join(missing)}")
    if (frame["metric"] == "metric").any():
        raise StoreError(f"{path}: its heading stands in it again: files were put together. Leave only the first one")
    frame = frame[[*COLUMNS, *(column for column in frame.columns if column not in COLUMNS)]]
    for column, kind in COLUMNS.items():
        if kind != "string":
            frame[column] = _numbers(frame[column], kind, f"{path}, column {column}")
    return frame


def _require_text(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise StoreError(f"{path}: a directory, a pipe or a device. Expected a file, which is read more than once")
    with path.open("rb") as file:
        begin = file.read(4)
    for mark, told in _NO_TEXT.items():
        if begin.startswith(mark):
            raise StoreError(f"{path}: {told}")


def _require_whole_rows(path: Path) -> None:
    """pandas takes what a row lacks at its end for empty, and the rest of a number for a number."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader(_without_zeros(file, path))
        columns = len(next(rows, []))
        for row in rows:
            if 0 < len(row) < columns:
                raise StoreError(
                    f"{path}, line {rows.line_num}: {len(row)} of {columns} columns; the file was cut off. Copy it "
                    "whole, or write it anew: `backbench collect STORE`"
                )


def _without_zeros(lines: Iterable[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise StoreError(
                f"{path}, line {number}: holds bytes of zero, as a crash of the machine leaves them. Copy it whole, or "
                "write it anew: `backbench collect STORE`"
            )
        yield line


def _shared(record: Record, directory: str) -> dict[str, Any]:
    """What the rows of one record share."""
    fields = {column: getattr(record, column) for column in _FIELDS}
    return fields | {
        "checkpoint": checkpoint_name(record),
        "checkpoint_sha256": record.checkpoint_sha256 or "",
        "git_commit": record.git_commit or "",
        "deviations": "; ".join(record.deviations),
        "finished_at": record.finished_at.isoformat(),
        "torch": record.versions.get("torch", ""),
        "corrupt_images": len(record.corrupt_images),
        "directory": spell_out(directory),
        "settings": _settings(record),
    }


def _settings(record: Record) -> str:
    """The settings that decide the number as one JSON object: what the record has as JSON each is not quoted again."""
    return _as_object(tuple(sorted(record.protocol.items())))


@lru_cache(maxsize=1024)
def _as_object(settings: tuple[tuple[str, str], ...]) -> str:
    return f"{{{', '.join(f'{json.dumps(name)}: {value}' for name, value in settings)}}}"


def _of_metrics(record: Record) -> Iterator[tuple[Any, ...]]:
    """What each row of one record has for itself, as `OF_METRICS` has it."""
    digits: dict[tuple[str, int | None], str] = {}
    for metric in sorted(record.metrics, key=lambda metric: (metric.split, metric.name)):
        if (about := (metric.split, metric.n_eval)) not in digits:
            digits[about] = protocol_digits(Measurement(record, metric))
        bounds = metric.ci_low, metric.ci_high
        yield metric.split, metric.name, metric.value, metric.n_eval, *bounds, metric.expected, digits[about]


def _numbers(texts: "pd.Series[Any]", kind: str, where: str) -> "pd.Series[Any]":
    """Python's own conversion of each text, because it is exact."""
    import pandas as pd

    convert = float if kind == "float64" else int
    try:
        return pd.Series([convert(text) if text else None for text in texts], index=texts.index, dtype=kind)
    except (ValueError, OverflowError, TypeError) as error:  # pandas has the last two for what is too large
        raise StoreError(f"{where}: expected numbers: {error}") from None
