"""Settings that came later than the first finished runs: they leave the keys and protocols of those alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Later:
    """Marks a setting that was added: `Annotated[float, Later(1e-8)]`.

    neutral: as the recipe's YAML has it, the value under which runs do what they did before there was the setting.
             With that value it is no part of a key or a protocol. The default may be another.
    """

    neutral: Any


def later_settings(kind: type[BaseModel]) -> dict[str, Any]:
    """The neutral values of all settings of a class of recipes that came later, in their sections."""
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if mark := _mark(field):
            found[name] = mark.neutral
        for section in _sections(field.annotation):
            if inner := later_settings(section):
                found[name] = inner
    return found


def without_neutral(settings: Mapping[str, Any], neutral: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that have their neutral value, and without sections of which nothing else is left."""
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in neutral:
            kept[name] = value
        elif isinstance(value, Mapping) and isinstance(neutral[name], Mapping):
            if inner := without_neutral(value, neutral[name]):
                kept[name] = inner
        elif value != neutral[name]:
            kept[name] = value
    return kept


def _mark(field: FieldInfo) -> Later | None:
    return next((mark for mark in field.metadata if isinstance(mark, Later)), None)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
