"""Read a JSON file of lists, as COCO's annotations are one, and say where it is broken."""

import codecs
import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from backbones.errors import DataError
from backbones.images.observing import looking_at

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What opens the text files of some programs on Windows."""

_INCOMPLETE_END = re.compile(r"[-+.\\\w]{0,8}")
"""What a cut can leave unread: nothing, or the rest of a number, a literal or an escaped character."""


@dataclass(frozen=True)
class Form:
    """What a file is expected to be.

    kind:     in a few words: "annotations in COCO's format"
    expected: a sentence that says what it must hold
    """

    kind: str
    expected: str


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises DataError if it cannot be read."""
    looking_at(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}.") from None


def parse_json(path: Path, data: bytes, form: Form, keys: Collection[str] | None = None) -> Any:
    """What the file's bytes say, of all objects in it only the `keys` where they are given, which takes less memory.

    Raises DataError if it is empty, cut short or no JSON, saying where.
    """
    if not data.strip():
        raise DataError(f"{path}: the file is empty. Download or copy it again.")
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not JSON: byte {error.start + 1:,} is no {error.encoding.upper()} text. Expected the annotations "
            "as plain JSON, not packed (.zip, .gz) or pickled."
        ) from None
    hook = None if keys is None else lambda entry: {key: value for key, value in entry.items() if key in keys}
    try:
        return json.loads(text, object_hook=hook)
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno:,}, byte {len(text[: error.pos].encode()) + 1:,}"
        fault = f"{error.msg.removesuffix(' at')} {where}"
        if error.msg.startswith("Unterminated string") or (
            not error.msg.startswith("Extra data") and _INCOMPLETE_END.fullmatch(text[error.pos :].rstrip())
        ):
            raise DataError(
                f"{path}: cut short: the JSON is still open at the file's end, after {len(data):,} bytes ({fault}). "
                "Download or copy it again."
            ) from None
        raise DataError(f"{path}: not valid JSON: {fault}. Correct it, or write it anew.") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in thousands of brackets
        raise DataError(f"{path}: not {form.kind}: {error}. {form.expected}") from None


def require_object(path: Path, content: Any, form: Form) -> dict[str, Any]:
    """The content of a file, if it is an object. Raises DataError for anything else."""
    if not isinstance(content, dict):
        kind = "a list, as of detections" if isinstance(content, list) else f"the JSON value {str(content)[:40]!r}"
        raise DataError(f"{path}: {kind}, not {form.kind}. {form.expected}")
    return content


def take_list(path: Path, content: dict[str, Any], name: str, form: Form) -> list[dict[str, Any]]:
    """The objects of one of the file's lists. Raises DataError if there is no such list, or other things in it."""
    if name not in content:
        found = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise DataError(f"{path}: no key {name!r}; found {found}. {form.expected}")
    entries = content[name]
    if not isinstance(entries, list):
        raise DataError(f"{path}: key {name!r} holds {describe(entries)}, not a list. {form.expected}")
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            raise DataError(f"{path}: {name}[{index}] is {describe(entry)}, not an object. {form.expected}")
    return entries


def describe(value: Any) -> str:
    """What kind of JSON value this is."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def is_count(value: Any) -> TypeGuard[int]:
    """Whether `value` can be an id."""
    return type(value) is int and 0 <= value < 2**63


def is_text(value: Any) -> TypeGuard[str]:
    """Whether `value` can be a name: JSON can write halves of characters, which no file's name has."""
    return type(value) is str and value.strip() != "" and (value.isascii() or _is_encodable(value))


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def is_path_below(value: Any) -> TypeGuard[str]:
    """Whether `value` can be an image's name: a path that stays in the folder which it is relative to."""
    if not is_text(value) or "\0" in value:
        return False
    parts = value.replace("\\", "/").split("/")
    return parts[0] != "" and ":" not in parts[0] and ".." not in parts
