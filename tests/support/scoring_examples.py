"""Small COCO sets with detections, drawn at random, and pycocotools' opinion of them."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 120, 160
STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_TYPES = {"box": "bbox", "mask": "segm"}


def draw_truth(seed: int, images: int = 30, categories: int = 4, largest: float = 140.0) -> dict[str, Any]:
    """Objects of all sizes as polygons and RLE, crowds among them, and images without any."""
    generator = np.random.default_rng([seed, 0])
    annotations: list[dict[str, Any]] = []
    image_ids = [7 * index + 5 for index in range(images)]
    for index, image_id in enumerate(image_ids):
        for _ in range(generator.integers(1, 7) if index % 5 else 0):
            box = _draw_box(generator, largest)
            crowd = int(generator.random() < 0.12)
            encoded = ellipse(box)
            segmentation: Any = encoded if generator.random() < 0.5 else [_outline(box)]
            if crowd:
                segmentation = {"size": encoded["size"], "counts": _run_lengths(encoded)}  # as COCO has them
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 3 * int(generator.integers(categories)) + 2,
                    "bbox": box,
                    "area": box[2] * box[3] if isinstance(segmentation, list) else float(masks.area(encoded)),
                    "iscrowd": crowd,
                    "segmentation": segmentation,
                }
            )
    return {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH, "file_name": f"{i}.jpg"} for i in image_ids],
        "annotations": annotations,
        "categories": [{"id": 3 * c + 2, "name": f"thing {c}"} for c in range(categories)],
    }


def draw_detections(
    truth: dict[str, Any], seed: int, per_image: int = 12, jitter: float = 0.08, ties: bool = True
) -> list[dict[str, Any]]:
    """Detections in all images, most of them near an object; scores are rounded to tenths where `ties`."""
    generator = np.random.default_rng([seed, 1])
    category_ids = [category["id"] for category in truth["categories"]]
    detections = []
    for image in truth["images"]:
        objects = [one for one in truth["annotations"] if one["image_id"] == image["id"]]
        for _ in range(per_image):
            box, category_id = _draw_box(generator, 140.0), int(generator.choice(category_ids))
            if objects and generator.random() < 0.7:
                near = objects[generator.integers(len(objects))]
                moved = np.array(near["bbox"]) + generator.normal(0, jitter, 4) * near["bbox"][2]
                box = np.maximum(moved, [0, 0, 2, 2]).tolist()
                category_id = near["category_id"] if generator.random() < 0.9 else category_id
            score = float(generator.random())
            detections.append(
                {
                    "image_id": image["id"],
                    "category_id": category_id,
                    "bbox": box,
                    "score": round(score, 1) if ties else score,
                    "segmentation": ellipse(box),
                }
            )
    return detections


def perfect_detections(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object found exactly, crowds left alone."""
    return [
        {key: one[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.5}
        for one in truth["annotations"]
        if not one["iscrowd"]
    ]


def ellipse(box: list[float]) -> dict[str, Any]:
    """The ellipse within a box as compressed RLE, never empty."""
    x, y, width, height = box
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((columns - x) / width * 2 - 1) ** 2 + ((rows - y) / height * 2 - 1) ** 2 <= 1
    inside[min(int(y), HEIGHT - 1), min(int(x), WIDTH - 1)] |= not inside.any()
    encoded = masks.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def write_truth(path: Path, truth: dict[str, Any]) -> Path:
    path.write_text(json.dumps(truth))
    return path


def image_ids(truth: dict[str, Any]) -> list[int]:
    return [image["id"] for image in truth["images"]]


def pycocotools_evaluation(
    truth: dict[str, Any], detections: list[dict[str, Any]], kind: str, images: list[int] | None = None
) -> COCOeval:
    """Evaluated, accumulated and summarised; masks without boxes, whose area would count as the masks'."""
    detections = copy.deepcopy(detections)
    if kind == "mask":
        for detection in detections:
            del detection["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth)
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(detections), IOU_TYPES[kind])
        evaluation.params.imgIds = images or image_ids(truth)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def repeated(
    truth: dict[str, Any], detections: list[dict[str, Any]], weights: list[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The set in which each image is there as often as its weight says, copies side by side, with its detections."""
    result: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    found = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for _ in range(weight):
            new = {"image_id": len(result["images"]) + 1}
            result["images"].append(image | {"id": new["image_id"]})
            for one in truth["annotations"]:
                if one["image_id"] == image["id"]:
                    result["annotations"].append(one | new | {"id": len(result["annotations"]) + 1})
            found += [one | new for one in detections if one["image_id"] == image["id"]]
    return result, found


def _draw_box(generator: np.random.Generator, largest: float) -> list[float]:
    side = np.exp(generator.uniform(np.log(6), np.log(largest)))
    width, height = np.minimum(side * generator.uniform(0.6, 1.6, 2), [WIDTH - 2, HEIGHT - 2]).tolist()
    return [float(generator.uniform(0, WIDTH - width)), float(generator.uniform(0, HEIGHT - height)), width, height]


def _run_lengths(encoded: dict[str, Any]) -> list[int]:
    """Uncompressed RLE: how long pixels stay the same down the columns, beginning with the background."""
    flat = np.concatenate([[0], masks.decode(encoded).ravel(order="F")])
    changes = np.flatnonzero(np.diff(flat))
    return [int(length) for length in np.diff(changes, prepend=0, append=HEIGHT * WIDTH)]


def _outline(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]
