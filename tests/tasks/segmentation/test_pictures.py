"""The picture of image, truth and prediction shows what it should, where it should, and which images it should."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from backbones.images.panels import HEADER, MARGIN, arrange
from tasks.datasets.label_maps.images import AnnotatedImage
from tasks.datasets.label_maps.layout import SegmentationSet
from tasks.datasets.label_maps.maps import IGNORED
from tasks.pictures import SHOWN_SIDE, PictureHook, spread_numbers
from tasks.segmentation.metric import SegmentationMetric
from tasks.segmentation.pictures import (
    ENTRY_HEIGHT,
    ENTRY_WIDTH,
    IMAGES,
    SWATCH,
    draw_evaluation,
    numbers_shown,
    save_segmentations,
)
from tests.support.image_examples import assert_kept_where_saving_fails, save_tagged

WALL, BUILDING, SKY, FLOOR = (230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216)
"""The first four of the colours of few classes."""

ADE20K = [(120, 120, 120), (180, 120, 120), (6, 230, 230), (80, 50, 50)]
"""ADE20K's, as in the development kit's color150.mat."""

BLACK, WHITE, PINK = (0, 0, 0), (255, 255, 255), (200, 100, 150)
CLASSES = ["wall", "building", "sky", "floor"]
HEIGHT, WIDTH = 32, 64


def pink_image(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.tensor(PINK, dtype=torch.uint8)[:, None, None].expand(3, height, width)


def quarters(*numbers: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A label map of four quarters: upper left, upper right, lower left, lower right."""
    labels = np.empty((height, width), dtype=np.int64)
    for index, number in enumerate(numbers):
        down, across = divmod(index, 2)
        labels[down * height // 2 :, across * width // 2 :] = number
    return labels


def save_and_read(path: Path, rows: Sequence[Any], classes: Sequence[str] = CLASSES) -> np.ndarray:
    save_segmentations(path, rows, classes)
    return np.asarray(Image.open(path))


def panel(pixels: np.ndarray, column: int, height: int = SHOWN_SIDE // 2) -> np.ndarray:
    """A panel of the first row of a picture of images as wide as `SHOWN_SIDE`."""
    left = MARGIN + column * (SHOWN_SIDE + MARGIN)
    return pixels[HEADER : HEADER + height, left : left + SHOWN_SIDE]


def colours(pixels: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def legend(pixels: np.ndarray, entries: int, above: int = HEADER + SHOWN_SIDE // 2 + MARGIN) -> list[tuple[int, ...]]:
    """The colours of so many squares of the legend below the first `above` lines."""
    columns, found = (pixels.shape[1] - MARGIN) // ENTRY_WIDTH, []
    for index in range(entries):
        top, left = above + index // columns * ENTRY_HEIGHT, MARGIN + index % columns * ENTRY_WIDTH
        (colour,) = colours(pixels[top : top + SWATCH, left : left + SWATCH])
        found.append(colour)
    return found


def test_every_class_has_its_colour_at_its_place(tmp_path: Path) -> None:
    truth, prediction = quarters(0, 1, 2, IGNORED), quarters(1, 1, 2, 3)
    pixels = save_and_read(tmp_path / "deep" / "x.png", [(pink_image(), truth.astype(np.uint8), prediction)])
    assert colours(panel(pixels, 0)) == {PINK}
    half = SHOWN_SIDE // 4
    for column, expected in ((1, (WALL, BUILDING, SKY, BLACK)), (2, (BUILDING, BUILDING, SKY, FLOOR))):
        shown = panel(pixels, column)
        parts = [part for line in (shown[:half], shown[half:]) for part in np.hsplit(line, 2)]
        assert [colours(part) for part in parts] == [{colour} for colour in expected]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.png"]


def test_the_legend_has_the_classes_that_occur_and_no_others(tmp_path: Path) -> None:
    truth, prediction = quarters(2, 2, IGNORED, 0), quarters(2, 2, 2, 0)
    pixels = save_and_read(tmp_path / "x.png", [(pink_image(), truth, prediction)])
    assert legend(pixels, 3) == [SKY, WALL, BLACK]
    assert not colours(pixels) & {BUILDING, FLOOR}
    beside = pixels[-ENTRY_HEIGHT:, MARGIN + 3 * ENTRY_WIDTH :]
    assert colours(beside) == {WHITE}
    for entry in range(3):
        name = pixels[-ENTRY_HEIGHT:, MARGIN + SWATCH + entry * ENTRY_WIDTH : MARGIN + (entry + 1) * ENTRY_WIDTH]
        assert BLACK in colours(name)


def test_the_legend_tells_names_apart_and_shortens_long_ones(tmp_path: Path) -> None:
    rows = [(pink_image(), quarters(0, 0, 0, 0), quarters(0, 0, 0, 1))]
    names = ["a name that is far too long for its place in the legend", "b"]
    pixels = save_and_read(tmp_path / "x.png", rows, names)
    other = save_and_read(tmp_path / "x.png", rows, [names[0], "d"])
    first, second = (slice(MARGIN + entry * ENTRY_WIDTH, MARGIN + (entry + 1) * ENTRY_WIDTH) for entry in (0, 1))
    assert np.array_equal(pixels[:, first], other[:, first])
    assert not np.array_equal(pixels[:, second], other[:, second])
    assert colours(pixels[-ENTRY_HEIGHT:, second.start - MARGIN : second.start]) == {WHITE}
    assert pixels[-ENTRY_HEIGHT:, second.start - 4 * MARGIN : second.start].min() < 100


@pytest.mark.parametrize(("classes", "far"), [(4, 160), (10, 75), (20, 40)])
def test_few_classes_have_colours_far_apart(tmp_path: Path, classes: int, far: float) -> None:
    """ADE20K's first ones are two greys beside a green that screams."""
    labels = np.append(np.arange(classes), [IGNORED] * 2)[None]
    pixels = save_and_read(tmp_path / "x.png", [(pink_image(1, classes + 2), labels, labels)], ["?"] * classes)
    found = np.array(legend(pixels, classes + 1, above=pixels.shape[0] - ENTRY_HEIGHT * -(-(classes + 1) // 8)))
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1) + 1e9 * np.eye(len(found))
    assert distances.min() > far


def test_classes_beyond_ade20k_have_colours_too(tmp_path: Path) -> None:
    """All that a label map holds, over several lines of the legend, the same ones in each picture."""
    labels = np.append(np.arange(254), [IGNORED] * 2).reshape(16, 16)
    pixels = save_and_read(tmp_path / "x.png", [(pink_image(16, 16), labels, labels)], [str(n) for n in range(254)])
    most_frequent, *found = legend(pixels, 255, above=HEADER + SHOWN_SIDE + MARGIN)
    assert most_frequent == BLACK
    assert found[:4] == ADE20K
    assert len(set(found)) == 253 and found[6] == found[48]
    assert not {BLACK, WHITE} & set(found)
    rows = [(pink_image(), quarters(200, 200, 151, 151), quarters(200, 200, 200, 200))]
    several = save_and_read(tmp_path / "x.png", rows, [str(n) for n in range(254)])
    assert legend(several, 2) == [found[200], found[151]]


def test_images_of_all_sizes_fit_into_one_picture(tmp_path: Path) -> None:
    sizes = ((600, 900), (1, 700), (90, 60))
    rows = []
    for index, (height, width) in enumerate(sizes):
        labels = np.full((height, width), index)
        rows.append((pink_image(height, width), labels, labels))
    pixels = save_and_read(tmp_path / "x.png", rows)
    above = HEADER + 341 + 1 + SHOWN_SIDE + 3 * MARGIN
    assert pixels.shape == (above + ENTRY_HEIGHT, 3 * SHOWN_SIDE + 4 * MARGIN, 3)
    places = (HEADER + 170, HEADER + 341 + MARGIN, HEADER + 342 + 2 * MARGIN + 256)
    assert [tuple(pixels[top, SHOWN_SIDE + 2 * MARGIN + 100]) for top in places] == [WALL, BUILDING, SKY]
    assert legend(pixels, 3, above) == [WALL, SKY, BUILDING]


def test_titles_and_names_have_room_beside_narrow_images(tmp_path: Path) -> None:
    labels = np.zeros((400, 2), dtype=np.uint8)
    pixels = save_and_read(tmp_path / "x.png", [(pink_image(400, 2), labels, labels)])
    assert pixels.shape[1] >= MARGIN + ENTRY_WIDTH
    titled = arrange([[np.zeros((5, 5, 3), dtype=np.uint8)] * 2], ("a title of some length", "b"))
    alone = arrange([[np.zeros((5, 5, 3), dtype=np.uint8)]], ("a title of some length",))
    assert np.array_equal(np.asarray(titled)[:, : alone.width], np.asarray(alone))


def test_the_former_picture_stays_if_a_new_one_fails(tmp_path: Path) -> None:
    path, labels = tmp_path / "x.png", quarters(0, 1, 2, 3)
    save_segmentations(path, [(pink_image(), labels, labels)], CLASSES)
    another = [(pink_image(), labels, 0 * labels)]
    assert_kept_where_saving_fails(path, lambda: save_segmentations(path, another, CLASSES))


def test_shown_numbers_are_spread_over_all() -> None:
    assert spread_numbers(12, 4) == [0, 3, 6, 9]
    assert spread_numbers(11, 4) == [0, 2, 5, 8]
    assert spread_numbers(3, 4) == [0, 1, 2]
    assert spread_numbers(0, 4) == []
    assert numbers_shown(2000) == [0, 333, 666, 1000, 1333, 1666]


@pytest.fixture
def dataset(tmp_path: Path) -> SegmentationSet:
    """Two images more than are shown, 8 × 16, each annotated with a class of its own in its left half."""
    images = []
    for number in range(IMAGES + 2):
        image = AnnotatedImage(f"{number}.png", tmp_path / f"{number}.png", tmp_path / f"labels_{number}.png")
        Image.new("RGB", (16, 8), PINK).save(image.image)
        labels = np.zeros((8, 16), dtype=np.uint8)
        labels[:, :8] = number + 1
        Image.fromarray(labels).save(image.annotation)
        images.append(image)
    return SegmentationSet("val", images, [str(number) for number in range(IMAGES + 2)], True, (tmp_path, tmp_path))


METRICS = {"mIoU": 12.345678, "mAcc": 20.0, "other": 3.0}


class Engine:
    iter = 7


def test_the_hook_shows_truth_and_prediction_of_the_readable_images(dataset: SegmentationSet, tmp_path: Path) -> None:
    shown = numbers_shown(len(dataset.images))
    metric = SegmentationMetric(dataset, allow_unreadable=True, shown=shown)
    metric.predictions = {number: np.full((8, 16), 0, dtype=np.uint8) for number in shown[2:]}
    PictureHook(partial(draw_evaluation, dataset, metric, tmp_path / "pictures")).after_val_epoch(Engine(), METRICS)
    (path,) = (tmp_path / "pictures").iterdir()
    assert path.name == "segmentations_7.png"
    pixels = np.asarray(Image.open(path))
    rows = []
    for number in shown[2:]:
        truth = quarters(number, IGNORED, number, IGNORED, height=8, width=16)
        rows.append((pink_image(8, 16), truth, np.zeros((8, 16))))
    save_segmentations(tmp_path / "expected.png", rows, dataset.classes, "iteration 7: mIoU 12.35 %, mAcc 20.00 %")
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "expected.png")))


def test_tagged_images_are_shown_upright(dataset: SegmentationSet, tmp_path: Path) -> None:
    metric = SegmentationMetric(dataset, allow_unreadable=True, shown=numbers_shown(len(dataset.images)))
    metric.predictions = dict.fromkeys(metric.shown, np.zeros((8, 16), dtype=np.uint8))
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8))
    pictures = []
    for tagged in (False, True):
        for number, image in enumerate(dataset.images):
            save_tagged(scene, image.image, 1 + number % 8 if tagged else 1)
        draw_evaluation(dataset, metric, tmp_path / "pictures", 7, {})
        pictures.append(np.asarray(Image.open(tmp_path / "pictures/segmentations_7.png")))
    assert np.array_equal(*pictures)


def test_images_that_cannot_be_read_any_more_are_left_out(dataset: SegmentationSet, tmp_path: Path) -> None:
    metric = SegmentationMetric(dataset, allow_unreadable=True, shown=(0, 1))
    metric.predictions = dict.fromkeys((0, 1), np.zeros((8, 16), dtype=np.uint8))
    for number, rows in ((0, 1), (1, 0)):
        dataset.images[number].image.write_bytes(b"")
        directory = tmp_path / str(number)
        draw_evaluation(dataset, metric, directory, 7, {})
        assert len(list(directory.glob("*.png"))) == rows


def test_the_hook_saves_nothing_where_nothing_could_be_read(dataset: SegmentationSet, tmp_path: Path) -> None:
    metric = SegmentationMetric(dataset, allow_unreadable=True, shown=numbers_shown(len(dataset.images)))
    PictureHook(partial(draw_evaluation, dataset, metric, tmp_path / "pictures")).after_val_epoch(Engine())
    assert not (tmp_path / "pictures").exists()
