"""What a trained network sees of an image: the square that its evaluation cuts out, with no randomness."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as of_torchvision

from backbones.images.crops import (
    EVALUATION_SHARE,
    Interpolation,
    centre_crop,
    resize,
    resize_short_side,
    resized_side,
    trim_far_ends,
    within_far_ends,
)
from backbones.images.reading import read_image, read_with_pillow

Shape = Literal["short", "square"]
Decoder = Literal["auto", "pillow"]


@dataclass(frozen=True)
class View:
    """A square of `size` pixels a side.

    ratio:         share of the resized side that the centre crop keeps; None is MAE's rule (`evaluation_crop`)
    resized:       the resized side in pixels, in place of a ratio
    shape:         "short" resizes the short side, and keeps the image's shape; "square" brings both sides to that
    interpolation: antialiased where the image shrinks, as Pillow's
    decoder:       "auto" takes the fast way, two levels of 255 at most from Pillow's pixels; "pillow" reads and resizes
                   with Pillow by torchvision's functions, pixel for pixel as MAE's evaluation and torchvision's do
    """

    size: int
    ratio: float | None = None
    resized: int | None = None
    shape: Shape = "short"
    interpolation: Interpolation = "bicubic"
    decoder: Decoder = "auto"

    @property
    def side(self) -> int:
        """That the image, or its short side, is resized to, in pixels."""
        return self.resized or resized_side(self.size, self.ratio)

    @property
    def share(self) -> float:
        """Of the resized side, that the crop keeps: `size` / `share`, rounded down, is `side`."""
        if self.resized is None:
            return self.ratio or (EVALUATION_SHARE if self.size <= 224 else 1.0)
        share = self.size / self.resized
        return share if int(self.size / share) == self.resized else math.nextafter(share, 0)

    def read(self, path: str | Path) -> Tensor:
        """What it shows of a file: uint8 (3, size, size), RGB. Raises UnreadableImage as `read_image` does.

        A strip of a few pixels by thousands is trimmed at its far ends before it is resized.
        """
        if self.decoder == "pillow":
            return self._read_with_pillow(path)
        image, side = read_image(path), self.side
        if self.shape == "square":
            return centre_crop(resize(image, side, side, self.interpolation), self.size)
        return centre_crop(resize_short_side(trim_far_ends(image, side), side, self.interpolation), self.size)

    def _read_with_pillow(self, path: str | Path) -> Tensor:
        image, side = read_with_pillow(path), self.side
        if self.shape == "short":
            top, left, height, width = within_far_ends(image.height, image.width, side)
            if (height, width) != (image.height, image.width):
                image = image.crop((left, top, left + width, top + height))
        wanted = [side, side] if self.shape == "square" else [side]
        mode = InterpolationMode(self.interpolation)
        resized = of_torchvision.resize(image, wanted, mode)
        return of_torchvision.pil_to_tensor(of_torchvision.center_crop(resized, [self.size, self.size]))
