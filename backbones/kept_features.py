"""Features of images that were computed once, in the user's cache folder, for all later probes.   N images, C channels

`features/KEY` in the folder of `backbones.cache` holds a file for each kind of features, float32 (N, C) in numpy's
format, which of the N images could be read, and `features.json`, which says of what they are. It has its name only once
all of it is written; until then a folder `KEY.unfinished` holds what is done, and who repeats the command goes on from
there. What was used longest ago makes room for what is new. Where the cache folder cannot be written to, what it holds
is taken all the same, and what is new goes to a folder for temporary files.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from backbones.cache import Entry, cache_folder, temporary_folder
from backbones.errors import InputError, TryAgainError, not_written
from backbones.images.mounts import is_on_own_disk
from backbones.training.writing import written_whole

LIMIT = 256 * 2**30
"""Bytes that all features may take: those of ImageNet take 20 GB of a ViT-B, 33 GB of a ViT-H."""

_HEAD, _READABLE, _DONE = "features.json", "readable.npy", "done.json"
_UNFINISHED, _LOCK = ".unfinished", ".lock"

_DAY = 86_400.0
"""Seconds after which nobody is still writing what has not been finished: that makes room as well."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What flock says on a file system without locks: Lustre without `-o flock`, NFS whose server has no lock manager."""


@dataclass(frozen=True)
class Features:
    """Those of N images: `values` by kind, float32 (N, C); whether each image was `readable`, (N,), and why not."""

    values: Mapping[str, np.ndarray]
    readable: np.ndarray
    unreadable: Mapping[str, str]


