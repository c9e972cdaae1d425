"""The images of a pre-training, with labels or without."""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from backbones.cache import Finding, kept
from backbones.errors import InputError
from backbones.images import folders
from backbones.images.colours import colour_jitter
from backbones.images.crops import (
    EVALUATION_SHARE,
    evaluation_crop,
    horizontal_flip,
    random_resized_crop,
    random_square,
)
from backbones.images.packed import Paths
from backbones.images.tolerance import read_or_replace
from backbones.pretraining.settings import PretrainingAugmentation
from backbones.training.randomness import mix

ASPECT_RATIO = (3 / 4, 4 / 3)
"""Width over height of a random crop (torchvision's default, which the reference keeps)."""


class UnlabelledImages(Dataset[dict[str, Any]]):
    """Images for pre-training: `dataset[(index, epoch)]["images"]` is a random crop, uint8 (3, size, size).

    The crop is torchvision's, of ten tries, as in the reference (main_pretrain.py, line 124), or as the settings have
    it. It depends on (seed, epoch, index) only. An unreadable image is replaced by the next and named under `corrupt`.
    """

    def __init__(self, paths: Sequence[Path], size: int, augment: PretrainingAugmentation, seed: int) -> None:
        self.paths, self.size, self.augment, self.seed = paths, size, augment, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        index, epoch = draw
        rng = Random(mix(self.seed, "image", epoch, index))
        image, _, corrupt = read_or_replace(self.paths, index)
        image = horizontal_flip(self._crop(image, rng), rng, self.augment.flip)
        if self.augment.colour_jitter:
            image = colour_jitter(image, self.augment.colour_jitter, rng)
        return {"images": image.contiguous(), "corrupt": corrupt}

    def _crop(self, image: Tensor, rng: Random) -> Tensor:
        augment = self.augment
        if augment.crop == "none":
            return evaluation_crop(image, self.size, EVALUATION_SHARE)
        if augment.crop == "fixed":
            return random_square(image, self.size, EVALUATION_SHARE, rng)
        return random_resized_crop(image, self.size, augment.crop_scale, ASPECT_RATIO, rng, augment.crop_tries)


def require_outside(data: Path, out: Path) -> None:
    """Raise InputError if what runs leave below `out`, pictures too, would be among the images below `data`."""
    if out.resolve().is_relative_to(data.resolve()):
        raise InputError(
            f"--out {out}: lies in {data}, of which all images are pre-trained on: the pictures that runs leave would "
            "be among them. Give a folder elsewhere"
        )


def list_images(data: Path) -> Paths:
    """`find_images` below `data`, or what it found before in the same folders."""
    rules = hashlib.sha256(inspect.getsource(folders).encode()).hexdigest()
    finding = kept("images", data, {"rules": rules}, lambda: Finding({}, folders.find_images(data).arrays))
    return Paths(data, **finding.arrays)
