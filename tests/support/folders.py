"""Telling whether two folders hold the same files, damaging and forbidding files, and pushing a data set down."""

import errno
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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


def forbid(monkeypatch: pytest.MonkeyPatch, *forbidden: Path, even_to_look: bool = False) -> None:
    """Make files as unreadable as another user's, or all that is in their folders, whoever runs the tests."""
    looks = ((os, "stat"), (os, "lstat"), (os, "scandir")) if even_to_look else ()
    for module, name in ((io, "open"), (os, "open"), *looks):
        monkeypatch.setattr(module, name, _refusing(getattr(module, name), {str(path) for path in forbidden}))


def _refusing(genuine: Callable[..., Any], forbidden: set[str]) -> Callable[..., Any]:
    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path) in forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return genuine(path, *arguments, **options)

    return refuse


def age(root: Path) -> Path:
    """Make all in a folder, and it, as old as what the cache trusts."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (1e9, 1e9), follow_symlinks=path.exists())
    return root
