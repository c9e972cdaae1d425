"""How weights are named: a file or a folder, and a part of what it holds: "FILE::teacher.backbone"."""

import re
from pathlib import Path

from backbones.errors import InputError

SEPARATOR = "::"


_OPTIMIZER = re.compile(r"(?:.*_)?(?:opt|optim|optimizer)s?(?:_.*)?", re.IGNORECASE)


def is_optimizers(entry: str) -> bool:
    """Whether an entry of a file is an optimizer's, whose numbers may have the names and shapes of the weights."""
    return _OPTIMIZER.fullmatch(entry) is not None


def split_part(text: str | Path) -> tuple[Path, str]:
    """Split FILE::PART into the file and the part, "" where there is none. What exists by that name is a file.

    Raises InputError if nothing follows the colons.
    """
    path, separator, part = str(text).rpartition(SEPARATOR)
    if not separator or not path or Path(text).exists():
        return Path(text), ""
    file, inner, first = path.rpartition(SEPARATOR)
    if inner and Path(file).exists() and not Path(path).exists():
        raise InputError(
            f"{text}: names two parts. A part within a part is joined by a dot: {file}{SEPARATOR}{first}.{part}"
        )
    if not part:
        raise InputError(
            f"{text}: no part after {SEPARATOR}. Name one, as {path}{SEPARATOR}teacher, or leave the colons out."
        )
    return Path(path), part.strip(".") or part[:1]


def part_name(container: str, prefix: str) -> str:
    """What a part is called: "teacher.backbone" for the names in `teacher` that begin with "backbone."."""
    return ".".join(filter(None, (container, prefix.removesuffix("."))))
