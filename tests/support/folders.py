"""Telling whether two folders hold the same files, damaging a file, and pushing a data set down."""

import hashlib
from pathlib import Path


def contents(root: Path) -> dict[str, str]:
    """Every file below `root` with the hash of its bytes."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def halve(path: Path) -> Path:
    """Keep of a file its first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def bury(root: Path) -> None:
    """Move everything in a folder one folder down."""
    paths = list(root.iterdir())
    (root / "deep").mkdir()
    for path in paths:
        path.rename(root / "deep" / path.name)
