"""What was found out of data, at the cost of minutes, is kept in the user's cache folder for all later processes.

It holds as long as the files that were read and the folders that were listed are as they were. All in the folder can
be found out again, and nothing here fails where it cannot be read or written: a folder for temporary files serves then.

A file is one line of JSON, of what was asked, what was looked at and what was found, and then the arrays. Its name
tells question and state of what was looked at: machines that share the folder share an entry of files that they share,
and each has its own of what lies on its own disk under the same path. No host's name is asked, nor a device's number:
those of containers and of network file systems are others at each start.

On this machine's own disk arrays are mapped into memory, which processes share, and an entry may be removed at any
time. From any other disk they are read: where another machine removes a file on NFS, a process that has it mapped dies.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from backbones.errors import not_written
from backbones.images.mounts import is_on_own_disk
from backbones.images.observing import Observation, State, looking_at, observing, state_of
from backbones.training.launching import find_place
from backbones.training.writing import written_whole

LIMIT = 4 * 2**30
"""Bytes that the cache may take of what is kept of data; what was used last stays."""

_ALIGNMENT = 64
_SUFFIX = ".kept"
_UNPACKED = ".unpacked.json"
"""What lies in a folder that `unpacked` made."""
_DAY = 86_400.0
"""Seconds after which nobody is still writing what has not been finished."""


@dataclass(frozen=True)
class Finding:
    """What was found: `facts`, which JSON can say, and `arrays` of numbers."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A file of the cache: `what` it tells, of which `subject`, how many `bytes` it has and when it was `used` last."""

    path: Path
    what: str
    subject: str
    bytes: int
    used: float


_anew: list[bool] = []


@contextmanager
def found_anew(wanted: bool = True) -> Iterator[None]:
    """Within the block, if it is wanted, nothing is taken from the cache; what is found replaces what was kept."""
    _anew.append(wanted)
    try:
        yield
    finally:
        _anew.pop()


def kept(what: str, subject: Path, question: Mapping[str, Any], find: Callable[[], Finding]) -> Finding:
    """What `find` finds, from the cache where it was found before and nothing that was looked at has changed since.

    what:     in a word or two, for `backbench cache ls`
    subject:  the data that it is about
    question: all else that decides the answer and is no file or folder that `find` says that it looks at

    An error of `find` is raised, and not kept.
    """
    asked = json.loads(json.dumps({"what": what, "subject": os.path.abspath(subject), **question}))  # noqa: PTH100
    name = _digest(asked)[:32]
    if not any(_anew):
        for folder in _folders():
            if finding := _look(folder, name, asked):
                return finding
    with observing() as observation:
        finding = find()
    return _keep(name, asked, observation, finding) or finding


def unpacked(what: str, subject: Path, name: str, write: Callable[[Path], None]) -> Path:
    """The folder `name` in the cache, with what `write` has written into it: all of it, or there is no such folder.

    what:    in a word or two, for `backbench cache ls`
    subject: the data of which it is made

    `LIMIT` does not count it, and only `clear` removes it. One that has lost files, or parts of them, is written anew.
    Processes that come at the same time each write, and the first to be done is taken. Raises InputError if it cannot
    be written.
    """
    folder = cache_folder() / "unpacked" / name
    partial, aside = (folder.with_name(f".{name}.{secrets.token_hex(6)}") for _ in range(2))
    try:
        if not _is_whole(folder):
            _remove_unfinished()
            partial.mkdir(parents=True)
            write(partial)
            total = _bytes_below(partial)
            told = {"asked": {"what": what, "subject": os.path.abspath(subject)}, "bytes": total}  # noqa: PTH100
            (partial / _UNPACKED).write_text(json.dumps(told))
            if folder.is_dir() and not _is_whole(folder):
                folder.rename(aside)
            partial.rename(folder)
    except OSError as error:
        if not _is_whole(folder):
            raise not_written(
                f"{folder}: cannot be written: {error.strerror}. {what} of {subject} go there: set XDG_CACHE_HOME to a "
                "folder with room that can be written to",
                error.errno,
            ) from None
    finally:
        for left in (partial, aside):
            shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):
        os.utime(folder / _UNPACKED)
    return folder


