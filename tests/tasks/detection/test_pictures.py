"""The picture of detections beside the truth shows what it should, where it should."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as mask_codec
from torch import Tensor

from backbones.images.panels import HEADER, MARGIN
from tasks.detection.metric import DetectionMetric
from tasks.detection.pictures import decode_mask, draw_evaluation, save_detections
from tasks.pictures import SHOWN_SIDE
from tests.support import coco_examples
from tests.support.image_examples import assert_kept_where_saving_fails, save_tagged

CATEGORIES = {3: "cat", 8: "dog"}
HEIGHT, WIDTH = 32, 64
SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def grey_image(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def truth(**other: Any) -> dict[str, Any]:
    return {"id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "iscrowd": 0, "segmentation": SQUARE} | other


def detection(score: float, **other: Any) -> dict[str, Any]:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    pixels[10:30, 10:30] = 1
    encoded = mask_codec.encode(pixels)
    segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    return {
        "image_id": 1,
        "category_id": 3,
        "bbox": [10.0, 10.0, 20.0, 20.0],
        "score": score,
        "segmentation": segmentation,
    } | other


def panels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right panel of a picture with one row of images as wide as `SHOWN_SIDE`."""
    pixels = np.asarray(Image.open(path)).astype(int)[HEADER:-MARGIN]
    return pixels[:, MARGIN : MARGIN + SHOWN_SIDE], pixels[:, 2 * MARGIN + SHOWN_SIDE : -MARGIN]


def is_untouched(panel: np.ndarray) -> bool:
    return bool((panel == 128).all())


def at(panel: np.ndarray, x: float, y: float) -> np.ndarray:
    """The pixel that shows place (x, y) of the image."""
    return panel[int(y * SHOWN_SIDE / WIDTH), int(x * SHOWN_SIDE / WIDTH)]


