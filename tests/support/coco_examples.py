"""A small data set in COCO's format, sound as it stands, for the tests to change."""

import json
from pathlib import Path
from typing import Any

from tasks.datasets.coco.layout import CocoSet
from tasks.datasets.coco.rules import Split

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
HEIGHT, WIDTH = 60, 80


def annotation(identity: int, image_id: int, **other: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": 3,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "segmentation": SQUARE,
    } | other


def content() -> dict[str, Any]:
    """Three images, the last without annotations; categories with a gap in their ids, not in their order."""
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH, "coco_url": "…"},
            {"id": 2, "file_name": "deep/a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "c.png", "height": HEIGHT, "width": WIDTH},
        ],
        "annotations": [annotation(11, 7), annotation(5, 2, category_id=8), annotation(12, 7, bbox=[0, 0.5, 3, 4])],
        "categories": [{"id": 8, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"}],
    }


def write(root: Path, split: str, data: dict[str, Any]) -> Path:
    for name in ("b.jpg", "deep/a.jpg", "c.png"):
        image = root / f"{split}2017" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(f"{split} {name}".encode())
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def read(root: Path, data: dict[str, Any], split: Split = "train") -> CocoSet:
    path = write(root, split, data)
    return CocoSet.open(root / f"{split}2017", path, split)


def ids(data: CocoSet) -> list[int]:
    return [entry["id"] for image in data.images for entry in image.annotations]
