"""Whether the runs of a night took the course of the baseline's: their logs, line by line, at the same seed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.errors import InputError
from backbones.training.machine import is_cpu
from benchmarks.running.trace import LOG, TOLERANCES, TraceComparison, compare_traces
from results import ResultsError, read_record
from results.record import Outline
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
from results.regression.joining import Pair
from results.regression.runs import Run, to_runs

if TYPE_CHECKING:
    import pandas as pd


def behaviour_findings(
    baseline: "pd.DataFrame", current: "pd.DataFrame", *, strict_trace: bool
) -> tuple[list[Finding], list[str]]:
    """Hold the course of each run of tonight against that of the baseline's latest run of the same cell, protocol and
    seed on the same machine: what left it, and what holds for all.

    The sides are as `read_sides` has them. Where a run's `directory` holds no log, the last loss is all that is known.
    A changed course is a notice, with `strict_trace` a regression. Another device, driver, CUDA, PyTorch, precision or
    number of processes rounds otherwise: there nothing is compared. What is fine-tuned from weights that a pre-training
    of the same store has made anew is not blamed for these.
    """
    before, now = to_runs(baseline), to_runs(current)
    courses, tally = Courses(_that_trained(before)), Tally()
    made = made_weights([*before, *now])
    findings = []
    for run in _that_trained(now):
        other = courses.find(run, tally)
        if other is None:
            continue
        if remade := remade_weights(other, run, made):
            tally.remade.setdefault(remade, []).append(str(run.cell))
            continue
        by = _by_log if _has_log(other) and _has_log(run) else _by_end
        finding = by(other, run, tally, strict_trace)
        findings += [replace(finding, pair=Pair(run.cell, [other], [run]))] if finding else []
    return findings, remarks_of(tally)


def _has_log(run: Run) -> bool:
    return bool(run.row["directory"]) and Path(run.row["directory"], LOG).is_file()


def _origins(*runs: Run) -> list[Origin]:
    """Of runs whose record is there, with the versions of libraries."""
    return [_origin(run) for run in runs]


def _origin(run: Run) -> Origin:
    try:
        record = read_record(Path(run.row["directory"] or "nowhere"), Outline)
    except ResultsError:  # a row of a CSV alone
        return origin_of(run)
    return origin_of(run, record.versions, record.model_code)


def _that_trained(runs: Iterable[Run]) -> list[Run]:
    """Without those that only evaluated what another had trained."""
    return [run for run in runs if not run.row["trained"]]


def _by_log(other: Run, run: Run, tally: Tally, strict: bool) -> Finding | None:
    before, now = (Path(each.row["directory"]) for each in (other, run))
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
    return parted(run, parting, *_origins(other, run), strict=strict, settings=found.settings)


def _by_end(other: Run, run: Run, tally: Tally, strict: bool) -> Finding | None:
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
    return parted(run, parting, *_origins(other, run), strict=strict)


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
