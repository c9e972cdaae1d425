"""Read a file of COCO's object annotations, as far as its three lists, and say where it is broken."""

import codecs
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import DataError
from backbones.images.observing import looking_at

SECTIONS = ("images", "annotations", "categories")

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What opens the text files of some programs on Windows."""

_WHOLE_NUMBERS = ("id", "image_id", "category_id", "height", "width")

_INCOMPLETE_END = re.compile(r"[-+.\\\w]{0,8}")
"""What a cut can leave unread: nothing, or the rest of a number, a literal or an escaped character."""


@dataclass(frozen=True, eq=False)
class CocoJson:
    """The content of one annotation file: lists of dicts, whose own content nobody has looked at yet.

    Attributes:
        path: the file.
        sha256: of its bytes.
        images, annotations, categories: its lists, in the file's order; 1.0 for an id is 1, `"iscrowd": null` is 0.
    """

    path: Path
    sha256: str
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


def read_coco_json(path: Path) -> CocoJson:
    """Parse the file at `path`.

    Raises DataError if it is missing, empty, cut short or no JSON, saying where, or if it lacks one of COCO's lists.
    """
    looking_at(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}.") from None
    sha256 = hashlib.sha256(data).hexdigest()
    content = _parse(path, data)
    if not isinstance(content, dict):
        kind = "a list, as of detections" if isinstance(content, list) else f"the JSON value {str(content)[:40]!r}"
        raise DataError(f"{path}: {kind}, not annotations in COCO's format. {_expectation()}")
    return CocoJson(path, sha256, *(_take_section(path, content, name) for name in SECTIONS))


def _parse(path: Path, data: bytes) -> Any:
    if not data.strip():
        raise DataError(f"{path}: the file is empty. Download or copy it again.")
    try:
        text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not JSON: byte {error.start + 1:,} is no {error.encoding.upper()} text. Expected the annotations "
            "as plain JSON, not packed (.zip, .gz) or pickled."
        ) from None
    try:
        return json.loads(text)
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
        raise DataError(f"{path}: not annotations in COCO's format: {error}. {_expectation()}") from None


def _take_section(path: Path, content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    if name not in content:
        found = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise DataError(f"{path}: no key {name!r}; found {found}. {_expectation()}")
    entries = content[name]
    if not isinstance(entries, list):
        raise DataError(f"{path}: key {name!r} holds {_describe(entries)}, not a list. {_expectation()}")
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            raise DataError(f"{path}: {name}[{index}] is {_describe(entry)}, not an object. {_expectation()}")
        _unify(entry)
    return entries


def _unify(entry: dict[str, Any]) -> None:
    """Write in one way what programs write in several and which leaves no doubt: 1.0 for 1, null for no crowd."""
    for key in _WHOLE_NUMBERS:
        value = entry.get(key)
        if type(value) is float and value.is_integer():
            entry[key] = int(value)
    if "iscrowd" in entry and entry["iscrowd"] is None:
        entry["iscrowd"] = 0


def _describe(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _expectation() -> str:
    return "Expected COCO's instances_*.json: an object with the lists images, annotations and categories."
