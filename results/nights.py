"""Nights, and what is called after them: 2026-11-26."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path

from results.errors import StoreError

_LIKE_ONE = re.compile(r"\d{4}-\d{2}-\d{2}")


def is_night(name: str) -> bool:
    """Whether it is a date as nights are called, 2026-11-26."""
    with suppress(ValueError):
        return date.fromisoformat(name).isoformat() == name
    return False


def first_night(folders: Iterable[str], place: object) -> str:
    """The first of the folders' names that is a night; empty where none is.

    Raises StoreError, naming the place that they are of, for a name before it that looks like a date and is none.
    """
    for name in folders:
        if is_night(name):
            return name
        if _LIKE_ONE.fullmatch(name):
            raise StoreError(f"{place}: {name} is no date. A night's folder is named by one, such as 2026-11-26")
    return ""


def names_of(folder: Path) -> tuple[str, str]:
    """What a folder is called in its path, "." being spelled out, and what it is called where a link leads to it."""
    return Path(os.path.abspath(folder)).name, folder.resolve().name  # noqa: PTH100  a link keeps its name
