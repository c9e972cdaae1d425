"""How far a run is, by the end of its log; and what a finished one says of itself, by its record.

Both are read as they are: of a thousand runs, in a second, by whoever looks on.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.running.inventory import is_whole_entry
from results.store import RECORD

_END_OF_LOG = 8 << 10
"""Bytes at the end of a log that its last lines are looked for in: a line has two to six hundred."""

_ON_A_GPU = "cuda"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    update:       updates of the weights that are done, of `updates`; None in logs of earlier versions
    seconds:      that it has trained until now, over all its parts
    seconds_left: of training, at the speed of the last lines; None where that is not known
    processes:    of its last part; 1 where the log of an earlier version does not tell
    """

    update: int | None
    updates: int | None
    loss: float
    seconds: float
    seconds_left: float | None
    on_gpu: bool
    processes: int = 1


@dataclass(frozen=True)
class Result:
    """What a record says: its metrics by name, where it deviates, and what it took.

    seconds:   from the claim of the run's directory to the record, over all its parts; of training where only that is
               known
    processes: of its last part
    written:   when, in seconds since the epoch, by the file server's clock
    plan, declared, normalisation: as the record has them
    checkpoint: the SHA-256 of its weights; of a pre-training, of what came out
    """

    metrics: Mapping[str, float]
    deviations: Sequence[str] = ()
    seconds: float = 0.0
    processes: int = 1
    on_gpu: bool = False
    published: Mapping[str, float] = field(default_factory=dict)
    written: float = 0.0
    plan: str = ""
    declared: Mapping[str, str] = field(default_factory=dict)
    normalisation: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None


def read_progress(run: Path) -> Progress | None:
    """How far a run's training is; None where its log has no whole line."""
    entries = _last_entries(run / "log.jsonl")
    if not entries:
        return None
    last = entries[-1]
    update, updates = last.get("update"), last.get("updates")
    return Progress(
        update=None if update is None else round(update),
        updates=None if updates is None else round(updates),
        loss=float(last["loss"]),
        seconds=_seconds(last),
        seconds_left=_seconds_left(entries),
        on_gpu=last.get("device") == _ON_A_GPU,
        processes=_processes(last),
    )


def read_result(run: Path) -> Result:
    """What the record of a finished run says. Raises OSError, and ValueError for what is no record."""
    record = json.loads((run / RECORD).read_bytes())
    try:
        metrics = {str(metric["name"]): float(metric["value"]) for metric in record["metrics"]}
        if unlike := [name for name, value in metrics.items() if not math.isfinite(value)]:
            raise ValueError(f"its {unlike[0]} is {metrics[unlike[0]]}, which is no result")
        published = {str(metric["name"]): metric["expected"] for metric in record["metrics"] if metric.get("expected")}
        return Result(
            metrics=metrics,
            deviations=tuple(map(str, record.get("deviations", ()))),
            seconds=float(record.get("total_seconds") or record.get("wall_seconds") or 0.0),
            processes=int(record.get("world_size") or 1),
            on_gpu=bool(record.get("driver") or record.get("cuda")),
            published=published,
            plan=str(record.get("plan") or ""),
            declared=dict(record.get("declared") or {}),
            normalisation=dict(record.get("normalisation") or {}),
            checkpoint=record.get("checkpoint_sha256"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no record of backbench's: {error!r}") from None


def _last_entries(log: Path) -> list[dict[str, Any]]:
    """The whole lines at the end of a log that follow each other: each has more updates than the one before."""
    try:
        with log.open("rb") as file:
            file.seek(-min(_END_OF_LOG, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().decode("utf-8-sig", errors="replace").splitlines()
    except OSError:
        return []
    entries: list[dict[str, Any]] = []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not (isinstance(entry, dict) and is_whole_entry(entry)):
            continue
        if entries and not (entry.get("update", 0) < entries[-1].get("update", 0)):
            break
        entries.append(entry)
    return entries[::-1]


def _seconds(entry: Mapping[str, Any]) -> float:
    seconds = entry.get("seconds")
    return max(float(seconds), 0.0) if isinstance(seconds, int | float) else 0.0


def _processes(entry: Mapping[str, Any]) -> int:
    told = entry.get("processes")
    return max(told, 1) if isinstance(told, int) else 1


def _seconds_left(entries: Sequence[Mapping[str, Any]]) -> float | None:
    last = entries[-1]
    if not (isinstance(last.get("update"), int) and isinstance(last.get("updates"), int)):
        return None
    first = entries[0] if len(entries) > 1 else {"update": 0, "seconds": 0.0}
    made, took = last["update"] - first.get("update", 0), _seconds(last) - _seconds(first)
    if made <= 0 or took <= 0:
        return None
    return max(last["updates"] - last["update"], 0) * took / made