def test_masks_are_where_they_belong_in_one_colour_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.png"
    save_detections(path, [(grey_image(), [truth()], [detection(0.9)])], CATEGORIES)
    left, right = panels(path)
    assert left.shape == right.shape == (SHOWN_SIDE // 2, SHOWN_SIDE, 3)
    assert np.array_equal(at(left, 25, 25), at(right, 25, 25))
    assert np.ptp(at(left, 25, 25)) > 30
    for panel in (left, right):
        changed = (panel != 128).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        scale = SHOWN_SIDE / WIDTH
        assert np.allclose([columns[0], rows[0], columns[-1], rows[-1]], np.array([10, 10, 30, 30]) * scale, atol=4)
    assert [path.name for path in path.parent.iterdir()] == ["x.png"]


def test_detections_below_the_threshold_are_shown_where_there_are_no_others(tmp_path: Path) -> None:
    """The best three of them: a picture of nothing does not tell whether nothing was found."""
    found = [detection(score, bbox=[20 * place, 5, 15, 8]) for place, score in enumerate((0.49, 0.03, 0.2))]
    shown = {}
    for name, detections, threshold in (
        ("one", found[:1], 0.4),
        ("one of all", found, 0.4),
        ("three", found, 0.5),
        ("three of four", [detection(0.02, bbox=[5, 20, 50, 9]), *found], 0.5),
        ("none", [], 0.5),
    ):
        path = tmp_path / f"{name}.png"
        save_detections(path, [(grey_image(), [], detections)], CATEGORIES, threshold)
        left, shown[name] = panels(path)
        assert is_untouched(left)
    assert [name for name, panel in shown.items() if is_untouched(panel)] == ["none"]
    assert np.array_equal(shown["one"], shown["one of all"])
    assert np.array_equal(shown["three"], shown["three of four"])
    assert not np.array_equal(shown["one"], shown["three"])


def test_the_metric_stands_above(tmp_path: Path) -> None:
    coco = coco_examples.read(tmp_path, coco_examples.content(), "val")
    metric = DetectionMetric(coco, allow_unreadable=True)
    metric.evaluated = [image.id for image in coco.images]
    Image.new("RGB", (coco_examples.WIDTH, coco_examples.HEIGHT)).save(coco.images[0].path, format="PNG")
    pictures = []
    for precision in (1.0, 2.0):  # the other two images cannot be read
        draw_evaluation(coco, metric, tmp_path / "pictures", 7, {"AP_box": precision, "other": 3.0})
        pictures.append(np.asarray(Image.open(tmp_path / "pictures/detections_7.png")))
    rows, _ = np.nonzero((pictures[0] != pictures[1]).any(axis=-1))
    assert rows.max() < HEADER
    assert pictures[0].shape[0] == 2 * HEADER + SHOWN_SIDE * coco_examples.HEIGHT // coco_examples.WIDTH + MARGIN


def test_categories_differ_in_colour_and_label(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_detections(path, [(grey_image(), [truth()], [detection(0.9, category_id=8)])], CATEGORIES)
    left, right = panels(path)
    assert not np.array_equal(at(left, 25, 25), at(right, 25, 25))


def test_boxes_without_masks_and_beyond_the_image_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    objects = [truth(segmentation=None, bbox=[-5, -5, 40, 30])]
    save_detections(path, [(grey_image(), objects, [])], CATEGORIES)
    left, _ = panels(path)
    assert (at(left, 20, 20) == 128).all()
    assert (at(left, 35, 15) != 128).any()


def test_labels_are_in_the_image_in_full_and_of_one_size(tmp_path: Path) -> None:
    """At the right border they were cut off, and those of small objects at the lower one were too small to read."""
    frames = {}
    for name, box in {
        "middle": [20, 10, 25, 12],
        "right": [58, 10, 6, 12],
        "lower right": [60, 30, 4, 2],
        "lower left": [0, 29, 5, 3],
        "beyond": [-30, -20, 200, 200],
    }.items():
        path = tmp_path / f"{name}.png"
        save_detections(path, [(grey_image(), [truth(segmentation=None, bbox=box)], [])], CATEGORIES)
        rows, columns = np.nonzero((panels(path)[0] < 40).all(axis=-1))
        frames[name] = [np.ptp(rows), np.ptp(columns)]
    assert np.ptp([*frames.values()], axis=0).max() <= 2, frames
    assert min(frames["middle"]) >= 10


def test_images_of_all_sizes_fit_into_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    rows = [(grey_image(height, width), [], []) for height, width in ((600, 900), (1, 700), (90, 60))]
    save_detections(path, rows, CATEGORIES)
    with Image.open(path) as picture:
        assert picture.size == (2 * SHOWN_SIDE + 3 * MARGIN, HEADER + 341 + 1 + SHOWN_SIDE + 3 * MARGIN)


def test_the_former_picture_stays_if_a_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    save_detections(path, [(grey_image(), [], [])], CATEGORIES)
    assert_kept_where_saving_fails(path, lambda: save_detections(path, [(grey_image(), [truth()], [])], CATEGORIES))


def test_tagged_images_are_shown_upright(tmp_path: Path) -> None:
    coco = coco_examples.read(tmp_path, coco_examples.content(), "val")
    metric = DetectionMetric(coco, allow_unreadable=False)
    metric.evaluated = [image.id for image in coco.images]
    size = (coco_examples.HEIGHT, coco_examples.WIDTH, 3)
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    pictures = []
    for tags in ((1, 1, 1), (6, 3, 5)):
        for image, tag in zip(coco.images, tags, strict=True):
            save_tagged(scene, image.path, tag, format="PNG")
        draw_evaluation(coco, metric, tmp_path / "pictures", 7, {})
        pictures.append(np.asarray(Image.open(tmp_path / "pictures/detections_7.png")))
    assert np.array_equal(*pictures)


def test_every_form_of_mask_gives_the_same_pixels() -> None:
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    expected[10:30, 10:30] = 1
    compressed = detection(1)["segmentation"]
    runs = [10 * HEIGHT + 10, *([20, 12] * 19), 20, 34 * HEIGHT + 2]
    assert np.array_equal(decode_mask(SQUARE, HEIGHT, WIDTH), expected)
    assert np.array_equal(decode_mask(compressed, HEIGHT, WIDTH), expected)
    assert np.array_equal(decode_mask({"size": [HEIGHT, WIDTH], "counts": runs}, HEIGHT, WIDTH), expected)
    assert np.array_equal(decode_mask([[1, 2, 3, 4], [5, 6], *SQUARE], HEIGHT, WIDTH), expected)
    for nothing in (None, [], [[]], [[1, 2, 3, 4]]):
        assert not decode_mask(nothing, HEIGHT, WIDTH).any()
