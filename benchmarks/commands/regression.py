"""What `backbench regress` prints and writes."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbones.errors import InputError
from benchmarks.running.baselines import counting
from benchmarks.running.behaviour import behaviour_findings
from benchmarks.running.paired_images import compare_images
from benchmarks.running.regressing import read_sides, read_sigmas
from benchmarks.running.writing import write_text
from benchmarks.scheduling.confirming import FurtherRun, carry_out, further_runs
from benchmarks.scheduling.failures import failures_of
from results.errors import ResultsError
from results.regression.findings import CellName, Judged, Verdict
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
    write: Sequence[Path] = (),
    as_json: bool = False,
) -> int:
    """Hold the current runs against those of a baseline; the exit status, 1 for a regression, 3 for what is not clear.

    Of a baseline that `backbench baseline promote` has made, the nights that count are read. With `strict_trace` a
    changed course is a regression. `confirm` says how many further seeds of each suspicious cell are run first.
    Findings are told with what the same images say, as `with_image_tests` has it.

    Prints the verdict, and writes it to each file, whole or not at all. Raises InputError for a file whose suffix does
    not say how it is to be written, and as `read_sides`, `read_sigmas` and `failures_of` do.
    """
    for path in write:
        if path.suffix not in SUFFIXES:
            raise InputError(f"--write {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    stated = read_sigmas(sigmas)
    good = counting(baseline)
    verdict = _judge(good, current, stated, strict_trace)
    if confirm and (suspicious := [cell for cell in verdict.cells if cell.suspicious]):
        try:
            _run_further(suspicious, good, current, confirm)
        except (InputError, ResultsError) as error:  # a regression stays one where it cannot be confirmed
            print(f"backbench: {error}. Judged without", file=sys.stderr)
        verdict = _judge(good, current, stated, strict_trace)
    verdict = with_image_tests(verdict, compare_images)
    print(render_verdict(verdict, "json" if as_json else "text"), end="")
    sys.stdout.flush()
    for path in write:
        write_text(path, render_verdict(verdict, SUFFIXES[path.suffix]))
    return verdict.status


def _judge(
    baseline: Sequence[Path], current: Sequence[Path], sigmas: Mapping[str, float], strict_trace: bool
) -> Verdict:
    before, now = read_sides(baseline, current)
    verdict = judge(before, now, failures=failures_of(current), sigmas=sigmas)
    return verdict.extended(*behaviour_findings(before, now, strict_trace=strict_trace))


def _run_further(suspicious: Sequence[Judged], baseline: Sequence[Path], current: Sequence[Path], count: int) -> None:
    """Run further seeds of each cell until it has so many, and say so."""
    before, now = (_seeds(side) for side in read_sides(baseline, current))
    cells = [(one.cell, before[one.cell], now[one.cell]) for one in suspicious]
    further = further_runs(current, cells, count)

    def tell(run: FurtherRun) -> None:
        print(f"backbench: {run.job.name}: seed {run.seed} before the verdict ({run.log})", file=sys.stderr, flush=True)

    for one in further:
        if status := carry_out(one, tell):
            print(f"backbench: {one.job.name}: seed {one.seed} ended with {status}: {one.log}", file=sys.stderr)


def _seeds(side: "pd.DataFrame") -> dict[CellName, set[int]]:
    """Those that each cell was run with."""
    seeds: dict[CellName, set[int]] = {}
    for run in to_runs(side):
        seeds.setdefault(run.cell, set()).add(run.seed)
    return seeds
