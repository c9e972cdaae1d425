"""Average precision of boxes and masks by COCO's protocol, and what a bootstrap over the images needs.

hotcoco does the work; its numbers are pycocotools' to the last digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np

from backbones.errors import DataError
from results.garbage_collection import garbage_collection_paused
from tasks.datasets.coco.ground_truth import open_with_hotcoco
from tasks.detection.matches import IOU_THRESHOLDS, CategoryMatches, Matches

KINDS = {"box": "bbox", "mask": "segm"}
"""What is scored, by our name and by COCO's."""

ALL_SIZES = [0.0, 1e10]
MOST_DETECTIONS = 100


@dataclass(frozen=True)
class Scores:
    """What COCO says of a detector, in percent.

    metrics:       the twelve statistics of boxes and of masks: AP_box, AP50_box, AP75_box, AP by the object's size
                   (APs_box, APm_box, APl_box), recall with 1, 10 and 100 detections an image (AR1_box, …) and by size
                   (ARs_box, …), and the same ending in _mask; statistics that no object defines are missing
    per_category:  "AP_box/person", "AP_mask/person" and so on, for every category that has an object
    matches:       by "AP_box" and "AP_mask", what these two numbers were computed from
    notes:         which statistics are missing, and why
    """

    metrics: dict[str, float]
    per_category: dict[str, float]
    matches: dict[str, Matches]
    notes: list[str]


def score(annotation_file: Path, detections: Sequence[Mapping[str, Any]], image_ids: Sequence[int]) -> Scores:
    """Score detections on some of the images of a COCO-format file.

    `detections` are in COCO's results format, each with image_id, category_id, bbox (x, y, width, height), score and
    segmentation (compressed RLE). Images without detections count as they should; there may be none at all. As in
    detectron2's evaluator, a mask's size is its own area, not its box's.
    Raises DataError if no object is to be found in these images, ValueError for a detection in an image that is not
    among them or of a category that the file doesn't have.
    """
    truth = open_with_hotcoco(annotation_file)
    _require_known(detections, set(image_ids), set(truth.get_cat_ids()))
    names = {category["id"]: category["name"] for category in truth.load_cats(truth.get_cat_ids())}
    scores = Scores({}, {}, {}, [])
    for kind, iou_type in KINDS.items():
        found = truth.load_res([_of_kind(detection, kind) for detection in detections])
        evaluation = _evaluate(truth, found, iou_type, image_ids)
        if evaluation.get_results()["AP"] < 0:
            raise DataError(
                f"{annotation_file}: the {len(image_ids):,} evaluated images have no object to find (crowds do not "
                "count). Detection needs annotated evaluation images"
            )
        _add_statistics(scores, evaluation, kind)
        for category_id, precision in _average_precisions(evaluation).items():
            scores.per_category[f"AP_{kind}/{names[category_id]}"] = precision
        with garbage_collection_paused():
            scores.matches[f"AP_{kind}"] = _matches(truth, found, iou_type, image_ids)
    return scores


def _require_known(detections: Sequence[Mapping[str, Any]], image_ids: set[int], category_ids: set[int]) -> None:
    for key, known in (("image_id", image_ids), ("category_id", category_ids)):
        if unknown := {detection[key] for detection in detections} - known:
            raise ValueError(f"{len(unknown)} values of {key} in the detections are unknown, such as {min(unknown)}")


def _of_kind(detection: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Without the other kind's field: where there is a box, its area would count as the mask's."""
    other = "segmentation" if kind == "box" else "bbox"
    return {key: value for key, value in detection.items() if key != other}


def _evaluate(truth: Any, found: Any, iou_type: str, image_ids: Sequence[int]) -> Any:
    evaluation = hotcoco.COCOeval(truth, found, iou_type)
    evaluation.params.img_ids = sorted(set(image_ids))
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summary_lines()  # computes the statistics as `summarize` does, and does not print
    if not evaluation.is_benchmark_standard():
        raise RuntimeError(f"hotcoco departs from COCO's protocol: {evaluation.reference_deviations()}")
    return evaluation


def _add_statistics(scores: Scores, evaluation: Any, kind: str) -> None:
    statistics = evaluation.get_results()
    for definition in evaluation.metric_defs():
        name, value = definition["name"], statistics[definition["name"]]
        if value < 0:
            scores.notes.append(f"{name}_{kind} is undefined: the evaluated images have no {definition['area']} object")
        else:
            scores.metrics[f"{name}_{kind}"] = 100 * value


def _average_precisions(evaluation: Any) -> dict[int, float]:
    """AP of each category that has an object, in percent, by the category's id."""
    precision_TRK = evaluation.eval["precision"][:, :, :, 0, -1]
    defined = (precision_TRK >= 0).all(axis=(0, 1))
    category_ids = evaluation.params.cat_ids
    return {category_ids[k]: 100 * float(precision_TRK[:, :, k].mean()) for k in np.flatnonzero(defined)}


def _matches(truth: Any, found: Any, iou_type: str, image_ids: Sequence[int]) -> Matches:
    """One category at a time, because hotcoco gives matches as Python's lists, which take much memory."""
    ids = np.unique(np.asarray(image_ids, dtype=np.int64))
    evaluation = hotcoco.COCOeval(truth, found, iou_type)
    evaluation.params.img_ids = ids.tolist()
    evaluation.params.area_rng, evaluation.params.area_rng_lbl = [ALL_SIZES], ["all"]
    evaluation.params.max_dets = [MOST_DETECTIONS]
    categories = []
    for category_id in sorted(truth.get_cat_ids()):
        evaluation.params.cat_ids = [category_id]
        evaluation.evaluate()
        category = _category_matches(category_id, evaluation.eval_imgs, ids)
        if category.objects.any():
            categories.append(category)
    return Matches(ids, tuple(categories))


def _category_matches(category_id: int, images: Sequence[dict[str, Any] | None], ids: np.ndarray) -> CategoryMatches:
    results = sorted((image for image in images if image), key=lambda image: image["image_id"])
    positions = np.searchsorted(ids, np.array([image["image_id"] for image in results], dtype=np.int64))
    objects_N = np.zeros(len(ids), dtype=np.int32)
    objects_N[positions] = [len(image["gtIgnore"]) - sum(image["gtIgnore"]) for image in results]
    matched_TD, ignored_TD = (_flags(results, field) for field in ("dtMatched", "dtIgnore"))
    counts = np.array([len(image["dtScores"]) for image in results], dtype=np.int64)
    images_D = np.repeat(positions, counts).astype(np.int32)
    scores_D = np.array([score for image in results for score in image["dtScores"]], dtype=np.float64)
    order_D = np.argsort(-scores_D, kind="stable")
    true_positive_TD = (matched_TD & ~ignored_TD)[:, order_D]
    return CategoryMatches(category_id, objects_N, images_D[order_D], true_positive_TD, ignored_TD[:, order_D])


def _flags(results: Sequence[dict[str, Any]], field: str) -> np.ndarray:
    """One field of all images' results, side by side (T, D)."""
    parts = [np.array(image[field], dtype=np.bool_) for image in results]
    return np.concatenate([np.zeros((len(IOU_THRESHOLDS), 0), np.bool_), *parts], axis=1)
