"""What was found out of data, at the cost of minutes, is kept in the user's cache folder for all later processes.

It holds as long as the files that were read and the folders that were listed are as they were. All in the folder can
be found out again: it may be removed at any time, and nothing here fails where it cannot be read or written.

A file is one line of JSON, of what was asked, what was looked at and what was found, and then the arrays, which are
mapped into memory: processes on one machine share them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backbones.images.observing import Observation, looking_at, observing, state_of
from backbones.training.writing import written_whole

LIMIT = 4 * 2**30
"""Bytes that the cache may take of what is kept of data; what was used last stays."""

_ALIGNMENT = 64
_SUFFIX = ".kept"


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
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]
    file = cache_folder() / "data" / f"{name}{_SUFFIX}"
    if not any(_anew) and (finding := _read(file, asked)):
        return finding
    with observing() as observation:
        finding = find()
    return (_write(file, asked, observation, finding) and _read(file, asked)) or finding


def entries() -> list[Entry]:
    """All that is kept, what was used last at the end."""
    found = []
    for path in [*cache_folder().glob(f"data/*{_SUFFIX}"), *cache_folder().glob("weights/*.json")]:
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
    for path in [*cache_folder().glob("data/*"), *cache_folder().glob("weights/*")]:
        size = path.stat().st_size
        path.unlink()
        freed += size
    return freed


def cache_folder() -> Path:
    """Where things are kept that can be found out again: $XDG_CACHE_HOME/backbench, by default ~/.cache/backbench."""
    home = os.environ.get("HOME", "/nonexistent")
    return Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache") / "backbench"


def _read(path: Path, asked: Mapping[str, Any]) -> Finding | None:
    """What is kept, if it still holds."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        with path.open("rb") as file:
            head = json.loads(file.readline())
            start = _aligned(file.tell())
        states = head["looked_at"].items()
        if head["asked"] != asked or any(state_of(seen) != state for seen, state in states):
            return None
        content = np.memmap(path, np.uint8, "r") if head["arrays"] else np.zeros(0, np.uint8)
        arrays = {}
        for name, (kind, shape, offset) in head["arrays"].items():
            dtype = np.dtype(kind)
            end = start + offset + dtype.itemsize * int(np.prod(shape))
            arrays[name] = np.asarray(content)[start + offset : end].view(dtype).reshape(shape)
        for seen in head["looked_at"]:
            looking_at(seen)  # whoever asks to answer a larger question has looked at it too
        os.utime(path)
        return Finding(head["facts"], arrays)
    return None


def _write(path: Path, asked: Mapping[str, Any], observation: Observation, finding: Finding) -> bool:
    """Keep what was found, unless what was looked at has changed meanwhile or had just been changed before."""
    if not observation.is_settled or any(state_of(seen) != state for seen, state in observation.states.items()):
        return False
    places, offset = {}, 0
    for name, array in finding.arrays.items():
        places[name] = (array.dtype.str, array.shape, offset)
        offset = _aligned(offset + array.nbytes)
    head = {"asked": asked, "looked_at": observation.states, "facts": finding.facts, "arrays": places}
    line = json.dumps(head).encode() + b"\n"
    if len(line) + offset > LIMIT:
        return False
    try:
        with written_whole(path, safe_from_power_cuts=False) as file:
            file.write(line)
            for (_, _, place), array in zip(places.values(), finding.arrays.values(), strict=True):
                file.seek(_aligned(len(line)) + place)
                file.write(np.ascontiguousarray(array).data)
            file.truncate(_aligned(len(line)) + offset)
    except OSError:
        return False
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
