"""Where records lie: one directory a run, one `record.json` in it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from results.errors import ResultsError
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


def find_records(roots: Iterable[Path]) -> list[tuple[Path, Record]]:
    """Every finished run below the given directories, each once, with its directory, in the order of their paths.

    Raises ResultsError, naming the path, for a root that is no directory, a directory or a record that can't be read.
    """
    directories: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise ResultsError(f"{root}: no such directory. Expected one that holds runs, such as the --out of a run")
        for parent, _, files in os.walk(root, onerror=_refuse_unreadable):
            if RECORD in files:
                directories.setdefault(Path(parent).resolve(), Path(parent))
    return [(directory, read_record(directory)) for directory in sorted(directories.values())]


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
        raise ResultsError(f"{path}: no such file. The run has not finished: repeat its command") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    except ResultsError as error:
        raise ResultsError(f"{path}: not a record. {error}. Delete the file and repeat the run's command") from error


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise ResultsError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _path_safe(name: str) -> str:
    safe = re.sub(r"[^\w.+=-]+", "-", name).strip(".-")
    if not safe:
        raise ResultsError(f"{name!r} cannot name a directory: expected letters or digits in it")
    return safe
