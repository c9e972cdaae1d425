"""Backbones from outside: `package.module:function`, and installed packages with entry points.

A package makes its backbones known by an entry point of the group "backbench.backbones" that names a module which
calls `register_backbone` when it is imported:

    [project.entry-points."backbench.backbones"]
    mine = "my_package.backbones"
"""

import importlib
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from backbones.errors import InputError

GROUP = "backbench.backbones"

_folders: list[str] = []


def look_in(folder: Path) -> None:
    """Find modules of backbones in that folder too, after all that is installed."""
    _folders.append(str(folder))


def import_function(name: str, what: str = "backbone") -> Callable[..., Any]:
    """Import `package.module:function`, a backbone or what else it is called in messages.

    Raises InputError if there is none, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = _import(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{what} {name}: no module {error.name!r}. Is it installed, here, or its folder on PYTHONPATH?"
        ) from error
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        raise InputError(f"{what} {name}: importing {module_name} failed with {describe_error(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        found = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise InputError(
            f"{what} {name}: {module_name} has no function {attribute!r}. It has {', '.join(sorted(found)[:8])}."
        )
    return function


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        others = [folder for folder in _folders if folder not in sys.path]
        if error.name != name.partition(".")[0] or not others:
            raise
    sys.path += others
    return importlib.import_module(name)


@cache
def load_plugins() -> tuple[str, ...]:
    """Import every installed plug-in, once. Returns a sentence on each that failed; the others are registered."""
    failures = []
    for entry_point in entry_points(group=GROUP):
        try:
            entry_point.load()
        except (Exception, SystemExit) as error:  # one broken plug-in must not take the others along
            package = (
                f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "an unknown package"
            )
            what = f"plug-in {entry_point.name!r} of {package} ({entry_point.value})"
            failures.append(f"{what} cannot be loaded: {describe_error(error)}")
    return tuple(failures)


def describe_error(error: BaseException) -> str:
    """Put an exception into words, its kind first; of an end of the program say who called for it."""
    if not isinstance(error, SystemExit):
        return f"{type(error).__name__}: {error}"
    code = "" if error.code is None else repr(error.code)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"sys.exit({code}){where}, which ends the program"
