"""The names of a segmentation set's classes, from a text file."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import DataError
from backbones.images.observing import looking_at
from tasks.datasets.label_maps.maps import MAX_CLASSES
from tasks.datasets.wording import counted, name_some

_COLUMNS = ["idx", "ratio", "train", "val", "name"]
"""ADE20K's objectInfo150.txt, https://github.com/CSAILVision/sceneparsing: a class a line, its synonyms last."""

_COLUMNS_WITH_STUFF = [*_COLUMNS[:-1], "stuff", "name"]
"""object150_info.csv, https://github.com/CSAILVision/semantic-segmentation-pytorch."""


def find_class_list(root: Path, named: str | None) -> Path:
    """The file `named` in the settings, below `root` or absolute, or else the only objectInfo*.txt in `root`.

    Raises DataError if there is none, or more than one.
    """
    expected = "objectInfo150.txt there, or --set data.classes=FILE with one name a line, in the order of the labels"
    if named is not None:
        if not (root / named).is_file():
            raise DataError(f"{root / named}: no such class list. Expected {expected}.")
        return root / named
    looking_at(root)
    candidates = sorted(root.glob("objectInfo*.txt"))
    for path in candidates:
        looking_at(path)
    found = [path for path in candidates if path.is_file()]
    if not found:
        raise DataError(f"{root}: no class list found. Expected {expected}.")
    if len(found) > 1:
        names = name_some((path.name for path in found), len(found))
        raise DataError(f"{root}: {len(found)} class lists: {names}. Choose one: --set data.classes={found[0].name}")
    return found[0]


def read_class_list(path: Path) -> list[str]:
    """The names of the classes, in the order of their labels.

    The file has one name a line, taken as it stands; or it is a table with the columns of ADE20K's objectInfo150.txt,
    where a class goes by its first synonym unless another class begins with the same one.
    Raises DataError for what is neither, for a name used twice, for a single class, and for more than `MAX_CLASSES`.
    """
    looking_at(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the class list cannot be read as text: {error}.") from None
    lines = [line for line in lines if line]
    has_header = bool(lines) and re.match(r'"?idx\b', lines[0], re.IGNORECASE) is not None
    names = _shorten(_read_table(path, lines)) if has_header else _read_names(path, lines)
    _require_distinct(path, names)
    return names


def _require_distinct(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise DataError(f"{path}: the class list is empty. Expected one name a line.")
    if len(names) == 1:
        raise DataError(
            f"{path}: {names[0]!r} is the only class, and UPerNet needs two or more to choose from. List the "
            "background as well; where an annotation has it as 0, with --set data.reduce_zero_label=false."
        )
    if len(names) > MAX_CLASSES:
        raise DataError(f"{path}: {len(names):,} classes. Label maps of 8 bits hold up to {MAX_CLASSES}.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path}: {counted(len(repeated), 'class name')} used more than once: "
            f"{name_some(repeated, len(repeated))}. Give each class a name of its own."
        )


def _read_names(path: Path, lines: Sequence[str]) -> list[str]:
    for line in lines:
        if "\t" in line:
            raise DataError(
                f"{path}: {line!r} holds a tab, as a table's rows. Expected one name a line, or a table whose first "
                f"line has the columns {_titles(_COLUMNS)}."
            )
    return list(lines)


def _read_table(path: Path, lines: Sequence[str]) -> list[list[str]]:
    """The synonyms of each class. Columns are separated by commas if those of the header are, else by blanks."""
    commas = "," in lines[0]
    columns = [field.lower() for field in _split(lines[0], len(_COLUMNS_WITH_STUFF), commas)]
    if columns not in (_COLUMNS, _COLUMNS_WITH_STUFF):
        raise DataError(
            f"{path}: its first line is {lines[0]!r}. Expected the columns {_titles(_COLUMNS)}, with Stuff before Name "
            "or without, separated by tabs, blanks or commas; or one name a line and no header."
        )
    synonyms = []
    for number, line in enumerate(lines[1:], start=1):
        fields = _split(line, len(columns), commas)
        names = [name.strip() for name in re.split("[,;]", fields[-1]) if name.strip()]
        fits = len(fields) == len(columns) and fields[0] == str(number) and all(map(_is_number, fields[:-1]))
        if not fits or not names or "\t" in fields[-1]:
            raise DataError(
                f"{path}: {line!r} is not the class of label {number}. Expected the columns {_titles(columns)}, all of "
                "them numbers but the last, and Idx to count from 1 without gaps."
            )
        synonyms.append(names)
    return synonyms


def _split(line: str, columns: int, commas: bool) -> list[str]:
    """The fields of a line. The last may hold blanks, and commas if it is in quotation marks."""
    if not commas:
        return line.split(maxsplit=columns - 1)
    try:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True, strict=True))]
    except csv.Error:
        return [line]


def _is_number(field: str) -> bool:
    return re.fullmatch(r"[0-9.]+(e[+-]?[0-9]+)?", field, re.IGNORECASE) is not None


def _titles(columns: Sequence[str]) -> str:
    return " ".join(columns).title()


def _shorten(synonyms: Sequence[Sequence[str]]) -> list[str]:
    times = Counter(names[0] for names in synonyms)
    return [names[0] if times[names[0]] == 1 else ", ".join(names) for names in synonyms]
