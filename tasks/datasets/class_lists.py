"""The names of a segmentation set's classes, from a text file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError
from tasks.datasets.label_maps import MAX_CLASSES
from tasks.datasets.wording import counted, name_some

_HEADER = ["idx", "ratio", "train", "val", "stuff", "name"]
"""ADE20K's objectInfo150.txt: one class a line, its synonyms in the last column separated by commas."""


def find_class_list(root: Path, named: str | None) -> Path:
    """The file `named` in the settings, below `root` or absolute, or else the only objectInfo*.txt in `root`.

    Raises InputError if there is none, or more than one.
    """
    expected = "objectInfo150.txt there, or --set data.classes=FILE with one name a line, in the order of the labels"
    if named is not None:
        if not (root / named).is_file():
            raise InputError(f"{root / named}: no such class list. Expected {expected}.")
        return root / named
    found = sorted(path for path in root.glob("objectInfo*.txt") if path.is_file())
    if not found:
        raise InputError(f"{root}: no class list found. Expected {expected}.")
    if len(found) > 1:
        names = name_some((path.name for path in found), len(found))
        raise InputError(f"{root}: {len(found)} class lists: {names}. Choose one: --set data.classes={found[0].name}")
    return found[0]


def read_class_list(path: Path) -> list[str]:
    """The names of the classes, in the order of their labels.

    The file is laid out as ADE20K's objectInfo150.txt, where a class goes by its first synonym unless another class
    begins with the same one; or it has one name a line, taken as it stands.
    Raises InputError for what is neither, for a name used twice, and for more classes than `MAX_CLASSES`.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the class list cannot be read as text: {error}.") from None
    lines = [line for line in lines if line]
    if not lines:
        raise InputError(f"{path}: the class list is empty. Expected one name a line.")
    names = _shorten(_read_table(path, lines)) if lines[0].lower().split() == _HEADER else lines
    if not 0 < len(names) <= MAX_CLASSES:
        raise InputError(
            f"{path}: {counted(len(names), 'class', 'classes')}. Label maps of 8 bits hold 1 to {MAX_CLASSES}."
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputError(
            f"{path}: {counted(len(repeated), 'class name')} used more than once: "
            f"{name_some(repeated, len(repeated))}. Give each class a name of its own."
        )
    return names


def _read_table(path: Path, lines: Sequence[str]) -> list[str]:
    names = []
    for number, line in enumerate(lines[1:], start=1):
        fields = line.split(maxsplit=len(_HEADER) - 1)
        if len(fields) < len(_HEADER) or fields[0] != str(number):
            raise InputError(
                f"{path}: {line!r} is not the class of label {number}. Expected the columns "
                f"{' '.join(_HEADER).title()}, and Idx to count from 1 without gaps."
            )
        names.append(fields[-1])
    return names


def _shorten(names: Sequence[str]) -> list[str]:
    first = [name.split(",")[0].strip() for name in names]
    times = Counter(first)
    return [short if times[short] == 1 else name for short, name in zip(first, names, strict=True)]
