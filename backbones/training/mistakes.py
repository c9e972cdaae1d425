"""What is wrong with a recipe's settings, in words: the key, what was expected, and the nearest valid key."""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}

_WORDS = {
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping of settings",
    "too_short": "expected at least one",
}
"""What pydantic says of these types of mistakes, in words that need no Python."""


def explain(kind: type[BaseModel], detail: Mapping[str, Any], where: str, key: str | None = None) -> str:
    """Say in one line what pydantic finds wrong with a setting of `kind`.

    where: names the recipe, or the file and the line
    key:   what the setting is called; by default as pydantic has it
    """
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path) if key is None else key
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _valid_keys(kind, path[:-1]), n=1)
        hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(_valid_keys(kind, path[:-1]))}"
        return f'{where}, key "{key}": no such setting. {hint}'
    if expected := _expect_several(kind, detail):
        return f'{where}, key "{expected[0]}": {expected[1]}'
    if detail["type"] == "missing":
        return f'{where}, key "{key}": required, but missing'
    message, found = detail["msg"].removeprefix("Value error, "), detail["input"]
    message = _WORDS.get(detail["type"], message)
    if detail["type"] == "value_error" and isinstance(found, Mapping):  # settings that are wrong together
        return f'{where}, key "{key}": {message}' if key else f"{where}: {message}"
    return f'{where}, key "{key}": {message}; found {found!r} ({type(found).__name__})'


def without_echoes(details: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """pydantic's findings, but for lists that are too short only because it counts no entry that is wrong itself."""
    entries = {tuple(detail["loc"][:-1]) for detail in details if detail["loc"] and isinstance(detail["loc"][-1], int)}
    return [detail for detail in details if detail["type"] != "too_short" or tuple(detail["loc"]) not in entries]


def _expect_several(kind: type[BaseModel], detail: Mapping[str, Any]) -> tuple[str, str] | None:
    """The key of a setting of several values that has none or too few or many, and what it takes; else None."""
    path, found = [part for part in detail["loc"] if isinstance(part, str)], detail["input"]
    entry_is_missing = detail["type"] == "missing" and len(path) < len(detail["loc"])
    if not entry_is_missing and detail["type"] not in ("tuple_type", "too_short", "too_long"):
        return None
    section = _section(kind, path[:-1])
    field = section.model_fields[path[-1]] if section else None
    types_of = _tuple_types(field.annotation) if field else ()
    if field is None or not types_of:
        return None
    is_of_names = any(isinstance(value, str) for value in typing.get_args(types_of[0]))
    kind_of = "names" if is_of_names else "numbers"
    many = f"{kind_of} in brackets" if ... in types_of else f"{_NUMBERS.get(len(types_of), len(types_of))} {kind_of}"
    numbers = next(iter(field.examples or ()), field.default or range(1, 1 + len(types_of)))
    key, example = ".".join(path), ",".join(map(str, numbers))
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    partner = f", together with {'.'.join([*path[:-1], str(extra['together_with'])])}" if extra else ""
    what = f"{found!r} ({type(found).__name__})"
    return key, f"expected {many}, for example '{key}=[{example}]'{partner}; found {what}"


def _tuple_types(annotation: Any) -> tuple[Any, ...]:
    """The types of a tuple of numbers or of names that are known, wherever in the annotation it stands; none of an
    annotation without one."""
    if typing.get_origin(annotation) is tuple:
        entries = typing.get_args(annotation)
        is_known = _bare(entries[0]) in (int, float) or typing.get_origin(entries[0]) is typing.Literal
        return entries if is_known else ()
    return next((found for part in typing.get_args(annotation) if (found := _tuple_types(part))), ())


def _bare(annotation: Any) -> Any:
    """A type without what is annotated to it."""
    return _bare(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is typing.Annotated else annotation


def _valid_keys(kind: type[BaseModel], path: list[str]) -> list[str]:
    """The names of the settings below a path such as ["optimizer"], as files have them."""
    section = _section(kind, path)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _section(kind: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """The class of the settings below a path, through mappings by name and lists too; None where there are none."""
    found: Any = kind
    for part in path:
        section = _model_in(found)
        if section is not None:
            found = section.model_fields[part].annotation if part in section.model_fields else None
        else:
            found = _entries_of(found)
    return _model_in(found)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows, without what is annotated to them."""
    bare = _bare(annotation)
    if isinstance(bare, types.UnionType) or typing.get_origin(bare) is typing.Union:
        return tuple(other for part in typing.get_args(bare) for other in _alternatives(part))
    return (bare,)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    models = (one for one in _alternatives(annotation) if isinstance(one, type) and issubclass(one, BaseModel))
    return next(models, None)


def _entries_of(annotation: Any) -> Any:
    """The type of the entries of a mapping, list or tuple; None where it is none."""
    position = {dict: 1, list: 0, tuple: 0}
    for one in _alternatives(annotation):
        if (origin := typing.get_origin(one)) in position:
            return typing.get_args(one)[position[origin]]
    return None