def entries() -> list[Entry]:
    """All that is kept, what was used last at the end."""
    found = []
    data = [path for folder in _folders() for path in folder.glob(f"*{_SUFFIX}")]
    for path in cache_folder().glob(f"unpacked/*/{_UNPACKED}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(path.read_text())
            asked, used = told["asked"], path.stat().st_mtime
            found.append(Entry(path.parent, asked["what"], asked["subject"], told["bytes"], used))
    for path in cache_folder().glob("unpacked/.*"):
        with suppress(OSError):
            found.append(Entry(path, "unfinished", str(path), _bytes_below(path), path.stat().st_mtime))
    for path in [*data, *cache_folder().glob("weights/*.json")]:
        with suppress(OSError, ValueError, AttributeError):
            with path.open("rb") as file:
                head = json.loads(file.readline() if path.suffix == _SUFFIX else file.read())
            asked = head.get("asked") or {"what": "weights", "subject": head.get("path", "")}
            status = path.stat()
            found.append(Entry(path, asked["what"], asked["subject"], status.st_size, status.st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def clear() -> int:
    """Remove all that is kept, and what killed processes left of it; how many bytes that frees.

    Raises OSError for what cannot be removed.
    """
    freed = 0
    for folder in cache_folder().glob("unpacked/*"):
        freed += _bytes_below(folder)
        shutil.rmtree(folder)
    data = [path for folder in _folders() for path in folder.glob("*")]
    for path in [*data, *cache_folder().glob("weights/*")]:
        size = path.stat().st_size
        path.unlink()
        freed += size
    return freed


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _is_whole(folder: Path) -> bool:
    """Whether `unpacked` made it, and as many bytes lie in it as were written."""
    own = folder / _UNPACKED
    with suppress(OSError, ValueError, KeyError, TypeError):
        return bool(json.loads(own.read_bytes())["bytes"] == _bytes_below(folder) - own.stat().st_size)
    return False


def _remove_unfinished() -> None:
    """Remove what killed processes left of unpacking, once it is a day old."""
    for path in cache_folder().glob("unpacked/.*"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - _DAY:
                shutil.rmtree(path)


def cache_folder() -> Path:
    """Where things are kept that can be found out again: $XDG_CACHE_HOME/backbench, by default ~/.cache/backbench.

    A relative path there is no valid one, and is ignored (XDG base directory specification 0.8, "Basics"); so is one of
    HOME.
    """
    told, home = (Path(os.environ.get(name, "")) for name in ("XDG_CACHE_HOME", "HOME"))
    if not home.is_absolute():
        home = Path("/nonexistent")
    return (told if told.is_absolute() else home / ".cache") / "backbench"


def _folders() -> list[Path]:
    """Where entries of data may lie; they are written to the first that can be written to."""
    return [cache_folder() / "data", *temporary_folder("backbench")]


def temporary_folder(name: str) -> list[Path]:
    """This user's on this machine, where there is no other: anybody can make one of its name, and it has to be ours."""
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    with suppress(OSError):
        status = folder.lstat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
        return [folder] if is_ours else []
    return [folder]


def _look(folder: Path, name: str, asked: Mapping[str, Any]) -> Finding | None:
    """What is kept there of a question and still holds; what was used last is tried first."""
    files = []
    for path in folder.glob(f"{name}-*{_SUFFIX}"):
        with suppress(OSError):
            files.append((path.stat().st_mtime, path))
    return next(filter(None, (_read(path, asked) for _, path in sorted(files, reverse=True))), None)


def _read(path: Path, asked: Mapping[str, Any]) -> Finding | None:
    """What is kept, if it still holds."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError), path.open("rb") as file:
        head = json.loads(file.readline())
        start = _aligned(file.tell())
        states = head["looked_at"].items()
        if head["asked"] != asked or any(state_of(seen) != state for seen, state in states):
            return None
        content = _content(file, path.parent) if head["arrays"] else np.zeros(0, np.uint8)
        arrays = {}
        for name, (kind, shape, offset) in head["arrays"].items():
            dtype = np.dtype(kind)
            end = start + offset + dtype.itemsize * int(np.prod(shape))
            arrays[name] = content[start + offset : end].view(dtype).reshape(shape)
        for seen in head["looked_at"]:
            looking_at(seen)  # whoever asks to answer a larger question has looked at it too
        os.utime(path)
        return Finding(head["facts"], arrays)
    return None


def _content(file: BinaryIO, folder: Path) -> np.ndarray:
    """All bytes of a file, mapped into memory where nobody else can make that fail.

    Processes that are forked later share them in either case. What is read is 0.05 GiB for the 1.28 million names of
    ImageNet, and 0.44 GiB for as many annotations as COCO has, in each training process.
    """
    if is_on_own_disk(folder):
        return np.asarray(np.memmap(file, np.uint8, "r"))
    file.seek(0)
    return np.fromfile(file, np.uint8)


def _keep(name: str, asked: Mapping[str, Any], observation: Observation, finding: Finding) -> Finding | None:
    """Keep what was found, unless what was looked at has changed meanwhile or had just been changed before.

    What is then kept, whose memory processes share; None if nothing is.
    """
    states = observation.states
    if not observation.is_settled or any(state_of(seen) != state for seen, state in states.items()):
        return None
    failure: OSError | None = None
    for folder in _folders():
        path = folder / f"{name}-{_digest(states)[:16]}{_SUFFIX}"
        try:
            if not _write(path, asked, states, finding):
                return None
        except OSError as error:
            failure = failure or error
            continue
        if failure:
            _tell(failure.strerror, f"is kept in {folder}")
        return _read(path, asked)
    if failure:
        _tell(failure.strerror, "is found out by each process anew")
    return None


@cache
def _tell(why: str, instead: str) -> None:
    """Say once, in the first process of a job, what becomes of what is found."""
    if find_place().rank == 0:
        print(
            f"backbench: {cache_folder()} cannot be written to ({why}): what is found of data {instead}. Set "
            "XDG_CACHE_HOME to a folder that can be written to",
            file=sys.stderr,
            flush=True,
        )


def _write(path: Path, asked: Mapping[str, Any], states: Mapping[str, State], finding: Finding) -> bool:
    """Write an entry, unless it is larger than all may be. Raises OSError if it cannot be written."""
    places, offset = {}, 0
    for name, array in finding.arrays.items():
        places[name] = (array.dtype.str, array.shape, offset)
        offset = _aligned(offset + array.nbytes)
    head = {"asked": asked, "looked_at": states, "facts": finding.facts, "arrays": places}
    line = json.dumps(head).encode() + b"\n"
    if len(line) + offset > LIMIT:
        return False
    if not path.parent.exists():
        path.parent.mkdir(0o700, parents=True)
    with written_whole(path, safe_from_power_cuts=False) as file:
        file.write(line)
        for (_, _, place), array in zip(places.values(), finding.arrays.values(), strict=True):
            file.seek(_aligned(len(line)) + place)
            file.write(np.ascontiguousarray(array).data)
        file.truncate(_aligned(len(line)) + offset)
    _make_room(path)
    return True


def _make_room(newest: Path) -> None:
    """Remove what was used longest ago until the rest has its room."""
    with suppress(OSError):
        files = [(path, path.stat()) for path in newest.parent.iterdir()]
        total = sum(status.st_size for _, status in files)
        for path, status in sorted(files, key=lambda file: file[1].st_mtime):
            if total <= LIMIT:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= status.st_size


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _digest(words: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()
