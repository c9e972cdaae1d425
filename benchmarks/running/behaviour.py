"""Whether the runs of a night took the course of the baseline's: their logs, line by line, at the same seed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbones.errors import InputError
from backbones.training.machine import is_cpu
from benchmarks.planning.records import load_records
from benchmarks.running.baseline_file import is_night
from benchmarks.running.collecting import warn
from benchmarks.running.trace import LOG, TOLERANCES, TraceComparison, compare_traces
from results import Record, load_results, to_frame
from results.regression.behaviour import (
    Courses,
    Origin,
    Parting,
    Tally,
    end_of,
    made_weights,
    not_followed,
    origin_of,
    parted,
    remade_weights,
    remarks_of,
)
from results.regression.findings import Finding
from results.regression.runs import NIGHT, Run, to_runs


@dataclass(frozen=True)
class _Side:
    """Runs, and by the place of those that lie in a directory what their records say."""

    runs: list[Run]
    records: dict[str, Record]

    def log(self, run: Run) -> Path | None:
        """The directory of a run that has a log; None where there is a row of a CSV alone."""
        place = str(run.row["directory"])
        return Path(place) if place in self.records and Path(place, LOG).is_file() else None

    def origin(self, run: Run) -> Origin:
        record = self.records.get(str(run.row["directory"]))
        return origin_of(run, record.versions, record.model_code) if record else origin_of(run)


def behaviour_findings(
    baseline_dirs: Iterable[Path], current_dirs: Iterable[Path], *, strict_trace: bool
) -> tuple[list[Finding], list[str]]:
    """Hold the course of each run of tonight against that of the baseline's latest run of the same cell, protocol and
    seed on the same machine: what left it, and what holds for all.

    Each path is a store, a night of a baseline, or a results.csv, of which the last loss is all that is known. A
    changed course is a notice, with `strict_trace` a regression. Another device, driver, CUDA, PyTorch, precision or
    number of processes rounds otherwise: there nothing is compared. What is fine-tuned from weights that a pre-training
    of the same store has made anew is not blamed for these. Raises ResultsError for a path that is neither.
    """
    before, now = _read(baseline_dirs), _read(current_dirs)
    courses, tally = Courses(_that_trained(before.runs)), Tally()
    made = made_weights([*before.runs, *now.runs])
    findings = []
    for run in _that_trained(now.runs):
        other = courses.find(run, tally)
        if other is None:
            continue
        if remade := remade_weights(other, run, made):
            tally.remade.setdefault(remade, []).append(str(run.cell))
            continue
        ours, theirs = now.log(run), before.log(other)
        if ours and theirs:
            finding = _by_log(theirs, ours, run, tally, (before.origin(other), now.origin(run)), strict_trace)
        else:
            finding = _by_end(other, run, tally, (before.origin(other), now.origin(run)), strict_trace)
        findings += [finding] if finding else []
    return findings, remarks_of(tally)


def _read(paths: Iterable[Path]) -> _Side:
    runs: list[Run] = []
    records: dict[str, Record] = {}
    for path in paths:
        if not path.is_dir():
            runs += to_runs(load_results(path))
            continue
        found = load_records([path], on_unreadable=warn)
        of_path = {str(directory): record for directory, record in found}
        frame = to_frame(of_path.values(), [*of_path])
        nights = {place: _night_of(path, Path(place), record) for place, record in of_path.items()}
        runs += to_runs(frame.assign(**{NIGHT: frame["directory"].map(nights)}))
        records |= of_path
    return _Side(runs, records)


def _night_of(root: Path, directory: Path, record: Record) -> str:
    names = (root.resolve().name, *directory.relative_to(root).parts)
    return next((name for name in names if is_night(name)), f"{record.finished_at:%Y-%m-%d}")


def _that_trained(runs: Iterable[Run]) -> list[Run]:
    """Without those that only evaluated what another had trained."""
    return [run for run in runs if not run.row["trained"]]


def _by_log(
    before: Path, now: Path, run: Run, tally: Tally, origins: tuple[Origin, Origin], strict: bool
) -> Finding | None:
    try:
        found = compare_traces(before, now, 0.0)
        if exact := found.are_the_same and not _of_unlike_length(found):
            tally.identical += 1
        elif not (found.a.on_cpu and found.b.on_cpu):
            found = compare_traces(before, now)
    except InputError as error:
        return not_followed(run, str(error), strict=strict)
    if found.differs_at is None and (gaps := [*_in_words(found.gaps), *_of_unlike_length(found)]):
        return not_followed(run, "; ".join(gaps), strict=strict)
    tally.compared += 1
    if found.differs_at is None:
        tally.alike += not exact
        return None
    first = next((one for one in found.differences if one.name == "loss"), found.differences[0])
    parting = Parting(first.name, first.a, first.b, found.differs_at)
    return parted(run, parting, *origins, strict=strict, settings=found.settings)


def _by_end(other: Run, run: Run, tally: Tally, origins: tuple[Origin, Origin], strict: bool) -> Finding | None:
    is_known, exact = end_of(other, run, 0.0)
    if not is_known:
        return None
    tally.compared += 1
    if exact is None:
        tally.identical += 1
        return None
    parting = end_of(other, run, _tolerance(run))[1]
    if parting is None:
        tally.alike += 1
        return None
    return parted(run, parting, *origins, strict=strict)


def _tolerance(run: Run) -> float:
    """Up to which relative difference two losses are the same on a run's device, as `compare_traces` has it."""
    if is_cpu(str(run.row["device"] or "")):
        return 0.0
    return TOLERANCES.get(str(run.row["precision"]), TOLERANCES["fp32"])


def _of_unlike_length(found: TraceComparison) -> list[str]:
    ours, theirs = found.b.updates, found.a.updates
    return [] if ours == theirs else [f"its log ends at update {ours:,}, that of the baseline at {theirs:,}"]


def _in_words(gaps: Sequence[str]) -> list[str]:
    """Gaps of A and B, as those of the baseline and of tonight."""
    names = {"A": "the baseline", "B": "tonight"}
    return [re.sub(r"\b[AB]\b", lambda found: names[found[0]], gap) for gap in gaps]
