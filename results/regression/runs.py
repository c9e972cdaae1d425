"""From the rows of results.csv to runs: one each, with the metric that its cell is judged by."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from results.metrics import PRIMARY
from results.nights import first_night
from results.regression.findings import CellName

if TYPE_CHECKING:
    import pandas as pd

NIGHT = "night"
"""A column of ours: the night that a run is of."""

MACHINE = ("device", "world_size", "precision", "cuda", "driver", "torch")
"""The columns that say what speed and memory are of, beside the cell."""

_OF_A_RUN = (NIGHT, "task", "dataset", "backbone", "recipe", "seed", "key", "run", "directory")
_RANK = {name: place for place, name in enumerate(PRIMARY)}
_COLUMNS = (
    *(*CellName._fields, *MACHINE, "seed", "value", "protocol", "settings", "deviations", "data_fingerprint", "n_eval"),
    *("train_images_per_second", "peak_memory_mb", "key", "run", "code", "finished_at", "directory"),
    *("train_loss", "checkpoint_sha256", "trained"),
)


@dataclass(frozen=True)
class Run:
    """A run of a cell in a night. row: its other columns, by name; None for what is not known."""

    cell: CellName
    night: str
    seed: int
    value: float
    protocol: str
    row: dict[str, Any]

    @cached_property
    def machine(self) -> tuple[str, ...]:
        return tuple("" if self.row[name] is None else str(self.row[name]) for name in MACHINE)


def to_runs(frame: "pd.DataFrame") -> list[Run]:
    """The runs of all rows, each with the first of `PRIMARY` that it has; of a seed's runs in a night the one that
    counts, by the rule of `results.latest`.

    By night and seed. A run's night is the folder of that name in `directory`, as `backbench suite --keep-nights` has
    it, or else the day on which the run finished; a column `night` that is there counts before both. Raises StoreError
    for a folder whose name looks like a date and is none.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in _rows(frame):
        if row["metric"] not in _RANK or row["value"] is None:
            continue
        of_run = tuple(row[name] for name in _OF_A_RUN)
        if of_run not in found or _RANK[row["metric"]] < _RANK[found[of_run]["metric"]]:
            found[of_run] = row
    alike: dict[tuple[Any, ...], dict[str, Run]] = {}
    for row in sorted(found.values(), key=lambda row: (row[NIGHT], row["seed"] or 0, row["run"], row["finished_at"])):
        cell = CellName(*(str(row[name] or "") for name in CellName._fields))
        protocol = str(row["protocol"] or _unknown_protocol(row))
        run = Run(cell, row[NIGHT], int(row["seed"] or 0), float(row["value"]), protocol, row)
        alike.setdefault((cell, run.protocol, run.night, run.seed), {})[str(row["key"] or "")] = run
    return [max(of_keys.values(), key=_rank) for of_keys in alike.values()]


def _rank(run: Run) -> tuple[bool, str, str]:
    """Of several keys the latest finished run counts, an evaluation of what was trained before only by itself."""
    return not run.row["trained"], run.row["finished_at"], str(run.row["key"] or "")


def _unknown_protocol(row: dict[str, Any]) -> str:
    """Of a table of an earlier version, which has no protocols: what it has of data, images and settings."""
    known = "; ".join(f"{row[name] or ''}" for name in ("data_fingerprint", "n_eval", "deviations"))
    return f"not known: {known}"


def _rows(frame: "pd.DataFrame") -> Iterable[dict[str, Any]]:
    names = [name for name in (*_COLUMNS, NIGHT) if name in frame.columns]
    columns = [[None if missing else value for value, missing in _known(frame[name])] for name in names]
    for values in zip(*columns, strict=True):
        row = dict.fromkeys(_COLUMNS) | dict(zip(names, values, strict=True))
        row["run"], row["finished_at"] = int(row["run"] or 1), str(row["finished_at"] or "")
        place = str(row["directory"] or "")
        row[NIGHT] = str(row.get(NIGHT) or first_night(place.split("/"), place) or str(row["finished_at"])[:10])
        yield row


def _known(column: "pd.Series[Any]") -> Iterable[tuple[Any, bool]]:
    return zip(column.tolist(), column.isna().tolist(), strict=True)
