"""Where records lie: one directory a run, one `record.json` in it."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from results.errors import ResultsError, StoreError
from results.garbage_collection import garbage_collection_paused
from results.record import Record
from results.rereading import reread

RECORD = "record.json"
_RECIPE = "recipe.yaml"
"""What lies beside the record of a run."""
_PLAN = re.compile(rb'"plan":\s*"([0-9a-f]{12})"')
_BEGINNING = 256
"""Bytes of a record in which its plan is looked for."""


def run_directory(out: Path | str, task: str, dataset: str, backbone: str, seed: int, key: str, run: int = 1) -> Path:
    """The directory of one cell: OUT/<task>/<dataset>/<backbone>/seed<N>-<key>, or <key>.2, <key>.3, … of a later run.

    Nothing is created.

    Names may be anything a backbone is called by, such as "package.module:function" or "hf-hub:timm/vit": what does not
    belong in a path becomes a dash. Two names that then agree still have different keys.
    Raises ResultsError for a name of which nothing is left.
    """
    later = f".{run}" if run > 1 else ""
    name = f"seed{seed}-{_path_safe(key)}{later}"
    return Path(out) / _path_safe(task) / _path_safe(dataset) / _path_safe(backbone) / name


def runs_of_cell(first: Path | str) -> dict[int, Path]:
    """The directories of all runs of a cell that there are, by their number, ascending; `first` is that of run 1."""
    first = Path(first)
    found = {1: first} if first.is_dir() else {}
    for path in first.parent.glob(f"{glob.escape(first.name)}.*"):
        number = path.name.rpartition(".")[2]
        if number.isdecimal() and int(number) > 1 and path.is_dir():
            found[int(number)] = path
    return dict(sorted(found.items()))


def read_record(directory: Path | str, kind: type[Record] = Record) -> Record:
    """Read `directory/record.json`. Raises ResultsError, naming the file, if it is missing or broken."""
    return _read(Path(directory) / RECORD, kind)


def find_records(
    roots: Iterable[Path | str] | Path | str,
    on_unreadable: Callable[[ResultsError], None] | None = None,
    kind: type[Record] = Record,
) -> list[tuple[Path, Record]]:
    """Every finished run below one or several directories, each once, with its directory, in the order of their paths.

    `kind` may be `results.record.Outline`, which is read in half of the time.
    Links are followed, once; what lies below a run is not looked at, and what vanishes meanwhile is not missed.
    A directory or a record that can't be read is passed over where `on_unreadable` is told of it.
    Raises ResultsError, naming the path, for a root that is no directory, and without `on_unreadable` for those.
    """

    def report(error: ResultsError) -> None:
        if on_unreadable is None:
            raise error
        on_unreadable(error)

    several = [roots] if isinstance(roots, str | Path) else roots
    found = []
    with garbage_collection_paused():
        for directory in find_directories(map(Path, several), (RECORD,), report):
            try:
                found.append((directory, read_record(directory, kind)))
            except ResultsError as error:
                if is_there(directory / RECORD):
                    report(error)
    return found


def find_directories(roots: Iterable[Path], names: Sequence[str], report: Callable[[ResultsError], None]) -> list[Path]:
    """The directories below the roots that hold a file of one of the names, each once, in the order of their paths.

    Looks below none of them. Raises StoreError for a root that is no directory; `report` is told what can't be read.
    """
    places, found, seen = list(roots), list[Path](), set[tuple[int, int]]()
    for root in places:
        if not root.is_dir():
            raise StoreError(f"{root}: no such directory. Expected one that holds runs, such as the --out of a run")
    while places:
        links: list[Path] = []
        for place in places:
            found += _directories_with(names, place, report, seen, links)
        places = sorted(links, key=lambda link: _rank(link, names))
    return sorted(found)


def is_there(path: Path) -> bool:
    """Whether there is such a file, though it may not be read, nor even looked at."""
    try:
        return path.exists()
    except PermissionError:
        return True
    except OSError:  # network file systems have names of files that are gone
        return False


def _directories_with(
    names: Sequence[str],
    root: Path,
    report: Callable[[ResultsError], None],
    seen: set[tuple[int, int]],
    links: list[Path],
) -> Iterator[Path]:
    """The directories below `root` that hold a file of one of the names, and are not themselves below such a one.

    Links below it are put into `links`, to be followed when all that lies at its own place is known. What is `seen`,
    by device and inode, whatever links lead to it, is passed over.
    """

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            report(StoreError(f"{error.filename}: cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(root, onerror=tell, followlinks=True):
        try:
            status = Path(parent).stat()
        except OSError as error:
            tell(error)
            folders.clear()
            continue
        place = status.st_dev, status.st_ino
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        if not {*names}.isdisjoint(files):
            folders.clear()
            yield Path(parent)
            continue
        linked = {name for name in folders if _is_link(Path(parent, name))}
        links += [Path(parent, name) for name in sorted(linked)]
        folders[:] = [name for name in folders if name not in linked]


def _is_link(path: Path) -> bool:
    """Whether it is a link; not of what may not be looked at, so that it is named where the walk comes to it."""
    try:
        return path.is_symlink()
    except OSError:
        return False


def _rank(link: Path, names: Sequence[str]) -> tuple[bool, int, Path]:
    """The order in which links are followed: to folders of runs before single runs, and where a run may stand for
    itself, `<task>/<dataset>/<backbone>/seed0-…`, before names that people gave, higher up."""
    leads_to_a_run = any(is_there(link / name) for name in names)
    return leads_to_a_run, -len(link.parts), link


def find_runs(
    out: Path | str,
    task: str,
    backbone: str,
    seed: int | None,
    plan: str = "",
    on_unreadable: Callable[[ResultsError], None] | None = None,
) -> list[tuple[Path, Record]]:
    """The finished runs of one backbone and seed, or of all seeds, below the `out` of `run_directory`, on whatever
    data sets.

    Looks nowhere else. With a `plan`, those of other plans are left out, without reading much of their records; those
    of earlier versions, which have none, stay. Raises ResultsError, naming the path, for a record that can't be read,
    unless `on_unreadable` is told of it.
    """
    found = []
    for folder in sorted(Path(out).glob(f"{_path_safe(task)}/*/{_path_safe(backbone)}")):
        for name in _of_seed(folder, seed):
            if plan and _plan_in(f"{folder}/{name}/{RECORD}") not in ("", plan):
                continue
            try:
                found.append((folder / name, read_record(folder / name)))
            except ResultsError as error:
                if not is_there(folder / name / RECORD):
                    continue
                if on_unreadable is None:
                    raise
                on_unreadable(error)
    return found


def _of_seed(folder: Path, seed: int | None) -> list[str]:
    beginning = "seed" if seed is None else f"seed{seed}-"
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(beginning))
    except OSError:  # not a folder, or gone
        return []


def _plan_in(record: str) -> str:
    """The plan that a record begins with, at a fraction of the cost of reading it; empty if it is not found there."""
    try:
        descriptor = os.open(record, os.O_RDONLY)
    except OSError:  # reading it says what is wrong
        return ""
    try:
        found = _PLAN.search(os.read(descriptor, _BEGINNING))
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return found[1].decode() if found else ""


def _read(path: Path, kind: type[Record]) -> Record:
    try:
        return kind.from_json(reread(path.read_bytes))
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file. The run has not finished: repeat its command") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    except ResultsError as error:
        advice = "Delete the file and repeat the run's command"
        if not path.with_name(_RECIPE).exists():
            advice = f"There is no {_RECIPE} beside it, so it may be another program's file"
        raise StoreError(f"{path}: not a record. {error}. {advice}") from error


def _path_safe(name: str) -> str:
    safe = re.sub(r"[^\w.+=-]+", "-", name).strip(".-")
    if not safe:
        raise ResultsError(f"{name!r} cannot name a directory: expected letters or digits in it")
    return safe
