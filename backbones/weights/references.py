"""How weights are named: a file or a folder, and a part of what it holds: "FILE::teacher.backbone"."""

from pathlib import Path

SEPARATOR = "::"


def split_part(text: str | Path) -> tuple[Path, str]:
    """Split FILE::PART into the file and the part, "" where there is none. What exists by that name is a file."""
    path, separator, part = str(text).rpartition(SEPARATOR)
    if not separator or not path or Path(text).exists():
        return Path(text), ""
    return Path(path), part


def part_name(container: str, prefix: str) -> str:
    """What a part is called: "teacher.backbone" for the names in `teacher` that begin with "backbone."."""
    return ".".join(filter(None, (container, prefix.removesuffix("."))))
