"""Telling whether two folders hold the same files."""

import hashlib
from pathlib import Path


def contents(root: Path) -> dict[str, str]:
    """Every file below `root` with the hash of its bytes."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }
