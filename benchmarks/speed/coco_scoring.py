"""How fast is a detector scored with hotcoco, beside pycocotools?

    python benchmarks/speed/coco_scoring.py [--repeats 5] [--images 1500] [--detections 21] [--json FILE]

Both evaluate, accumulate and summarise the same detections on a set made for the occasion: 80 categories, the most
frequent one as frequent as COCO's persons, about 7 objects an image, one in a hundred a crowd, polygons for masks and
RLE for detected ones. They take turns in one process, and the twelve statistics have to be equal to the last digit.
Then, ours alone: `score`, which also reads the file and keeps which detection found which object, and an interval of AP
from those matches. pycocotools has nothing like it: a resample would be a new evaluation.
"""

import contextlib
import copy
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import hotcoco
import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import compare, write_figures
from benchmarks.speed.comparing.turns import Turns
from results import statistic_interval
from tasks.detection.scoring import score

_HEIGHT, _WIDTH = 480, 640
_CATEGORIES = 80
_OBJECTS = 7.3
_RESAMPLES = 1_000
_IOU_TYPES = ("bbox", "segm")


def draw_set(images: int, detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects, and as many detections in every image, half of them near an object."""
    generator = np.random.default_rng(0)
    frequency = 1 / np.arange(1, _CATEGORIES + 1)
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        count = int(generator.poisson(_OBJECTS))
        boxes = _draw_boxes(generator, count)
        categories = 1 + generator.choice(_CATEGORIES, count, p=frequency / frequency.sum())
        for box, category in zip(boxes, categories, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(category),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(generator.random() < 0.01),
                    "segmentation": [_octagon(box)],
                }
            )
        near = generator.permutation(count)[: detections // 2]
        moved = np.abs(boxes[near] * (1 + generator.normal(0, 0.05, (len(near), 4))))
        loose = detections - len(near)
        found += _detections(image, moved, categories[near], generator.beta(4, 2, len(near)))
        stray = 1 + generator.integers(_CATEGORIES, size=loose)
        found += _detections(image, _draw_boxes(generator, loose), stray, generator.beta(1, 4, loose))
    sizes = [{"id": image, "height": _HEIGHT, "width": _WIDTH} for image in range(1, images + 1)]
    names = [{"id": category, "name": f"thing {category}"} for category in range(1, _CATEGORIES + 1)]
    return {"images": sizes, "annotations": annotations, "categories": names}, found


def _draw_boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Boxes (count, 4) of 8 to 300 pixels' side, as often small as large, within the image."""
    sides = np.exp(generator.uniform(np.log(8), np.log(300), (count, 2)))
    corners = generator.random((count, 2)) * (np.array([_WIDTH, _HEIGHT]) - sides)
    return np.hstack([corners, sides])


def _octagon(box: np.ndarray) -> list[float]:
    angles = np.arange(8) * np.pi / 4 + np.pi / 8
    corners = box[:2] + box[2:] / 2 * (1 + np.stack([np.cos(angles), np.sin(angles)], axis=1))
    flat: list[float] = corners.ravel().tolist()
    return flat


def _detections(image: int, boxes: np.ndarray, categories: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    encoded = masks.frPyObjects([_octagon(box) for box in boxes], _HEIGHT, _WIDTH) if len(boxes) else []
    return [
        {
            "image_id": image,
            "category_id": int(category),
            "bbox": box.tolist(),
            "score": float(points),
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        }
        for box, category, points, rle in zip(boxes, categories, scores, encoded, strict=True)
    ]


def make_sides(truth: dict[str, Any], detections: list[dict[str, Any]], iou_type: str) -> dict[str, Callable[[], Any]]:
    """One evaluation each, from what both have loaded, returning the twelve statistics."""
    other = "segmentation" if iou_type == "bbox" else "bbox"
    found = [{key: value for key, value in detection.items() if key != other} for detection in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth)
        reference.createIndex()
        reference_found = reference.loadRes([dict(detection) for detection in found])
    ours = hotcoco.COCO(truth)
    ours_found = ours.load_res(found)

    def peer() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(reference, reference_found, iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats

    def hot() -> Any:
        evaluation = hotcoco.COCOeval(ours, ours_found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summary_lines()
        return evaluation.stats

    return {"pycocotools": peer, "hotcoco": hot}


def take_turns(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each turn of each side, after one to warm up, in which both have to agree."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        statistics = []
        for name, evaluate in sides.items():
            start = time.perf_counter()
            statistics.append(evaluate())
            if turn:
                seconds[name].append(time.perf_counter() - start)
        if not np.array_equal(*statistics):
            raise SystemExit(f"not equal: {statistics}")
    return seconds


def measure_ours(truth: dict[str, Any], detections: list[dict[str, Any]]) -> None:
    """Print how long `score` and the intervals take."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        path.write_text(json.dumps(truth))
        start = time.perf_counter()
        scores = score(path, detections, [image["id"] for image in truth["images"]])
    print(f"score, boxes and masks, with matches: {time.perf_counter() - start:.2f} s")
    for name, matches in scores.matches.items():
        start = time.perf_counter()
        low, high = statistic_interval(
            matches.average_precision, len(matches.image_ids), resamples=_RESAMPLES, bounds=(0, 100)
        )
        seconds = time.perf_counter() - start
        value = scores.metrics[name]
        print(f"{name} {value:.2f}, interval {low:.2f} to {high:.2f}, {_RESAMPLES:,} resamples: {seconds:.2f} s")


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--images", type=int, default=1_500, help="images in the set (default 1500; COCO has 5000)")
    parser.add_argument("--detections", type=int, default=21, help="detections in an image (default 21)")
    arguments = parse_arguments(parser)
    truth, detections = draw_set(arguments.images, arguments.detections)
    objects = len(truth["annotations"])
    print(
        f"{arguments.images:,} images, {objects:,} objects, {len(detections):,} detections, {arguments.repeats} turns"
    )
    comparisons = []
    for iou_type in _IOU_TYPES:
        seconds = take_turns(make_sides(truth, detections, iou_type), arguments.repeats)
        ratios = [peer / ours for peer, ours in zip(seconds["pycocotools"], seconds["hotcoco"], strict=True)]
        medians = {name: median(turns) for name, turns in seconds.items()}
        print(
            f"{iou_type}: pycocotools {medians['pycocotools']:.2f} s, hotcoco {medians['hotcoco']:.3f} s, "
            f"{medians['pycocotools'] / medians['hotcoco']:.0f} × (turns {min(ratios):.0f} to {max(ratios):.0f}), "
            "all twelve statistics equal to the last digit"
        )
        sought = "boxes" if iou_type == "bbox" else "masks"
        what = f"scoring {len(detections):,} detections in {arguments.images:,} images, {sought}, with hotcoco"
        comparisons.append(compare(what, Turns(seconds["hotcoco"]), "pycocotools", Turns(seconds["pycocotools"])))
    measure_ours(truth, detections)
    write_figures(arguments.json, comparisons)


if __name__ == "__main__":
    main()
