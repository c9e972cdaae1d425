"""Read a list of labelled images, a name and a class's number a line, into arrays.   N lines

Millions of lines are taken apart all at once, by numpy: a loop over them takes ten times as long and as much memory.
"""

import codecs
import os
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from backbones.errors import DataError
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from tasks.datasets.wording import counted

EXPECTED = 'Expected lines such as "a/airfield/00000001.jpg 0", a space before the number of the class, from 0.'

_NEWLINE, _RETURN, _SLASH, _ZERO = b"\n\r/0"
_IS_SEPARATOR = np.isin(np.arange(256), [*b" \t,"])
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST = 500
"""Bytes of a name: no path of these data sets is nearly as long."""
_DIGITS = 9
_LEADING_DOTS = re.compile(rb"^(?:\./)+", re.MULTILINE)
_DOUBLE_SLASHES = re.compile(rb"/(?:\.?/)+")
_AT_ONCE = 100_000
"""Lines whose characters are gathered at once: 50 MB of positions for names of 60 characters."""


@dataclass(frozen=True, eq=False)
class ImageList:
    """Images named by a file, sorted by name, each once.

    Attributes:
        path: the file.
        names: |S, (N,), without slashes at the beginning.
        labels: int64, (N,), as the file has them.
        faults, flaws: what is wrong with the file, see `Listed`.
    """

    path: Path
    names: np.ndarray
    labels: np.ndarray
    faults: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()

    def paths(self, folder: Path) -> Paths:
        """The images below `folder`."""
        lengths = np.char.str_len(self.names)
        characters = self.names.view(np.uint8).reshape(len(self.names), self.names.itemsize)
        content = characters[np.arange(characters.shape[1]) < lengths[:, None]]
        return Paths(folder, content, np.cumsum(lengths, dtype=np.int64))

    def only(self, wanted: np.ndarray) -> "ImageList":
        """The images where `wanted`, bool (N,), is true."""
        return replace(self, names=self.names[wanted], labels=self.labels[wanted])

    def without(self, prefix: str) -> "ImageList":
        """The same images named from the folder `prefix` on, which all names begin with; otherwise as they are."""
        start = os.fsencode(f"{prefix}/")
        first, last = self.names[0], self.names[-1]  # sorted: what both begin with, all do
        if not (first.startswith(start) and last.startswith(start)) or first == start:
            return self
        width = self.names.itemsize - len(start)
        characters = self.names.view(np.uint8).reshape(len(self.names), self.names.itemsize)[:, len(start) :]
        names = np.ascontiguousarray(characters).view(f"S{width}")[:, 0]
        flaw = f"{self.path}: names begin with {prefix}/, the folder of images itself, which is passed over."
        return replace(self, names=names, flaws=(*self.flaws, flaw))

    def folders(self) -> tuple[list[str], np.ndarray]:
        """The folders of the names, without a slash at the end, and of each image its position among them, (N,)."""
        characters = self.names.view(np.uint8).reshape(len(self.names), self.names.itemsize)
        width = characters.shape[1]
        is_slash = characters[:, ::-1] == _SLASH
        lengths = np.where(is_slash.any(1), width - 1 - is_slash.argmax(1), 0)
        differs = np.ones(len(self.names), bool)
        for start in range(1, len(self.names), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            before = slice(start - 1, min(start + _AT_ONCE, len(self.names)) - 1)
            in_folder = np.arange(width) <= lengths[part, None]
            unlike = ((characters[part] != characters[before]) & in_folder).any(1)
            differs[part] = unlike | (lengths[part] != lengths[before])
        places: dict[str, int] = {}
        begins = [*np.flatnonzero(differs).tolist(), len(self.names)]
        of_run = [
            places.setdefault(self.names[at][: lengths[at]].decode(errors="surrogateescape"), len(places))
            for at in begins[:-1]
        ]
        return [*places], np.repeat(of_run, [end - at for at, end in pairwise(begins)])


def read_list(path: Path) -> ImageList:
    """Read the file at `path`.

    Byte-order marks, Windows line ends, tabs, commas, backslashes, `./` and `//` are read, and are flaws. Raises
    DataError for a file that cannot be read, is empty or is no text, or if it has lines without a name or a number.
    """
    flaws = []
    data = _read(path)
    if data.startswith(codecs.BOM_UTF8):
        flaws.append(f"{path}: begins with a byte-order mark, which is passed over. It is not the distributed file.")
        data = data[len(codecs.BOM_UTF8) :]
    plain = _with_plain_slashes(data)
    if plain != data:
        flaws.append(f"{path}: has backslashes, ./ or // in names, read as / between folders.")
        data = plain
    text = np.frombuffer(data, np.uint8)
    starts, ends, numbers = _lines(text)
    if (text[ends.clip(max=len(text) - 1)] == _RETURN).any():
        flaws.append(f"{path}: has Windows line ends, which are passed over. It is not the distributed file.")
    separators = _last_separators(text, starts, ends)
    if others := {"\t", ","} & {chr(each) for each in np.unique(text[separators[separators >= starts]])}:
        kinds = " or ".join({"\t": "a tab", ",": "a comma"}[each] for each in sorted(others))
        flaws.append(f"{path}: {kinds} before the class, where a space was expected; read all the same.")
    labels, is_number = _numbers(text, separators + 1, ends)
    first, last = _trim_names(text, starts, separators)
    is_sound = is_number & (separators >= starts) & (last > first) & (last - first <= _LONGEST)
    if not is_sound.all():
        raise DataError(_describe_unsound(path, data, ~is_sound, starts, ends, numbers))
    names = _gather(text, first, last)
    if not (names[:-1] <= names[1:]).all():
        order = np.argsort(names, kind="stable")
        names, labels = names[order], labels[order]
    return _once_each(ImageList(path, names, labels, flaws=tuple(flaws)))


def _read(path: Path) -> bytes:
    looking_at(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}.") from None
    if data.startswith(_UTF_16) or b"\0" in data:
        raise DataError(f"{path}: not plain text, or UTF-16 as some programs on Windows write. Save it as UTF-8.")
    if not data.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n,"):
        raise DataError(f"{path}: the file is empty. Download or copy it again.")
    return data


def _with_plain_slashes(data: bytes) -> bytes:
    """The lines with one / between folders, and no folder called `.`."""
    if b"\\" in data:
        data = data.replace(b"\\", b"/")
    if b"./" in data or b"//" in data:
        data = _DOUBLE_SLASHES.sub(b"/", _LEADING_DOTS.sub(b"", data))
    return data


def _lines(text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the lines that say something start and end, without white space at their ends, and their numbers."""
    ends = np.flatnonzero(text == _NEWLINE)
    if text[-1] != _NEWLINE:
        ends = np.append(ends, len(text))
    starts = np.append(0, ends[:-1] + 1)
    while True:
        last = text[(ends - 1).clip(0)]
        blank = (ends > starts) & ((last == _RETURN) | _IS_SEPARATOR[last])
        if not blank.any():
            break
        ends = ends - blank
    full = ends > starts
    return starts[full], ends[full], np.flatnonzero(full) + 1


def _last_separators(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where the last separator of each line is; where the one before it starts for a line without any."""
    separators = np.flatnonzero(_IS_SEPARATOR[text])
    if not len(separators):
        return starts - 1
    found = separators[(np.searchsorted(separators, ends) - 1).clip(0)]
    return np.where((found >= starts) & (found < ends), found, starts - 1)


def _numbers(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers there, int64, and where there is one."""
    lengths = ends - starts
    values, sound = np.zeros(len(starts), np.int64), (lengths > 0) & (lengths <= _DIGITS)
    for offset in range(min(_DIGITS, int(lengths.max(initial=0)))):
        inside = offset < lengths
        digits = text[(starts + offset).clip(max=len(text) - 1)].astype(np.int64) - _ZERO
        sound &= ~inside | ((digits >= 0) & (digits <= 9))
        values = np.where(inside, values * 10 + digits, values)
    return values, sound


def _trim_names(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the names begin behind slashes and blanks, and end before separators."""
    while (skip := (starts < ends) & ((text[starts] == _SLASH) | _IS_SEPARATOR[text[starts]])).any():
        starts = starts + skip
    while (skip := (starts < ends) & _IS_SEPARATOR[text[ends - 1]]).any():
        ends = ends - skip
    return starts, ends


def _gather(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The texts between as one array of bytes, |S."""
    width = int((ends - starts).max())
    characters = np.zeros((len(starts), width), np.uint8)
    for at in range(0, len(starts), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        places = starts[part, None] + np.arange(width)
        inside = places < ends[part, None]
        characters[part][inside] = text[places[inside]]
    return characters.view(f"S{width}")[:, 0]


def _once_each(images: ImageList) -> ImageList:
    """Without what is named again; of that with another class only the first is left too, which is a fault."""
    again = np.append(False, images.names[1:] == images.names[:-1])
    if not again.any():
        return images
    other = again & np.append(False, images.labels[1:] != images.labels[:-1])
    faults, flaws = images.faults, images.flaws
    if other.any():
        name = images.names[other][0].decode(errors="replace")
        faults += (
            f"{images.path}: {counted(int(other.sum()), 'image')} named twice with different classes: {name} among "
            "them. Remove the wrong lines.",
        )
    if (same := int((again & ~other).sum())) > 0:
        name = images.names[again & ~other][0].decode(errors="replace")
        flaws += (f"{images.path}: {counted(same, 'line')} of images named before, {name} among them; read once.",)
    return replace(images.only(~again), faults=faults, flaws=flaws)


def _describe_unsound(
    path: Path, data: bytes, unsound: np.ndarray, starts: np.ndarray, ends: np.ndarray, numbers: np.ndarray
) -> str:
    first = int(np.flatnonzero(unsound)[0])
    line = data[starts[first] : ends[first]].decode(errors="replace")
    shown = line if len(line) <= 80 else f"{line[:80]}…"
    count = int(unsound.sum())
    if unsound.all():
        return (
            f"{path}: no line gives an image and its class; line {numbers[first]:,} is {shown!r}. {EXPECTED} A list of "
            "test images has no classes: it cannot be evaluated on."
        )
    others = f" and {count - 1:,} more" if count > 1 else ""
    return f"{path}, line {numbers[first]:,}{others}: no image with its class: {shown!r}. {EXPECTED}"
