"""The images that features are taken of: as in evaluation, or augmented views of training images."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch.utils.data import Dataset

from backbones.images.crops import horizontal_flip, random_resized_crop
from backbones.images.reading import UnreadableImage, read_image
from backbones.images.views import View
from backbones.training.randomness import mix
from tasks.classification.samples import ASPECT_RATIO

CROP_SCALE, FLIP = (0.08, 1.0), 0.5
"""Of augmented views (torchvision's default; facebookresearch/dinov2, dinov2/data/transforms.py)."""


class ShownImages(Dataset[dict[str, Any]]):
    """Images by number, uint8 (3, size, size), the number itself and whether it could be read; labels play no part.

    view:  what is seen of each
    draw:  of augmented images seed and number of the view: a random crop, flipped half of the time; None for `view`
    """

    def __init__(self, paths: Sequence[Path], view: View, draw: tuple[int, int] | None = None) -> None:
        self.paths, self.view, self.draw = paths, view, draw

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return {"images": self._read(index), "numbers": index, "readable": True, "corrupt": {}}
        except UnreadableImage as error:
            blank = torch.zeros(3, self.view.size, self.view.size, dtype=torch.uint8)
            return {"images": blank, "numbers": index, "readable": False, "corrupt": {str(error.path): error.why}}

    def _read(self, index: int) -> torch.Tensor:
        if self.draw is None:
            return self.view.read(self.paths[index]).contiguous()
        rng = Random(mix(self.draw[0], "view", self.draw[1], index))
        image = random_resized_crop(read_image(self.paths[index]), self.view.size, CROP_SCALE, ASPECT_RATIO, rng)
        return horizontal_flip(image, rng, FLIP).contiguous()
