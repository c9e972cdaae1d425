"""An annotation file in the hands of hotcoco, which computes the scores."""

from pathlib import Path
from typing import Any

import hotcoco

from tasks.datasets.coco.annotation_json import SECTIONS, read_coco_json

_SCORED = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"),
    "categories": ("id", "name"),
}
"""What scores are computed from; all else only describes."""


def open_with_hotcoco(path: Path) -> Any:
    """The annotations at `path` as a `hotcoco.COCO`.

    COCO's own files are read by hotcoco itself, which takes a tenth of the time. It wants licenses, dates, addresses
    and supercategories as COCO has them, and knows no byte-order mark; of a file that it refuses, it gets what is
    scored.
    Raises ValueError for what is not to be scored, DataError where `read_coco_json` does.
    """
    try:
        return hotcoco.COCO(str(path))
    except ValueError:
        file = read_coco_json(path)
        sections = {name: [_keep(entry, name) for entry in getattr(file, name)] for name in SECTIONS}
        return hotcoco.COCO(sections)


def _keep(entry: dict[str, Any], section: str) -> dict[str, Any]:
    return {key: entry[key] for key in _SCORED[section] if key in entry}