class KeptFeatures:
    """The place of the features that a question asks for.

    about:    everything that changes them, which JSON can say
    subject:  for `backbench cache ls`, of what they are
    images:   N

    `spared` are the folders that make no room for these, since who asks takes them too.
    """

    spared: Collection[Path] = ()

    def __init__(self, about: Mapping[str, Any], subject: str, images: int) -> None:
        self.about: dict[str, Any] = json.loads(json.dumps({**about, "images": images}))
        self.subject, self.images = subject, images
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:16]
        kept = (folder / digest for folder in _folders() if (folder / digest / _HEAD).exists())
        self.folder = next(kept, features_folder() / digest)
        self.unfinished = self.folder.with_name(f"{digest}{_UNFINISHED}")

    @contextmanager
    def alone(self, seconds: float) -> Iterator[bool]:
        """Within the block no other process computes them; False if one still does after so many seconds.

        On a file system without locks several may: `write` takes each block once, whoever brings it. (filelock would
        take a file for a lock there, and wait for its owner for ever if that has died on another machine.)

        Raises InputError where the cache folder cannot be written to.
        """
        path = self.folder.with_name(f".{self.folder.name}{_LOCK}")
        lock = FileLock(path, fallback_to_soft=False)
        is_alone = True
        with _told(path):
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=seconds)
            except Timeout:
                is_alone = False
            except OSError as error:
                if error.errno not in _NO_LOCKS and not (self.folder / _HEAD).exists():
                    raise
        try:
            yield is_alone
        finally:
            lock.release()

    def find(self, kinds: Collection[str] | None = None) -> Features | None:
        """What is kept, mapped into memory where the folder lies on this machine's own disk; None for nothing.

        kinds: those that are wanted, which alone are read from other disks; None for all

        Raises InputError for features of something else in its place, and for files that have lost parts.
        """
        try:
            told = json.loads((self.folder / _HEAD).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            told = {}
        if not isinstance(told, dict) or told.get("about") != self.about or not _describes(told):
            raise InputError(f"{self.folder}: holds other features than its name says. {self._remove()}")
        try:
            paths = {name: self.folder / f"{name}.npy" for name in told["widths"]}
            values = {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in paths.items()}
            readable = np.load(self.folder / _READABLE, allow_pickle=False)
            whole = all(
                each.shape == (self.images, told["widths"][name]) and each.dtype == np.float32
                for name, each in values.items()
            )
            values = {name: each for name, each in values.items() if kinds is None or name in kinds}
            if not is_on_own_disk(self.folder):  # nothing of those has been looked at: see `backbones.cache`
                values = {name: np.load(paths[name], allow_pickle=False) for name in values}
        except (OSError, ValueError, KeyError, EOFError):
            whole = False
        if not whole or readable.shape != (self.images,):
            if not (self.folder / _HEAD).exists():  # removed meanwhile, to make room
                return None
            raise InputError(f"{self.folder}: files of features are missing or were cut off. {self._remove()}")
        with suppress(OSError):
            os.utime(self.folder / _HEAD)
        return Features(values, readable, told["unreadable"])

    def _remove(self) -> str:
        return (
            f"Remove it, with `backbench cache rm {self.folder.name}`, and repeat the command: they are computed anew"
        )

    def done(self) -> int:
        """How many of the images an earlier call has done before it was ended."""
        return int(self._progress()["images"])

    def _progress(self) -> dict[str, Any]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads((self.unfinished / _DONE).read_text())
            if told["about"] == self.about:
                return dict(told)
        return {"about": self.about, "images": 0, "unreadable": {}, "widths": {}}

    def write(
        self, start: int, values: Mapping[str, np.ndarray], readable: np.ndarray, unreadable: Mapping[str, str]
    ) -> None:
        """Add the features of the images from `start` on, unless another process has, where nothing keeps two apart.

        Raises InputError where they cannot be written, and where those before them are no more.
        """
        with _told(self.unfinished):
            before = self._progress()
            if start + len(readable) <= before["images"] or (self.folder / _HEAD).exists():
                return
            if start > before["images"]:
                raise self._lost(before["images"], start)
            if not before["images"]:
                self._begin({name: each.shape[1] for name, each in values.items()})
            for name, part in {**values, Path(_READABLE).stem: readable}.items():
                with (self.unfinished / f"{name}.npy").open("r+b") as file:
                    _seek(file, start)
                    file.write(np.ascontiguousarray(part).data)
                    file.flush()
                    os.fsync(file.fileno())
            progress = before | {
                "images": start + len(readable),
                "unreadable": before["unreadable"] | dict(unreadable),
                "widths": {name: each.shape[1] for name, each in values.items()},
            }
            with written_whole(self.unfinished / _DONE) as file:
                file.write(json.dumps(progress).encode())

    def _lost(self, found: int, written: int) -> TryAgainError:
        return TryAgainError(
            f"{self.unfinished}: of {self.subject} {found:,} images are done there, and were {written:,}: another "
            "process has removed or begun them anew. Repeat the command"
        )

    def _begin(self, widths: Mapping[str, int]) -> None:
        """Lay out files for all images, if there is room."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(0o700, parents=True)
        needed = self.images * (1 + 4 * sum(widths.values()))
        _make_room(needed, self.spared)
        free = shutil.disk_usage(self.unfinished).free
        if needed > free:
            raise InputError(
                f"{self.unfinished.parent}: {self.subject} take {needed / 1e9:.1f} GB there, and {free / 1e9:.1f} GB "
                "are free. Set XDG_CACHE_HOME to a folder with more room, or make some: `backbench cache ls`"
            )
        if self.folder.parent != _folders()[0]:
            _tell_place(self.folder.parent)
        for name, width in widths.items():
            _lay_out(self.unfinished / f"{name}.npy", np.dtype(np.float32), (self.images, width))
        _lay_out(self.unfinished / _READABLE, np.dtype(np.bool_), (self.images,))

    def finish(self) -> None:
        """Give what is written its name. Raises InputError where that fails, and TryAgainError where it was removed."""
        if (self.folder / _HEAD).exists():  # another process was faster, where nothing keeps two apart
            return
        progress = self._progress()
        if progress["images"] < self.images:
            raise self._lost(progress["images"], self.images)
        told = {name: progress[name] for name in ("about", "unreadable", "widths")} | {"subject": self.subject}
        with _told(self.folder):
            with written_whole(self.unfinished / _HEAD) as file:
                file.write(json.dumps(told).encode())
            if self.folder.exists():  # what is left of some that could not be removed whole
                self.folder.rename(_aside(self.folder))
            self.unfinished.rename(self.folder)
        with suppress(OSError):
            (self.folder / _DONE).unlink()


def _describes(told: Mapping[str, Any]) -> bool:
    """Whether a head says all that it has to."""
    return all(told.get(name) and isinstance(told[name], dict) for name in ("about", "widths")) and isinstance(
        told.get("unreadable"), dict
    )


def _lay_out(path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """A file of numpy's format for an array of that shape, zeros so far."""
    with path.open("wb") as file:
        head = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + int(np.prod(shape)) * kind.itemsize)


