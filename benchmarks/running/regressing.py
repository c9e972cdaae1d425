"""The runs that a verdict compares: stores, nights of one, and results.csv of whatever version, as one table each."""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from backbones.errors import InputError
from benchmarks.planning.records import load_records
from benchmarks.running.collecting import RESULTS, warn
from benchmarks.running.points import read_points
from results.errors import StoreError
from results.garbage_collection import garbage_collection_paused
from results.metrics import PRIMARY, find_metric
from results.nights import first_night, is_night
from results.regression.costs import COSTS
from results.regression.runs import NIGHT, to_runs
from results.summary import read_results_csv, to_frame

if TYPE_CHECKING:
    import pandas as pd

_ANEW = "`backbench collect STORE` writes the file anew"

_Identity: TypeAlias = tuple[str, int, str]
"""A run's key and number, and when it finished."""


def read_sides(baseline: Sequence[Path], current: Sequence[Path]) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Both sides, without the runs that they share: a folder of nights serves as the baseline of each of its nights.

    Shared runs are those of the current side; where the baseline has no others, those of the baseline. A copy of a run
    is that run, so that no night is its own baseline; copies of all, and of nothing else, are compared as they are.
    Raises InputError if both are the same runs in one place, StoreError if the baseline has none, and as `read_side`.
    """
    before, now = _unshared(baseline, current)
    if not to_runs(before):
        expected = f"Expected a store with some, or a {RESULTS}, with one of {', '.join(PRIMARY)}"
        raise StoreError(f"--baseline {_named(baseline)}: no finished runs. {expected}")
    return before, now


def _unshared(baseline: Sequence[Path], current: Sequence[Path]) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    before, now = read_side(baseline), read_side(current)
    ours, theirs = _identities(now), _identities(before)
    shared = {*ours} & {*theirs}
    if {*theirs} - shared:
        return _without(before, theirs, shared), now
    if {*ours} - shared:
        return before, _without(now, ours, shared)
    if not {*_places(now)} & {*_places(before)}:
        return before, now
    raise InputError(
        f"--baseline {_named(baseline)} and --current {_named(current)}: the same runs, which are never worse than "
        "themselves. Name the night to be judged as --current, and those before it, or a folder of all, as --baseline"
    )


@garbage_collection_paused()
def read_side(paths: Sequence[Path]) -> "pd.DataFrame":
    """The rows of all runs of some stores, folders of nights, nights, and results.csv files.

    Records are completed as `load_records` does, so that protocols agree across versions; those that cannot be read are
    told on standard error, and passed over. `directory` begins with the path. The column `night` is the nearest folder
    named by a date that a run lies in; empty where there is none.
    Raises StoreError, naming the path, for what does not exist, or is no table of results, and for a folder whose name
    looks like a date and is none.
    """
    import pandas as pd

    return pd.concat([_read(path) for path in paths], ignore_index=True)


def read_table(path: Path) -> "pd.DataFrame":
    """The rows of a results.csv, each with a number and a night.

    Times are spelled as records do it, whoever has saved the file anew.
    Raises StoreError, naming the path, for what does not exist, is no table of results, lacks either in some row, or
    has a speed or a memory that none can have.
    """
    if not path.exists():
        raise StoreError(f"{path}: no such file or directory. Expected a {RESULTS}, a store, or a folder of nights")
    frame = read_results_csv(path)
    _require_numbers(frame, path)
    _require_costs(frame, path)
    _require_nights(frame, path)
    return frame.assign(finished_at=frame["finished_at"].map(_spelled).astype("string"))


def night_of(directory: Path) -> str:
    """The nearest folder named by a date, the path's own name first; empty where there is none.

    Raises StoreError for one that looks like a date and is none.
    """
    parts = Path(os.path.abspath(directory)).parts  # noqa: PTH100  links keep their names
    return first_night(reversed(parts), directory)


def read_sigmas(texts: Iterable[str]) -> dict[str, float]:
    """Standard deviations between seeds by metric, from `top1=0.1`.

    Raises InputError as `read_points` does, and for a metric that no cell is judged by.
    """
    found = dict(read_points("--sigma", texts, "top1=0.1"))
    for metric, points in found.items():
        if metric not in PRIMARY:
            judging = ", ".join(PRIMARY)
            raise InputError(f"--sigma {metric}={points:g}: no cell is judged by {metric}, but by one of {judging}")
    return found


def _read(path: Path) -> "pd.DataFrame":
    if path.is_dir():
        runs = load_records([path], on_unreadable=warn)
        frame = to_frame((record for _, record in runs), [str(directory) for directory, _ in runs])
    else:
        frame = read_table(path)
        frame["directory"] = [str(path.parent / place) if place else "" for place in frame["directory"]]
    known = frame[NIGHT] if NIGHT in frame.columns else [""] * len(frame)
    places = [Path(place) if place else path for place in frame["directory"]]
    nights = [told or night_of(place) for told, place in zip(known, places, strict=True)]
    return frame.assign(**{NIGHT: nights}).astype({"directory": "string", NIGHT: "string"})


def _require_numbers(frame: "pd.DataFrame", path: Path) -> None:
    if not_finite := [value for value in frame["value"] if not math.isfinite(value)]:
        many = f"{len(not_finite)} row{'s' if len(not_finite) > 1 else ''}"
        raise StoreError(f"{path}, column value: expected finite numbers, found {many} without. {_ANEW}")
    for name, value in zip(frame["metric"], frame["value"], strict=True):
        low, high = find_metric(name).bounds if name in PRIMARY else (-math.inf, math.inf)
        if not low <= value <= high:
            raise StoreError(f"{path}, column value: {value} is no {name}, which is {low} to {high}. {_ANEW}")


def _require_costs(frame: "pd.DataFrame", path: Path) -> None:
    """Their logarithms are compared; what is missing, or 0, was not measured."""
    for column in (cost.column for cost in COSTS):
        for value in frame[column].dropna():
            if not 0 <= value < math.inf:
                raise StoreError(f"{path}, column {column}: expected finite numbers from 0 on, found {value}. {_ANEW}")


def _spelled(time: str) -> str:
    """A time as records spell it, 2026-11-26T04:05:06+00:00: a run is known by it, wherever its row was saved."""
    with suppress(ValueError):
        return datetime.fromisoformat(time).isoformat()
    return time


def _require_nights(frame: "pd.DataFrame", path: Path) -> None:
    """A spreadsheet spells dates as its country does, or with a time: several nights become one, or one becomes two."""
    told = frame[NIGHT] if NIGHT in frame.columns else [""] * len(frame)
    for night, finished in zip(told, frame["finished_at"], strict=True):
        column, text, day = (NIGHT, night, night) if night else ("finished_at", finished, str(finished)[:10])
        if not is_night(day):
            found = f'expected dates such as 2026-11-26, found "{text}"'
            raise StoreError(f"{path}, column {column}: {found}. {_ANEW}")


def _identities(frame: "pd.DataFrame") -> list[_Identity]:
    """By what each row's run is known, wherever it lies: a night that was copied or promoted is the same one."""
    return [*zip(frame["key"], frame["run"].fillna(1), frame["finished_at"], strict=True)]


def _places(frame: "pd.DataFrame") -> list[str]:
    return [os.path.realpath(place) for place in frame["directory"].unique() if place]


def _without(frame: "pd.DataFrame", identities: Sequence[_Identity], shared: set[_Identity]) -> "pd.DataFrame":
    return frame[[identity not in shared for identity in identities]].reset_index(drop=True)


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
