"""What of a store can go without losing a result, and how much room that makes."""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.running.claim import CLAIM
from benchmarks.running.collecting import RESULTS, collect
from benchmarks.running.inventory import Run, files_of, find_all_runs
from benchmarks.running.lease import find_owner

_CHECKPOINT = re.compile(r"iteration_(\d+)\.pth")
_PARTIAL = re.compile(r"\..+\.(json|jsonl|csv|yaml|pth|npz|png|md|tex)\.(partial|[0-9a-f]{12})")
_RUN = re.compile(r"(seed\d+-[0-9a-f]+)(?:\.(\d+))?")

_STALE_SECONDS = 3600.0
"""How old a partial file has to be before it is taken to be a dead process's."""


@dataclass(frozen=True)
class Waste:
    """A file, or a run's directory, that can go: why, and its size in bytes. `run` is where it lies, None for none."""

    path: Path
    why: str
    bytes: int
    run: Path | None


def find_waste(root: Path) -> list[Waste]:
    """What can go below a directory, by path; nothing of a run that somebody may be at work on.

    Superseded runs: those of which a later one, `.2` or `.3`, has finished. Of finished runs the checkpoints to go on
    from: all of a pre-training whose exported weights are there, else all but the last, which alone has the fine-tuned
    weights. And partial files of processes that are gone. Raises ResultsError if there is no such directory.
    """
    idle = [run for run in find_all_runs(root) if not _may_be_at_work(run.directory)]
    superseded = _superseded(idle)
    waste = [Waste(run.directory, "superseded by a later run", run.bytes, run.directory) for run in superseded]
    for run in idle:
        if run not in superseded:
            waste += [*_old_checkpoints(run), *_partial_files(run)]
    for path in root.iterdir():
        if path.is_file() and _is_stale(path, path.stat().st_mtime):
            waste.append(Waste(path, "left by a process that is gone", path.stat().st_size, None))
    return sorted(waste, key=lambda one: one.path)


def remove(root: Path, waste: Sequence[Waste]) -> int:
    """Remove what was found, and give the bytes that are free now; what has got an owner since stays."""
    freed = 0
    for one in waste:
        if one.run and _may_be_at_work(one.run):
            continue
        if one.path.is_dir():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)
        freed += one.bytes
    if (root / RESULTS).is_file() and any(one.path == one.run for one in waste):
        collect(root)
    return freed


def _may_be_at_work(directory: Path) -> bool:
    owner = find_owner(directory / CLAIM)
    return owner is not None and owner.lives is not False


def _superseded(runs: Sequence[Run]) -> list[Run]:
    def cell(run: Run) -> tuple[str, str]:
        match = _RUN.fullmatch(run.directory.name)
        return str(run.directory.parent), match[1] if match else run.directory.name

    def number(run: Run) -> int:
        match = _RUN.fullmatch(run.directory.name)
        return int(match[2] or 1) if match else 1

    found = []
    for _, group in groupby(sorted(runs, key=lambda run: (cell(run), number(run))), key=cell):
        several = list(group)
        last = max((number(run) for run in several if run.state == "finished"), default=0)
        found += [run for run in several if number(run) < last]
    return found


def _old_checkpoints(run: Run) -> Iterator[Waste]:
    folder = run.directory / "checkpoints"
    if run.state != "finished" or not folder.is_dir():
        return
    numbered = {path: match for path in folder.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))}
    ordered = sorted(numbered, key=lambda path: int(numbered[path][1]))
    exported = all((folder / name).is_file() for name in ("encoder.pth", "autoencoder.pth"))
    for path in ordered if exported else ordered[:-1]:
        yield Waste(path, "checkpoint of a finished run", path.stat().st_size, run.directory)


def _partial_files(run: Run) -> Iterator[Waste]:
    for path, size, written in files_of(run.directory):
        if _is_stale(path, written):
            yield Waste(path, "left by a process that is gone", size, run.directory)


def _is_stale(path: Path, written: float) -> bool:
    return bool(_PARTIAL.fullmatch(path.name)) and time.time() - written > _STALE_SECONDS
