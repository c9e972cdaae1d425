"""Backbones from outside: `package.module:function`, a file of one's own, and installed packages with entry points.

A file (`--plugin FILE.py`) and a package's module call `register_backbone` and `register_method` when imported. A
package makes its backbones known by an entry point of the group "backbench.backbones" that names such a module:

    [project.entry-points."backbench.backbones"]
    mine = "my_package.backbones"
"""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from backbones.errors import InputError

GROUP = "backbench.backbones"

_folders: list[str] = []
_files: dict[Path, ModuleType] = {}


@dataclass
class _Import:
    """A plug-in's module that is being imported, and what it has registered so far."""

    module: str
    names: list[str] = field(default_factory=list)


_imports: list[_Import] = []
_came_along: set[str] = set()
_beside: dict[str, tuple[Path, ...]] = {}


@contextmanager
def _importing(module: str) -> Iterator[_Import]:
    """What the module prints goes to standard error: it is no answer of ours."""
    _imports.append(_Import(module))
    before = set(sys.modules)
    try:
        with redirect_stdout(sys.stderr):
            yield _imports[-1]
    finally:
        _imports.pop()
        _came_along.update({module}, set(sys.modules) - before)
        _beside[module] = _files_beside(module)


def _files_beside(module: str) -> tuple[Path, ...]:
    """In and below the folder of a plug-in that is a single file, those of all modules that plug-ins have imported."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or "site-packages" in file or "." in module or Path(file).name == "__init__.py":
        return ()
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _came_along)
    return tuple(sorted({Path(each) for each in files if each and Path(each).is_relative_to(Path(file).parent)}))


def files_beside(module: str) -> tuple[Path, ...]:
    """What came with the import of a plug-in that is a single file, or of one before it, and lies in its folder.

    The same in all processes of a job, whatever else these have imported since. Empty for a package.
    """
    return _beside.get(module, ())


def note_registration(name: str) -> str:
    """Tell that a backbone or a method of that name was registered; the plug-in that does so, "" outside of one."""
    if not _imports:
        return ""
    _imports[-1].names.append(name)
    return _imports[-1].module


def require_words(what: str, **given: object) -> None:
    """Raise InputError unless all that is given are words that a table can print; `what` begins the message."""
    for name, value in given.items():
        if not isinstance(value, str) or not (value.strip() and value.isprintable()):
            raise InputError(f"{what}: {name}={value!r}: expected a name, as the table is to print it.")


def require_callable(what: str, **given: object) -> None:
    """Raise InputError unless all that is given are functions, or None; `what` begins the message."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise InputError(f"{what}: {name}={value!r}: expected a function.")


def look_in(folder: Path) -> None:
    """Find modules of backbones in that folder too, after all that is installed."""
    _folders.append(str(folder))


