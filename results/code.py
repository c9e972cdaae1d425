"""Which code a number was made with: a digest of sources, because an installed wheel has no commit."""

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGES = ("backbones", "benchmarks", "results", "tasks")
SUFFIXES = (".py", ".yaml", ".yml", ".json", ".toml")
_HOUSE = Path(__file__).resolve().parents[1]


@cache
def code_digest() -> str:
    """Twelve hex digits of the sources of backbench's own packages, as they were when this process first asked."""
    return sources_digest(_HOUSE / package for package in PACKAGES)


def sources_digest(roots: Iterable[Path]) -> str:
    """Twelve hex digits that change with the name or the bytes of any source at or below these paths.

    Sources are files of Python, YAML, JSON and TOML.

    The same files give the same digits wherever the paths lie, and links are followed. Hidden folders are passed over,
    and so are files that vanish meanwhile.
    """
    digest = hashlib.sha256()
    for root in roots:
        for name in _sources(root):
            try:
                content = (root.parent / name).read_bytes()
            except FileNotFoundError:
                continue
            digest.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape"))
            digest.update(content)
    return digest.hexdigest()[:12]


def _sources(root: Path) -> list[str]:
    """The files' paths from the folder above `root`, with forward slashes, sorted."""
    if root.is_file():
        return [root.name]
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and place not in seen]
        seen.add(place)
        found += [Path(folder, name) for name in files if name.endswith(SUFFIXES)]
    return sorted(path.relative_to(root.parent).as_posix() for path in found)
