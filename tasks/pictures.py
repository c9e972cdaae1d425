"""What the tasks' pictures share: when they are drawn, which images they show, in which colours, and their file.

H and W are pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor

from backbones.training.writing import written_whole
from results.metrics import METRICS

SHOWN_SIDE = 512
"""Pixels of an image's long side in the picture: lines and letters look alike whatever the image's own size."""

LARGEST_SIDE = 1024
"""Pixels of the long side of an image that is shown by itself."""

DISTINCT_COLOURS = np.array(
    [
        *((230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49), (145, 30, 180), (66, 212, 244)),
        *((240, 50, 230), (191, 239, 69), (250, 190, 212), (70, 153, 144), (220, 190, 255), (154, 99, 36)),
        *((255, 250, 200), (128, 0, 0), (170, 255, 195), (128, 128, 0), (255, 216, 177), (0, 0, 117), (169, 169, 169)),
    ],
    dtype=np.uint8,
)
"""Colours far apart, the first ones most of all: Sasha Trubetskoy's, https://sashamaps.net/docs/resources/20-colors."""


class PictureHook(Hook):
    """Has a picture drawn after each evaluation, by the first process alone.

    draw: called with the number of finished iterations and the metrics
    """

    def __init__(self, draw: Callable[[int, Mapping[str, float]], None]) -> None:
        self.draw = draw

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.draw(runner.iter, metrics or {})


def describe_evaluation(iteration: int, metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """What stands above a picture: "iteration 7: mIoU 12.34 %", of the metrics `names` as far as they are defined."""
    found = [f"{METRICS[name].label} {METRICS[name].shown(metrics[name])}" for name in names if name in metrics]
    return f"iteration {iteration:,}{': ' if found else ''}{', '.join(found)}"


def spread_numbers(total: int, most: int) -> list[int]:
    """`most` of the numbers below `total`, or all if there are no more, at equal distances and from 0."""
    shown = min(total, most)
    return [total * index // shown for index in range(shown)]


def show_image(image: Tensor, side: int = SHOWN_SIDE) -> np.ndarray:
    """Resize an image, uint8 (3, H, W), so that its long side has so many pixels: uint8 (H', W', 3).

    Of one of hundreds of megabytes, which as floats would take gigabytes, only every so many pixels are looked at.
    """
    height, width = image.shape[1:]
    step = max(1, max(height, width) // (4 * side))
    image = image[:, ::step, ::step]
    scale = side / max(height, width)
    shown = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = F.interpolate(image[None].float(), size=shown, mode="bilinear", antialias=True)[0].round().byte()
    return pixels.permute(1, 2, 0).cpu().numpy()


def shown_side(height: int, width: int) -> int:
    """The long side of an image that is shown by itself: its own, but neither tiny nor larger than a screen."""
    return min(max(height, width, SHOWN_SIDE), LARGEST_SIDE)


def resize_labels(labels: np.ndarray, shown: tuple[int, int]) -> np.ndarray:
    """Resize a map of uint8 numbers (H, W) to `shown`, height and width, without a number between two others."""
    return np.asarray(Image.fromarray(labels).resize(shown[::-1], Image.Resampling.NEAREST))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, which is there in full or not at all; missing folders are made."""
    with written_whole(path) as file:
        picture.save(file, format="png")
