"""What is wrong with a recipe's settings, in words: the key, what was expected, and the nearest valid key."""

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


def explain(kind: type[BaseModel], detail: Mapping[str, Any], where: str) -> str:
    """Say in one line what pydantic finds wrong with a setting of `kind`; `where` names the recipe."""
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _valid_keys(kind, path[:-1]), n=1)
        hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(_valid_keys(kind, path[:-1]))}"
        return f'{where}, key "{key}": no such setting. {hint}'
    if expected := _expect_several(kind, detail):
        return f'{where}, key "{expected[0]}": {expected[1]}'
    if detail["type"] == "missing":
        return f'{where}, key "{key}": required, but missing'
    message, found = detail["msg"].removeprefix("Value error, "), detail["input"]
    if detail["type"] in ("bool_type", "bool_parsing"):
        message = "expected true or false"
    if detail["type"] == "value_error" and isinstance(found, Mapping):  # settings that are wrong together
        return f'{where}, key "{key}": {message}' if key else f"{where}: {message}"
    return f'{where}, key "{key}": {message}; found {found!r} ({type(found).__name__})'


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
    kind_of = "names" if typing.get_origin(types_of[0]) is typing.Literal else "numbers"
    many = f"{kind_of} in brackets" if ... in types_of else f"{_NUMBERS.get(len(types_of), len(types_of))} {kind_of}"
    numbers = next(iter(field.examples or ()), field.default or range(1, 1 + len(types_of)))
    key, example = ".".join(path), ",".join(map(str, numbers))
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    partner = f", together with {'.'.join([*path[:-1], str(extra['together_with'])])}" if extra else ""
    what = f"{found!r} ({type(found).__name__})"
    return key, f"expected {many}, for example '{key}=[{example}]'{partner}; found {what}"


def _tuple_types(annotation: Any) -> tuple[Any, ...]:
    """The types of a tuple's entries, wherever in the annotation it stands; none of an annotation without one."""
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)
    return next((found for part in typing.get_args(annotation) if (found := _tuple_types(part))), ())


def _valid_keys(kind: type[BaseModel], path: list[str]) -> list[str]:
    """The names of the settings below a path such as ["optimizer"]."""
    section = _section(kind, path)
    return list(section.model_fields) if section else []


def _section(kind: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """The class of the settings below a path; None where there are none."""
    for part in path:
        field = kind.model_fields.get(part)
        section = field.annotation if field else None
        if isinstance(section, types.UnionType):
            section = next(
                (s for s in typing.get_args(section) if isinstance(s, type) and issubclass(s, BaseModel)), None
            )
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
        kind = section
    return kind
