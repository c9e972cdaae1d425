"""What the tasks' pictures share: when they are drawn, which images they show, how they are laid out, and their file.

H and W are pixels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from backbones.training.writing import written_whole

SHOWN_SIDE = 512
"""Pixels of an image's long side in the picture: lines and letters look alike whatever the image's own size."""

MARGIN = 6
HEADER = 24
FONT = ImageFont.load_default(size=14)


class PictureHook(Hook):
    """Has a picture drawn after each evaluation, by the first process alone.

    draw: called with the number of finished iterations
    """

    def __init__(self, draw: Callable[[int], None]) -> None:
        self.draw = draw

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.draw(runner.iter)


def spread_numbers(total: int, most: int) -> list[int]:
    """`most` of the numbers below `total`, or all if there are no more, at equal distances and from 0."""
    shown = min(total, most)
    return [total * index // shown for index in range(shown)]


def show_image(image: Tensor) -> np.ndarray:
    """Resize an image, uint8 (3, H, W), so that its long side has `SHOWN_SIDE` pixels: uint8 (H', W', 3)."""
    height, width = image.shape[1:]
    scale = SHOWN_SIDE / max(height, width)
    shown = (max(1, round(height * scale)), max(1, round(width * scale)))
    pixels = F.interpolate(image[None].float(), size=shown, mode="bilinear", antialias=True)[0].round().byte()
    return pixels.permute(1, 2, 0).cpu().numpy()


def resize_labels(labels: np.ndarray, shown: tuple[int, int]) -> np.ndarray:
    """Resize a map of uint8 numbers (H, W) to `shown`, height and width, without a number between two others."""
    return np.asarray(Image.fromarray(labels).resize(shown[::-1], Image.Resampling.NEAREST))


def arrange(panels: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> Image.Image:
    """Put panels, uint8 (H, W, 3), into rows below the titles of their columns.

    panels: at least one row, each with as many as there are titles. All columns are as wide as the widest panel or
    title, so that none runs into the next.
    """
    width = max(panel.shape[1] for row in panels for panel in row)
    width = max(width, *(round(FONT.getlength(title)) for title in titles))
    heights = [max(panel.shape[0] for panel in row) for row in panels]
    size = (len(titles) * (width + MARGIN) + MARGIN, HEADER + sum(heights) + MARGIN * len(heights))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        left = MARGIN + column * (width + MARGIN)
        draw.text((left, 4), title, fill="black", font=FONT)
        top = HEADER
        for row, height in zip(panels, heights, strict=True):
            picture.paste(Image.fromarray(row[column]), (left, top))
            top += height + MARGIN
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG, which is there in full or not at all; missing folders are made."""
    with written_whole(path) as file:
        picture.save(file, format="png")
