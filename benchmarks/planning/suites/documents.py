"""YAML files whose mistakes are named with file, line and key."""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from backbones.errors import InputError
from backbones.training.mistakes import explain, without_echoes

Model = TypeVar("Model", bound=BaseModel)
Location: TypeAlias = tuple[str | int, ...]
"""The keys and positions that lead to a value: ("comparisons", "coco", "seeds", 0)."""


def as_list(given: Any) -> Any:
    """Takes what stands alone for a list of one."""
    return given if isinstance(given, list | tuple) else [given]


Texts = Annotated[tuple[str, ...], BeforeValidator(as_list), Field(strict=False)]


class _Loader(yaml.SafeLoader):
    """Takes 5e-4 for a number, as recipes do, and 12:00:00 and 2026-01-01 for text: YAML 1.1 has it the other way."""


_OTHERWISE = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.inf)$|\.nan$"),
    list("-+.0123456789"),
)


_NO_NAMES = {
    f"tag:yaml.org,2002:{kind}": words
    for kind, words in {"int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}.items()
}
"""Tags of keys that are to be names."""


@dataclass(frozen=True)
class Document:
    """What stands in a file, and in which line each key and each entry of a list begins."""

    path: Path
    content: Mapping[str, Any]
    lines: Mapping[Location, int]

    def at(self, *location: str | int) -> str:
        """The place of a value, or of the nearest that stands around it, in words: "my.yaml, line 7"."""
        there = self._there(location)
        return f"{self.path}, line {self.lines[there]}" if there else f"{self.path}, line 1"

    def key(self, *location: str | int) -> str:
        """The same with the key: 'my.yaml, line 7, key "comparisons.coco.seeds"'."""
        there = self._there(location)
        return f'{self.at(*there)}, key "{_spelled(there)}"' if there else self.at()

    def _there(self, location: Location) -> Location:
        """What of a location stands in the file; what is left out of it, because it need not be written, is passed."""
        there: Location = ()
        for part in location:
            if (*there, part) in self.lines:
                there = (*there, part)
        return there


def _spelled(location: Location) -> str:
    return ".".join(map(str, location))


def read_document(path: Path, example: str) -> Document:
    """Read a file that holds a mapping such as the `example`.

    Raises InputError, with file and line, for what cannot be read, is no YAML or no mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: no UTF-8") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        told = f"the character #x{error.character:04x} is not allowed"
        raise InputError(f"{path}, line {line}: cannot be read as YAML: {told}") from None
    lines: dict[Location, int] = {}
    try:
        node = loader.get_single_node()
        if node is not None:
            _note_lines(path, node, (), lines)
        content = node and loader.construct_document(node)
    except yaml.YAMLError as error:
        raise InputError(_unmerged(path, text) or _unreadable(path, error)) from None
    except InputError:
        raise
    except RecursionError:
        raise InputError(
            f"{path}: cannot be read as YAML: something in it holds itself, or is nested too deep"
        ) from None
    except (ValueError, AttributeError) as error:  # of a value that is not what its tag says, such as `!!timestamp x`
        raise InputError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        found = "an empty file" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path}, line 1: expected a mapping such as `{example}`, found {found}")
    return Document(path, content, lines)


def _unmerged(path: Path, text: str) -> str:
    """That git left the file with both sides of a conflict; empty where it did not."""
    line = next((number for number, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< ")), 0)
    told = "a conflict that git could not merge. Keep what should stand there, and remove its lines of <, = and >"
    return f"{path}, line {line}: {told}" if line else ""


def _unreadable(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    if "'\\t'" in problem:
        problem += ". Indent with spaces"
    if "'@'" in problem:
        problem += '. Put it in quotes: "@NAME"'
    return f"{path}{f', line {mark.line + 1}' if mark else ''}: cannot be read as YAML: {problem}"


def _note_lines(path: Path, node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    """Note where each key and entry below a node begins. Raises InputError for a key that is there twice."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if isinstance(key, yaml.ScalarNode) and key.tag in _NO_NAMES:
                where = f'{path}, line {line}, key "{_spelled((*location, name))}"'
                raise InputError(f'{where}: YAML takes it for {_NO_NAMES[key.tag]}. Put it in quotes: "{name}"')
            if name in seen and name != "<<":
                where = f'{path}, line {line}, key "{_spelled((*location, name))}"'
                raise InputError(f"{where}: stands in line {seen[name]} already")
            seen[name] = line
            lines[*location, name] = line
            _note_lines(path, value, (*location, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            lines[*location, position] = entry.start_mark.line + 1
            _note_lines(path, entry, (*location, position), lines)


def validated(kind: type[Model], document: Document, elsewhere: Mapping[str, str] | None = None) -> Model:
    """Build `kind` from what a file holds. Raises InputError that names every mistake, each with file, line and key.

    elsewhere: keys that people look for at its top, and what to do instead
    """
    try:
        return kind.model_validate(document.content)
    except ValidationError as error:
        explained = dict.fromkeys(
            _explain(kind, detail, document, elsewhere or {}) for detail in without_echoes(error.errors())
        )
        raise InputError("\n".join(explained)) from None


def _explain(kind: type[Model], detail: Any, document: Document, elsewhere: Mapping[str, str]) -> str:
    location: Location = detail["loc"]
    if detail["type"] == "extra_forbidden" and len(location) == 1 and location[0] in elsewhere:
        return f"{document.key(*location)}: {elsewhere[str(location[0])]}"
    there = document._there(location)
    missing = (location[-1],) if detail["type"] == "missing" else ()
    if detail["input"] is None:
        return f"{document.key(*location)}: nothing stands there. Remove the key, or give it entries"
    return explain(kind, detail, document.at(*location), _spelled((*there, *missing)))


def nearest(name: str, known: Collection[str]) -> str:
    """What else there is, in words: the nearest name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(known) or 'none'}"
