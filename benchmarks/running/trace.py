"""Whether two runs took the same course: their logs, line by line. The surest sign that code changed behaviour."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backbones.errors import DataError, InputError
from backbones.training.later import later_settings, without_neutral
from backbones.training.machine import is_cpu
from backbones.training.settings import protocol
from benchmarks.planning.records import renamed
from benchmarks.running.claim import evaluated
from results import Record, ResultsError, read_record
from results.measurements import unlike_origins
from results.record import Outline
from tasks.registry import RECIPES, settings_kind

LOG, RECIPE = "log.jsonl", "recipe.yaml"

TOLERANCES = {"fp32": 1.3e-6, "fp16": 1e-3, "bf16": 1.6e-2}
"""Relative ones for runs on a GPU, by precision: those of torch.testing.assert_close."""

COMPUTED = ("lr",)
"""What no device rounds: it has to agree exactly everywhere."""

_UNTRACED = {"iteration", "update", "updates", "epoch", "images_per_second", "seconds", "device", "processes"}
"""What tells of the line itself, or of the machine."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """What a run left behind of its course, finished or not.

    entries:  the log's lines
    faults:   what is wrong with others: "line 10 cannot be read"
    settings: its recipe's, with the precision that it came to where that is known; none where they are not
    record:   None where it has not finished
    """

    directory: Path
    entries: list[Entry]
    faults: list[str]
    settings: dict[str, Any]
    record: Record | None = None

    @property
    def updates(self) -> int:
        """How far it goes."""
        return _update(self.entries[-1])

    @property
    def on_cpu(self) -> bool:
        """Whether it was on a CPU throughout, as its log says; of an earlier version's, which does not, its record."""
        recorded = self.record.device if self.record else ""
        return all(is_cpu(entry.get("device") or recorded) for entry in self.entries)


@dataclass(frozen=True)
class Difference:
    """One value of one line that differs; None where a run has none."""

    name: str
    a: float | None
    b: float | None

    @property
    def relative(self) -> float | None:
        """By how much, as a share of the larger one; None where that cannot be told."""
        if self.a is None or self.b is None:
            return None
        return abs(self.a - self.b) / max(abs(self.a), abs(self.b), 1e-300)


@dataclass(frozen=True)
class TraceComparison:
    """How far two traces are the same.

    same_up_to:  the last update of which both tell, and the same; 0 for none
    differs_at:  the update at which they first differ, None where they don't
    differences: what differs there
    tolerance:   relative; 0 where all has to be equal
    settings:    those that decide numbers and differ: "optimizer.weight_decay: 0.05 against 0.1"
    origins:     what else their records say that differs: "processes (1, 2)"
    gaps:        what of the logs was not compared, up to the end of the shorter one: "A: line 10 cannot be read"
    """

    a: Trace
    b: Trace
    same_up_to: int
    differs_at: int | None
    differences: list[Difference]
    tolerance: float
    settings: list[str]
    origins: list[str]
    gaps: list[str]

    @property
    def are_the_same(self) -> bool:
        """Whether every line of both, up to the end of the shorter one, is there and says the same."""
        return self.differs_at is None and not self.gaps


def compare_traces(a: Path, b: Path, tolerance: float | None = None) -> TraceComparison:
    """Compare two runs' logs as far as the shorter one goes: losses, their parts and learning rates, no times.

    Each path is a run's directory, or holds one run. Without a `tolerance` values have to be equal if both runs were on
    a CPU, and else within `TOLERANCES`; learning rates always have to be equal. Raises InputError if a log is missing
    or empty, or if no line of one tells of the same updates as one of the other.
    """
    ours, theirs = _read_trace(a), _read_trace(b)
    if tolerance is None:
        tolerance = _tolerance(ours, theirs)
    settings = _settings_that_differ(ours, theirs)
    origins = unlike_origins([ours.record, theirs.record]) if ours.record and theirs.record else []
    pairs, gaps = _pairs(ours, theirs)
    same_up_to, differs_at, differences = 0, None, list[Difference]()
    for one, other in pairs:
        update = _update(one)
        if differences := _differences(one, other, tolerance):
            differs_at = update
            break
        same_up_to = update
    return TraceComparison(ours, theirs, same_up_to, differs_at, differences, tolerance, settings, origins, gaps)


def _read_trace(path: Path) -> Trace:
    log = _only_log(path)
    entries, faults = _read_log(log)
    if not entries:
        raise InputError(f"{log}: empty: the run has not come to its first line (runtime.log_every). Compare later")
    record = _read_record(log.parent)
    settings = _read_settings(log.with_name(RECIPE)) or (record.recipe_settings if record else {})
    if record and record.precision and settings.get("precision") in (None, "auto"):
        settings = settings | {"precision": record.precision}
    return Trace(log.parent, entries, faults, settings, record)


def _read_record(directory: Path) -> Record | None:
    try:
        return read_record(directory, Outline)
    except ResultsError:  # unfinished, or no record: it adds to what the log says, and is not needed
        return None


