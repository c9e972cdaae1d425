"""Read a file of COCO's object annotations, as far as its three lists, and say where it is broken."""

import hashlib
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tasks.datasets.json_lists import Form, parse_json, read_bytes, require_object, take_list

SECTIONS = ("images", "annotations", "categories")

_FORM = Form(
    "annotations in COCO's format",
    "Expected COCO's instances_*.json: an object with the lists images, annotations and categories.",
)

_WHOLE_NUMBERS = ("id", "image_id", "category_id", "height", "width")


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
    data = read_bytes(path)
    content = require_object(path, parse_json(path, data, _FORM), _FORM)
    lists = [take_list(path, content, name, _FORM) for name in SECTIONS]
    for entry in chain.from_iterable(lists):
        _unify(entry)
    return CocoJson(path, hashlib.sha256(data).hexdigest(), *lists)


def _unify(entry: dict[str, Any]) -> None:
    """Write in one way what programs write in several and which leaves no doubt: 1.0 for 1, null for no crowd."""
    for key in _WHOLE_NUMBERS:
        value = entry.get(key)
        if type(value) is float and value.is_integer():
            entry[key] = int(value)
    if "iscrowd" in entry and entry["iscrowd"] is None:
        entry["iscrowd"] = 0
