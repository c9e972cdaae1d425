"""Where records lie: one directory a run, one `record.json` in it."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from results.errors import ResultsError, StoreError
from results.record import Record

RECORD = "record.json"


def run_directory(out: Path, task: str, dataset: str, backbone: str, seed: int, key: str) -> Path:
    """The directory of one cell: OUT/<task>/<dataset>/<backbone>/seed<N>-<key>. Nothing is created.

    Names may be anything a backbone is called by, such as "package.module:function" or "hf-hub:timm/vit": what does not
    belong in a path becomes a dash. Two names that then agree still have different keys.
    Raises ResultsError for a name of which nothing is left.
    """
    return out / _path_safe(task) / _path_safe(dataset) / _path_safe(backbone) / f"seed{seed}-{_path_safe(key)}"


def read_record(directory: Path) -> Record:
    """Read `directory/record.json`. Raises ResultsError, naming the file, if it is missing or broken."""
    return _read(directory / RECORD)


def find_records(
    roots: Iterable[Path], on_unreadable: Callable[[ResultsError], None] | None = None
) -> list[tuple[Path, Record]]:
    """Every finished run below the given directories, each once, with its directory, in the order of their paths.

    Links are followed, once; what lies below a run is not looked at, and what vanishes meanwhile is not missed.
    A directory or a record that can't be read is passed over where `on_unreadable` is told of it.
    Raises ResultsError, naming the path, for a root that is no directory, and without `on_unreadable` for those.
    """

    def report(error: ResultsError) -> None:
        if on_unreadable is None:
            raise error
        on_unreadable(error)

    found = []
    for directory in find_directories(roots, (RECORD,), report):
        try:
            found.append((directory, read_record(directory)))
        except ResultsError as error:
            if (directory / RECORD).exists():
                report(error)
    return found


def find_directories(roots: Iterable[Path], names: Sequence[str], report: Callable[[ResultsError], None]) -> list[Path]:
    """The directories below the roots that hold a file of one of the names, each once, in the order of their paths.

    Looks below none of them. Raises StoreError for a root that is no directory; `report` is told what can't be read.
    """
    directories: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise StoreError(f"{root}: no such directory. Expected one that holds runs, such as the --out of a run")
        for directory in _directories_with(names, root, report):
            directories.setdefault(directory.resolve(), directory)
    return sorted(directories.values())


def _directories_with(names: Sequence[str], root: Path, report: Callable[[ResultsError], None]) -> Iterator[Path]:
    """The directories below `root` that hold a file of one of the names, and are not themselves below such a one."""

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            report(StoreError(f"{error.filename}: cannot be read: {error.strerror}"))

    seen = set()
    for parent, folders, files in os.walk(root, onerror=tell, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        if not {*names}.isdisjoint(files):
            folders.clear()
            yield Path(parent)


def find_runs(out: Path, task: str, backbone: str, seed: int) -> list[tuple[Path, Record]]:
    """The finished runs of one backbone and seed below the `out` of `run_directory`, on whatever data sets.

    Looks nowhere else. Raises ResultsError, naming the path, for a record that can't be read.
    """
    places = out.glob(f"{_path_safe(task)}/*/{_path_safe(backbone)}/seed{seed}-*/{RECORD}")
    return [(path.parent, read_record(path.parent)) for path in sorted(places)]


def _read(path: Path) -> Record:
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file. The run has not finished: repeat its command") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    except ResultsError as error:
        raise StoreError(f"{path}: not a record. {error}. Delete the file and repeat the run's command") from error


def _path_safe(name: str) -> str:
    safe = re.sub(r"[^\w.+=-]+", "-", name).strip(".-")
    if not safe:
        raise ResultsError(f"{name!r} cannot name a directory: expected letters or digits in it")
    return safe
