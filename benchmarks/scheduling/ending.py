"""What a suite leaves when it ends: tables of all layouts that it touched, and what is not as it should be."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.planning.records import load_records
from benchmarks.running.collecting import RESULTS, are_listed, collect, warn
from benchmarks.running.writing import write_text
from benchmarks.scheduling.documents import suite_document
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.status import OPEN, CellStatus, Reader, SuiteStatus
from results import Record, ResultsError, Table, build_table, build_tables, render
from results.garbage_collection import garbage_collection_paused

TABLES, SUMMARY = "tables", "summary.json"
"""In a suite's folder: where its tables go, and the same for programs."""

FORMATS = {".md": "md", ".csv": "csv", ".tex": "latex"}
"""In which each table is written, by the suffix of the file."""


@dataclass(frozen=True)
class Ending:
    """A suite at the end of a call.

    whole:  all of its cells, of earlier calls too
    ours:   those of this call
    begun:  names of those that this process began
    since:  when the call began
    tables: laid out from all that has finished; none where nothing belongs to one
    files:  in which they were written
    again:  the command that repeats what has failed; empty where nothing has
    """

    whole: SuiteStatus
    ours: SuiteStatus
    begun: frozenset[str]
    since: datetime | None
    wall_seconds: float
    tables: Sequence[Table]
    files: Sequence[Path]
    results: Path
    again: str = ""

    @property
    def failed(self) -> list[CellStatus]:
        return self.ours.of("failed", "damaged")

    @property
    def missing(self) -> list[CellStatus]:
        return self.ours.of("missing")

    @property
    def unfinished(self) -> list[CellStatus]:
        """Of this call, that the same command would go on with."""
        return self.ours.of(*OPEN)

    @property
    def spent(self) -> tuple[float, float]:
        """Hours of GPUs and of processors that this call has taken, from each process's beginning to its end."""
        begun = [cell for cell in self.whole.cells if cell.job.name in self.begun]
        gpu = sum(self._hours(cell) for cell in begun if cell.on_gpu)
        return gpu, sum(self._hours(cell) for cell in begun if not cell.on_gpu)

    def _hours(self, cell: CellStatus) -> float:
        """Those of a cell's attempts of this call, counted once for each of its processes."""
        return cell.processes * cell.seconds_of_attempts(self.since) / 3600

    @property
    def deviations(self) -> dict[tuple[str, ...], list[str]]:
        """The cells of each set of deviations from a table's recipe."""
        found: dict[tuple[str, ...], list[str]] = {}
        for cell in self.ours.of("finished"):
            if cell.result and cell.result.deviations:
                found.setdefault(tuple(cell.result.deviations), []).append(cell.job.name)
        return found


@garbage_collection_paused()
def end_suite(
    folder: SuiteFolder,
    cells: Iterable[str],
    *,
    begun: Iterable[str] = (),
    since: datetime | None = None,
    wall_seconds: float = 0.0,
    beside_others: bool = False,
    repeat: Callable[[Sequence[str]], str] = lambda cells: "",
) -> Ending:
    """Look at what a suite has come to, and write its tables and a summary, each file whole or not at all.

    cells:  those of this call
    begun:  those that this process began
    since:  when the call began: what cells took before is not its own
    repeat: gives the command that carries out some of the cells again
    beside_others: whether its tables show all that the store holds, and not its own runs alone

    Of several processes that end, the last one's files stay; all write the same of the same. Raises ResultsError where
    a file cannot be written.
    """
    whole = Reader(folder.out).read(folder)
    names = {*cells}
    ours = replace(whole, cells=tuple(cell for cell in whole.cells if cell.job.name in names))
    finished = [cell.run for cell in whole.of("finished") if cell.run]
    if finished and not are_listed(folder.out, [run.name for run in finished]):
        collect(folder.out)
    tables = _tables(list(dict.fromkeys(finished)), folder.out if beside_others else None)
    files = [
        write_text(folder.path / TABLES / f"{table.name}{suffix}", render(table, format))
        for table in tables
        for suffix, format in FORMATS.items()
    ]
    ending = Ending(whole, ours, frozenset(begun), since, wall_seconds, tables, files, folder.out / RESULTS)
    failed = [cell.job.name for cell in ending.failed]
    ending = replace(ending, again=repeat(failed) if failed else "")
    write_text(folder.path / TABLES / SUMMARY, json.dumps(summary_document(ending), indent=1) + "\n")
    return ending


def summary_document(ending: Ending) -> dict[str, Any]:
    """The suite at its end, for programs; docs/status.md says what each field holds."""
    gpu_hours, cpu_hours = ending.spent
    return {
        **suite_document(ending.whole),
        "failed": [cell.job.name for cell in ending.failed],
        "missing": [cell.job.name for cell in ending.missing],
        "unfinished": [cell.job.name for cell in ending.unfinished],
        "again": ending.again,
        "wall_seconds": ending.wall_seconds,
        "spent_gpu_hours": gpu_hours,
        "spent_cpu_hours": cpu_hours,
        "tables": [str(path) for path in ending.files],
        "results": str(ending.results),
    }


def _tables(runs: Sequence[Path], store: Path | None) -> list[Table]:
    """The tables of these runs, with all others of the store, if it is given; none where no run belongs to one."""
    try:
        tables = build_tables(_records(runs))
    except ResultsError:
        return []
    if store is None:
        return tables
    everything = _records([store])
    return [build_table(everything, table.name) for table in tables]


def _records(roots: Sequence[Path]) -> list[Record]:
    return [record for _, record in load_records(roots, on_unreadable=warn)]