def _read_settings(recipe: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{recipe}: cannot be read as a run's settings: {' '.join(str(error).split())}") from error
    return settings if isinstance(settings, dict) else {}


def _only_log(path: Path) -> Path:
    if (path / LOG).is_file():
        return path / LOG
    if evaluated(path):
        raise InputError(f"{path}: {evaluated(path)}, which took no course to compare. Name a run that trained")
    logs = sorted(path.rglob(LOG))
    if len(logs) != 1:
        found = f"{len(logs)} runs, for example {logs[0].parent}" if logs else "none"
        raise InputError(f"{path}: expected a run's directory, with a {LOG}, or one that holds one run; found {found}")
    return logs[0]


def _read_log(log: Path) -> tuple[list[Entry], list[str]]:
    """The lines of a log, each further than the one before; and what is wrong with others, but for a torn last one."""
    entries: list[Entry] = []
    torn, back = [], []
    lines = log.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, text in enumerate(lines, start=1):
        entry = _parsed(text)
        if entry is None:
            torn += [number] if text.strip() and number < len(lines) else []
        elif entries and entry["epoch"] <= entries[-1]["epoch"]:
            back.append(number)
        else:
            entries.append(entry)
    faults = [
        (torn, "cannot be read"),
        (back, "told of before: two processes wrote the log"),
    ]
    return entries, [f"{_numbered(numbers)} {fault}" for numbers, fault in faults if numbers]


def _numbered(lines: list[int]) -> str:
    return f"line {lines[0]}" if len(lines) == 1 else f"line {lines[0]} and {len(lines) - 1} more"


def _parsed(text: str) -> Entry | None:
    """A line of a log; None for a torn one."""
    try:
        entry = json.loads(text)
        is_line = all(isinstance(entry[name], int | float) for name in ("iteration", "epoch", "loss"))
    except (ValueError, KeyError, TypeError):
        return None
    return entry if is_line else None


def _pairs(a: Trace, b: Trace) -> tuple[list[tuple[Entry, Entry]], list[str]]:
    """The lines of both that are means over the same updates, wherever gradients accumulate over how many steps.

    And what of them has no such counterpart, or cannot be read.
    """
    ours, theirs = (dict(zip(_spans(trace), trace.entries, strict=True)) for trace in (a, b))
    shared = [(entry, theirs[span]) for span, entry in ours.items() if span in theirs]
    if not shared:
        raise InputError(
            f"{a.directory} and {b.directory}: no line of one log tells of the same updates as one of the other's. "
            "Runs are compared that had the same runtime.log_every, and images and batches that make the same epochs"
        )
    end = min(a.entries[-1]["epoch"], b.entries[-1]["epoch"])
    gaps = [f"{name}: {fault}" for name, trace in (("A", a), ("B", b)) for fault in trace.faults]
    for name, spans, others in (("A", ours, theirs), ("B", theirs, ours)):
        whole = [span for span in spans if span[1] <= end]
        alone = [span for span in whole if span not in others]
        if alone:
            update = _update(spans[alone[0]])
            told = f"tell of updates that no line of {'B' if name == 'A' else 'A'} tells of"
            gaps.append(f"{name}: {len(alone)} of {len(whole)} lines {told}, the first after update {update:,}")
    return shared, gaps


def _spans(trace: Trace) -> list[tuple[float, float]]:
    """From where to where each line goes, in epochs, which do not depend on accumulation."""
    ends = [entry["epoch"] for entry in trace.entries]
    return list(zip([0.0, *ends[:-1]], ends, strict=True))


def _differences(a: Entry, b: Entry, tolerance: float) -> list[Difference]:
    found = []
    for name in dict.fromkeys((*a, *b)):
        if name in _UNTRACED:
            continue
        difference = Difference(name, a.get(name), b.get(name))
        share = difference.relative
        if share is None or not share <= (0 if name in COMPUTED else tolerance):  # nor is NaN the same as anything
            found.append(difference)
    return found


def _update(entry: Entry) -> int:
    """How many updates a line comes after. Logs of earlier versions have iterations only."""
    update: int = entry["update"] if "update" in entry else entry["iteration"]
    return update


def _tolerance(a: Trace, b: Trace) -> float:
    if a.on_cpu and b.on_cpu:
        return 0.0
    return max(TOLERANCES.get(str(trace.settings.get("precision")), TOLERANCES["fp32"]) for trace in (a, b))


def _settings_that_differ(a: Trace, b: Trace) -> list[str]:
    """What is not set where a setting came later is as it was before; what "auto" came to may not be known."""
    if not a.settings or not b.settings or a.settings == b.settings:
        return []
    ours, theirs = _decided(a.settings), _decided(b.settings)
    if json.dumps("auto") in (ours.get("precision"), theirs.get("precision")):
        ours.pop("precision", None)
        theirs.pop("precision", None)
    return [
        f"{name}: {ours.get(name, 'not set')} against {theirs.get(name, 'not set')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def _decided(settings: dict[str, Any]) -> dict[str, str]:
    task = settings.get("task")
    neutral = later_settings(settings_kind(task)) if task in RECIPES else {}
    return protocol(without_neutral(renamed(settings), neutral))
