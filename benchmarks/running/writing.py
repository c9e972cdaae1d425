"""Writing what a run leaves behind for people and programs: its record, results.csv, tables, recipes."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from backbones.errors import NO_ROOM, InputError, TryAgainError
from backbones.training.writing import written_whole
from results import Record, ResultsError, results_csv
from results.errors import NoRoomError, StoreError
from results.record import spell_out
from results.store import RECORD


def write_text(path: Path, text: str) -> Path:
    """Write a text file so that a reader, or a crash, finds the old content or the new, never a part. Returns `path`.

    Several processes may write it at once: the last one's text stays. Missing folders are created. Raises ResultsError,
    naming path and reason, with nothing left behind, if it cannot be written.
    """
    return write_bytes(path, spell_out(text).encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file of whatever kind as `write_text` does, and raise what that raises."""
    try:
        with written_whole(path) as file:
            file.write(content)
    except OSError as error:
        kind = NoRoomError if error.errno in NO_ROOM else StoreError
        raise kind(_why_not_written(path, error)) from error
    _sync_directory(path.parent)
    return path


def require_writable(option: str, path: Path) -> None:
    """Find out before long work whether a file can be written there; nothing is left behind.

    Raises InputError, naming option, path and reason, where it cannot.
    """
    folder = path.parent
    try:
        if path.is_dir():
            raise InputError(f"{option} {path}: a directory. Expected the name of a file")
        if path.exists() and not path.is_file():  # a device or a pipe, to be opened once
            return
        folder = next(folder for folder in Path(os.path.realpath(path)).parents if folder.exists())
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        kind = TryAgainError if error.errno in NO_ROOM else InputError
        reason = f"{option} {path}: cannot be written: {error.strerror or error}"
        raise kind(f"{reason}. Expected a file in a directory that you may write to; {folder} is none") from None


def write_record(directory: Path, record: Record) -> Path:
    """Write `directory/record.json` whole or not at all, and return its path. The directory is created if missing.

    Raises ResultsError if it cannot be written, for example on a full disk.
    """
    try:
        return write_text(directory / RECORD, record.to_json())
    except ResultsError as error:
        raise type(error)(
            f"{error} Then repeat the command: what is trained is kept in {directory}, "
            "so it finishes without training anew."
        ) from error


def write_results_csv(path: Path, records: Iterable[Record], directories: Sequence[str] | None = None) -> Path:
    """Write records as `results.csv`, one metric a row, with the directory of each.

    Returns `path`. Raises ResultsError as `write_text` does.
    """
    return write_bytes(path, results_csv(records, directories).encode())  # records are spelled out


def _sync_directory(directory: Path) -> None:
    """Make the new name survive a power cut. Some file systems cannot; the file itself is safe by then."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _why_not_written(path: Path, error: OSError) -> str:
    if error.errno in NO_ROOM:
        return f"{path}: cannot be written, no space is left in {path.parent}. Free some space there."
    if path.is_dir():
        return f"{path}: cannot be written: it is a directory. Give the name of a file."
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    return f"{path}: cannot be written: {error.strerror or error}. Make {folder} a directory that you may write to."
