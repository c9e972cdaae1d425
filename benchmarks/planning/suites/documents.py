"""YAML files whose mistakes are named with file and line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from backbones.errors import InputError
from backbones.training.mistakes import explain

Model = TypeVar("Model", bound=BaseModel)
Location: TypeAlias = tuple[str | int, ...]
"""The keys and positions that lead to a value: ("comparisons", "coco", "seeds", 0)."""


@dataclass(frozen=True)
class Document:
    """What stands in a file, and in which line each key and each entry of a list begins."""

    path: Path
    content: Mapping[str, Any]
    lines: Mapping[Location, int]

    def at(self, *location: str | int) -> str:
        """The place of a value, or of the nearest that stands around it, in words: "my.yaml, line 7"."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.path}, line {self.lines[location[:length]]}"
        return str(self.path)


def read_document(path: Path, example: str) -> Document:
    """Read a file that holds a mapping such as the `example`.

    Raises InputError, with file and line, for what cannot be read, is no YAML or no mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    lines: dict[Location, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if isinstance(node, yaml.MappingNode):
            _note_lines(path, node, (), lines)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: cannot be read as YAML: {problem}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping such as `{example}`")
    return Document(path, content, lines)


def _note_lines(path: Path, node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    """Note where each key and entry below a node begins. Raises InputError for a key that is there twice."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in seen and name != "<<":
                raise InputError(f'{path}, line {line}: key "{name}": stands in line {seen[name]} already')
            seen[name] = line
            lines[*location, name] = line
            _note_lines(path, value, (*location, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            lines[*location, position] = entry.start_mark.line + 1
            _note_lines(path, entry, (*location, position), lines)


def validated(kind: type[Model], document: Document) -> Model:
    """Build `kind` from what a file holds. Raises InputError that names every mistake, each with file and line."""
    try:
        return kind.model_validate(document.content)
    except ValidationError as error:
        explained = dict.fromkeys(explain(kind, detail, document.at(*detail["loc"])) for detail in error.errors())
        raise InputError("\n".join(explained)) from error