def import_function(name: str, what: str = "backbone") -> Callable[..., Any]:
    """Import `package.module:function`, a backbone or what else it is called in messages.

    Raises InputError if there is none, or importing it fails.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name.strip(".") or "/" in module_name or module_name.startswith(".") or module_name.endswith(".py"):
        raise InputError(
            f"{what} {name}: expected MODULE:FUNCTION, the module as Python imports it and not by its path: "
            "my_vit:build of the file my_vit.py in the current folder, or in one on PYTHONPATH"
        )
    try:
        with redirect_stdout(sys.stderr):
            module = _import(module_name)
    except ModuleNotFoundError as error:
        is_another = error.name is not None and error.name.partition(".")[0] != module_name.partition(".")[0]
        raise InputError(
            f"{what} {name}: no module {error.name!r}{f', which {module_name} imports' if is_another else ''}. Is it "
            "installed, here, or its folder on PYTHONPATH?"
        ) from error
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        raise InputError(f"{what} {name}: importing {module_name} failed with {describe_error(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        found = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        has = f"It has {', '.join(sorted(found)[:8])}" if found else "It has none at all"
        file = f" ({place})" if (place := getattr(module, "__file__", None)) else ""
        raise InputError(f"{what} {name}: {module_name} has no function {attribute!r}. {has}{file}.")
    if not isinstance(function, type) and hasattr(function, "state_dict"):
        raise InputError(
            f"{what} {name}: {attribute} is a {type(function).__name__} that has been built. Expected a function that "
            "builds one anew whenever it is called"
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


def import_files(paths: Iterable[Path]) -> None:
    """Import files of one's own, each once in this process, so that they register their backbones and methods.

    Raises InputError, naming the file, if there is none, if it is not Python or fails, if its name is that of another
    module, and if it registers nothing or what is registered already.
    """
    for path in paths:
        resolved = path.resolve()
        if resolved not in _files:
            _files[resolved] = _import_file(path, resolved)


def _import_file(path: Path, resolved: Path) -> ModuleType:
    if not resolved.is_file() or resolved.suffix != ".py":
        found = "is a folder" if resolved.is_dir() else "is none" if resolved.is_file() else "there is no such file"
        raise InputError(f"--plugin {path}: {found}. Expected a file of Python, such as my_method.py.")
    name = resolved.stem
    if not name.isidentifier():
        raise InputError(
            f"--plugin {path}: {name!r} is no name of a module. Rename the file, with letters, digits and underscores "
            f"alone: {_spelt_as_module(name)}.py"
        )
    if (other := _other_module(name, resolved)) is not None:
        raise InputError(
            f"--plugin {path}: its name is that of another module, {other}. Rename the file: models come from the "
            "module of its name."
        )
    sys.path += [folder for folder in _folders if folder not in sys.path]
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing(name) as imported:
            spec.loader.exec_module(module)
        if not imported.names:
            raise InputError(
                "it registers nothing. Expected register_backbone(…) or register_pretraining(…) before a function, as "
                "its decorator, or a call of register_method; a function alone is named as --backbone "
                f"{name}:FUNCTION."
            )
    except (Exception, SystemExit) as error:  # another author's file can fail in any way
        del sys.modules[name]
        raise InputError(f"--plugin {path}: {_why_failed(error, resolved)}") from error
    return module


def _spelt_as_module(name: str) -> str:
    """A name that a module can have, as near as can be."""
    spelt = re.sub(r"\W+", "_", name)
    return spelt if spelt.isidentifier() else f"my_{spelt}"


def _other_module(name: str, resolved: Path) -> str | None:
    """Where the module of that name is from, if it is not this file."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) or "one that is built in"
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        if spec is not None and (spec.origin is None or Path(spec.origin).resolve() != resolved):
            return spec.origin or "a package of several folders"
    return None


def _why_failed(error: BaseException, file: Path) -> str:
    match error:
        case InputError():
            return str(error)
        case SyntaxError():
            return f"it is not Python: {f'line {error.lineno}: ' if error.lineno else ''}{error.msg}."
        case ModuleNotFoundError():
            return f"it needs the module {error.name!r}. {_where_is(error.name or '', file.parent)}"
        case SystemExit():
            return f"importing it failed with {describe_error(error)}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"importing it failed{f' in line {lines[-1]}' if lines else ''} with {describe_error(error)}"


def _where_is(module: str, folder: Path) -> str:
    """What to do where a file in a folder does not find a module."""
    first = module.partition(".")[0]
    if any((folder / place).exists() for place in (f"{first}.py", first)):
        return f"It lies beside the file: call backbench in that folder, or set PYTHONPATH={folder}"
    return "Is it installed, in the current folder, or on PYTHONPATH?"


@cache
def load_plugins() -> tuple[str, ...]:
    """Import every installed plug-in, once. Returns a sentence on each that failed; the others are registered."""
    failures = []
    for entry_point in entry_points(group=GROUP):
        try:
            with _importing(entry_point.module):
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