def _seek(file: Any, row: int) -> None:
    """To where a row of the array in a file begins."""
    np.lib.format.read_magic(file)
    shape, _, kind = np.lib.format.read_array_header_1_0(file)
    file.seek(row * int(np.prod(shape[1:])) * kind.itemsize, os.SEEK_CUR)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong within the block with files there is an InputError."""
    try:
        yield
    except OSError as error:
        raise not_written(
            f"{path}: cannot be written: {error.strerror or error}. Features are kept there: set XDG_CACHE_HOME to a "
            "folder with room that can be written to",
            error.errno,
        ) from None


def features_folder() -> Path:
    """Where new ones go."""
    folders = _folders()
    return next(filter(_takes_files, folders), folders[0])


def _folders() -> list[Path]:
    """Where they may lie."""
    return [cache_folder() / "features", *temporary_folder("backbench-features")]


@cache
def _tell_place(folder: Path) -> None:
    """Say once where features are, other than where one looks for them."""
    print(f"backbench: {cache_folder()} cannot be written to: features are kept in {folder}", file=sys.stderr)


def _takes_files(folder: Path) -> bool:
    """Whether a folder, made if there is none yet, can be written to."""
    with suppress(OSError):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


def feature_entries() -> list[Entry]:
    """All that are kept, what was begun, and what cannot be used any more; what was used last at the end."""
    found = []
    for folder in (folder for place in _folders() for folder in place.glob("[!.]*")):
        with suppress(OSError):
            used = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if folder.name.endswith(_UNFINISHED):
                found.append(Entry(folder, "unfinished features", str(folder), _bytes_in(folder), used))
                continue
            what, subject = "damaged features", str(folder)
            with suppress(OSError, ValueError, KeyError, TypeError):
                subject = str(json.loads((folder / _HEAD).read_text())["subject"])
                what = "features"
            found.append(Entry(folder, what, subject, _bytes_in(folder), used))
    return sorted(found, key=lambda entry: entry.used)


def remove_features(folder: Path) -> int:
    """Remove those in a folder; how many bytes that frees. Raises OSError for what cannot be removed."""
    size = _bytes_in(folder)
    aside = _aside(folder)
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
    return size


def _aside(folder: Path) -> Path:
    """What is there is no longer found: NFS keeps files that are open, and their folder, under names of its own."""
    return folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _make_room(needed: int, spared: Collection[Path] = ()) -> None:
    """Remove what was used longest ago, and is not to be spared, until there is as much room below `LIMIT`."""
    for left in features_folder().glob(".*/"):
        shutil.rmtree(left, ignore_errors=True)
    written = time.time() - _DAY
    idle = [entry for entry in feature_entries() if entry.path.suffix != _UNFINISHED or entry.used < written]
    total = sum(entry.bytes for entry in idle)
    for entry in idle:
        if total + needed <= LIMIT:
            return
        if entry.path not in spared:
            with suppress(OSError):
                total -= remove_features(entry.path)
