"""The cells of suites that have no number, for the verdict on a night: results.csv does not know of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.running.inventory import SUITES
from benchmarks.scheduling.folders import PLAN
from benchmarks.scheduling.status import STATES, CellStatus, Reader, SuiteStatus
from results.regression.findings import Severity
from results.regression.judging import Failure
from results.store import RECORD, find_directories


def failures_of(paths: Iterable[Path]) -> list[Failure]:
    """One for each cell, with all of its seeds that have not finished, of the suites in stores and folders of nights.

    What failed is a regression; what is unfinished, at work, missing or damaged cannot be told. Files have none.
    Raises StoreError for suites that cannot be read.
    """
    found: dict[tuple[str, str, str, str], list[CellStatus]] = {}
    failures: list[Failure] = []
    for store in _stores(paths):
        for suite in Reader(store).read_all():
            failures += _of_suite(suite)
            for cell in suite.cells:
                if cell.state != "finished":
                    job = cell.job
                    found.setdefault((job.task, job.dataset, job.backbone, job.recipe), []).append(cell)
    return failures + [_failure(place, cells) for place, cells in found.items()]


def _stores(paths: Iterable[Path]) -> list[Path]:
    """The directories below the paths that hold suites."""
    roots = [path for path in paths if path.is_dir()]
    folders = find_directories(roots, (PLAN, RECORD), lambda error: None)
    return [*dict.fromkeys(folder.parents[1] for folder in folders if folder.parent.name == SUITES)]


def _of_suite(suite: SuiteStatus) -> Iterator[Failure]:
    """That of a suite whose cells cannot be known."""
    if suite.fault:
        yield Failure("", "", f"suite {suite.name}", "", suite.fault, Severity.unclear)


def _failure(place: tuple[str, str, str, str], cells: list[CellStatus]) -> Failure:
    has_failed = any(cell.state == "failed" for cell in cells)
    reason = "; ".join(_in_words(cell) for cell in sorted(cells, key=lambda cell: cell.state != "failed"))
    return Failure(*place, reason, Severity.regression if has_failed else Severity.unclear)


def _in_words(cell: CellStatus) -> str:
    log = f" (log: {cell.log})" if cell.log.is_file() or cell.state == "failed" else ""
    return f"seed {cell.job.seed} {cell.state}: {cell.reason or cell.owner or STATES[cell.state]}{log}"
