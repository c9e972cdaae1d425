"""What `backbench regress` prints and writes."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.errors import InputError
from benchmarks.running.baselines import counting
from benchmarks.running.behaviour import behaviour_findings
from benchmarks.running.collecting import RESULTS
from benchmarks.running.paired_images import compare_images
from benchmarks.running.regressing import read_sides, read_sigmas
from benchmarks.running.writing import require_writable, write_text
from benchmarks.scheduling.confirming import FurtherRun, carry_out, further_runs
from benchmarks.scheduling.failures import failures_of
from results.errors import ResultsError
from results.regression.findings import CellName, Finding, Judged, Verdict
from results.regression.formats import render_verdict
from results.regression.image_tests import with_image_tests
from results.regression.judging import judge
from results.regression.runs import to_runs

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = {".md": "md", ".csv": "csv", ".xml": "junit", ".json": "json", ".txt": "text"}
"""How a file is written, by the suffix of its name."""


def show_verdict(
    baseline: Sequence[Path],
    current: Sequence[Path],
    *,
    sigmas: Sequence[str] = (),
    strict_trace: bool = False,
    confirm: int = 0,
    hours: float | None = None,
    write: Sequence[Path] = (),
    as_json: bool = False,
) -> int:
    """Hold the current runs against those of a baseline; the exit status, 1 for a regression, 3 for what is not clear.

    Of a baseline that `backbench baseline promote` has made, the nights that count are read. With `strict_trace` a
    changed course is a regression. `confirm` says how many further seeds of each suspicious cell are run first, within
    so many hours: those that fail, and those that are not run to their end, are findings. What the same images say is
    told with the findings, as `with_image_tests` has it.

    Prints the verdict, and writes it to each file, whole or not at all. Raises InputError for a file whose suffix does
    not say how it is to be written, that cannot be written, or that is judged, before anything is; and as `read_sides`,
    `read_sigmas` and `failures_of` do. What cannot be written in the end is told, and is the exit status of a green
    night alone.
    """
    for path in write:
        if path.suffix not in SUFFIXES:
            raise InputError(f"--write {path}: expected a name that ends in {', '.join(SUFFIXES)}")
        require_writable("--write", path)
        if source := next((source for source in _files_of((*baseline, *current)) if _is_same(source, path)), None):
            raise InputError(f"--write {path}: would take the place of {source}, which is judged. Name another file")
    if hours is not None and not confirm:
        raise InputError("--hours: a limit for the further seeds of --confirm, of which none are asked for")
    stated = read_sigmas(sigmas)
    good = counting(baseline)
    verdict = _judge(good, current, stated, strict_trace)
    if confirm and (suspicious := [cell for cell in verdict.cells if cell.suspicious]):
        until = math.inf if hours is None else time.monotonic() + 3600 * hours
        further = _run_further(suspicious, good, current, confirm, until)
        good = counting(baseline)  # others may have promoted meanwhile, and have removed old nights
        verdict = _judge(good, current, stated, strict_trace).extended(*further)
    verdict = with_image_tests(verdict, compare_images)
    print(render_verdict(verdict, "json" if as_json else "text"), end="")
    sys.stdout.flush()
    not_written = _write(verdict, write)
    return verdict.status or not_written


def _files_of(sides: Sequence[Path]) -> list[Path]:
    """The tables that the sides are, or hold."""
    return [side / RESULTS if side.is_dir() else side for side in sides]


def _is_same(source: Path, path: Path) -> bool:
    return source.exists() and path.exists() and source.samefile(path)


def _write(verdict: Verdict, paths: Sequence[Path]) -> int:
    """Write all files that can be written, and say which cannot; the exit status of the first of these, else 0."""
    statuses = []
    for path in paths:
        try:
            write_text(path, render_verdict(verdict, SUFFIXES[path.suffix]))
        except ResultsError as error:
            print(f"backbench: {error}", file=sys.stderr)
            statuses.append(error.status)
    return next(iter(statuses), 0)


def _judge(
    baseline: Sequence[Path], current: Sequence[Path], sigmas: Mapping[str, float], strict_trace: bool
) -> Verdict:
    before, now = read_sides(baseline, current)
    verdict = judge(before, now, failures=failures_of(current), sigmas=sigmas)
    return verdict.extended(*behaviour_findings(before, now, strict_trace=strict_trace))


def _run_further(
    suspicious: Sequence[Judged], baseline: Sequence[Path], current: Sequence[Path], count: int, until: float
) -> tuple[list[Finding], list[str]]:
    """Run further seeds of each cell until it has so many, and say so; which have no number, and what forbids them.

    A regression stays one where it cannot be confirmed.
    """
    before, now = (_seeds(side) for side in read_sides(baseline, current))
    cells = [(one.cell, before[one.cell], now[one.cell]) for one in suspicious]
    found: list[Finding] = []

    def tell(run: FurtherRun) -> None:
        print(f"backbench: {run.job.name}: seed {run.seed} before the verdict ({run.log})", file=sys.stderr, flush=True)

    try:
        for one in further_runs(current, cells, count):
            if finding := carry_out(one, tell, until):
                found.append(finding)
    except (InputError, ResultsError) as error:
        return found, [f"{error}. Judged without"]
    except OSError as error:
        return found, [f"--confirm: {error.filename}: {error.strerror}. Judged without"]
    return found, []


def _seeds(side: "pd.DataFrame") -> dict[CellName, set[int]]:
    """Those that each cell was run with."""
    seeds: dict[CellName, set[int]] = {}
    for run in to_runs(side):
        seeds.setdefault(run.cell, set()).add(run.seed)
    return seeds
