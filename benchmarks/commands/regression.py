"""What `backbench regress` prints and writes."""

import sys
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError
from benchmarks.running.regressing import read_sides, read_sigmas
from benchmarks.running.writing import write_text
from benchmarks.scheduling.failures import failures_of
from results.regression.formats import render_verdict
from results.regression.judging import judge

SUFFIXES = {".md": "md", ".csv": "csv", ".xml": "junit", ".json": "json", ".txt": "text"}
"""How a file is written, by the suffix of its name."""


def show_verdict(
    baseline: Sequence[Path],
    current: Sequence[Path],
    *,
    sigmas: Sequence[str] = (),
    write: Sequence[Path] = (),
    as_json: bool = False,
) -> int:
    """Hold the current runs against those of a baseline; the exit status, 1 for a regression, 3 for what is not clear.

    Prints the verdict, and writes it to each file, whole or not at all. Raises InputError for a file whose suffix does
    not say how it is to be written, and as `read_sides`, `read_sigmas` and `failures_of` do.
    """
    for path in write:
        if path.suffix not in SUFFIXES:
            raise InputError(f"--write {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    stated = read_sigmas(sigmas)
    before, now = read_sides(baseline, current)
    verdict = judge(before, now, failures=failures_of(current), sigmas=stated)
    print(render_verdict(verdict, "json" if as_json else "text"), end="")
    sys.stdout.flush()
    for path in write:
        write_text(path, render_verdict(verdict, SUFFIXES[path.suffix]))
    return verdict.status
