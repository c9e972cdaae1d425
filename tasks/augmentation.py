"""What fine-tuning does to its training images: per image in the loader, per batch on the device.

B images, C classes.
"""

from pathlib import Path
from random import Random
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import Field
from timm.data import Mixup
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from backbones.errors import InputError
from backbones.images.crops import IMAGENET_MEAN, evaluation_crop, horizontal_flip, normalise, random_resized_crop
from backbones.images.reading import UnreadableImage, read_image
from backbones.images.tolerance import read_or_replace
from backbones.training.randomness import mix, seed_generators
from backbones.training.settings import Fraction, NonNegative, Settings, Shares

ASPECT_RATIO = (3 / 4, 4 / 3)
"""Width over height of a random crop (torchvision's and timm's default)."""


class FineTuningAugmentation(Settings):
    """timm's augmentation with the values of MAE's table 9 where a recipe says nothing else."""

    crop_scale: Shares = (0.08, 1.0)
    flip: Fraction = 0.5
    rand_augment: Annotated[str | None, Field(description="timm's notation; null for none")] = "rand-m9-mstd0.5-inc1"
    mixup: NonNegative = 0.8
    cutmix: NonNegative = 1.0
    label_smoothing: Fraction = 0.1
    random_erasing: Fraction = 0.25


def rand_augment(notation: str | None, size: int) -> Any:
    """timm's RandAugment on PIL images of `size` pixels, or None, with the parameters of `timm.data.create_transform`.

    Raises InputError for a notation that timm does not know.
    """
    if notation is None:
        return None
    try:
        fill = tuple(round(255 * channel) for channel in IMAGENET_MEAN)
        parameters = {"translate_const": int(0.45 * size), "img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
        return rand_augment_transform(notation, parameters)
    except (AssertionError, ValueError, KeyError) as error:
        raise InputError(
            f'key "augment.rand_augment": timm cannot read "{notation}". Expected for example "rand-m9-mstd0.5-inc1", '
            "or null for none"
        ) from error


class LabelledImages(Dataset[dict[str, Any]]):
    """Training images: `dataset[(index, epoch)]` is `images`, uint8 (3, size, size), and its `labels`.

    Random crop, flip and RandAugment depend on (seed, epoch, index) only. An unreadable image is replaced by the next
    one, label included, and named under `corrupt`.
    """

    def __init__(
        self, paths: list[Path], labels: list[int], size: int, augment: FineTuningAugmentation, seed: int
    ) -> None:
        self.paths, self.labels, self.size, self.augment, self.seed = paths, labels, size, augment, seed
        self.rand_augment = rand_augment(augment.rand_augment, size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        index, epoch = draw
        keys = (self.seed, "image", epoch, index)
        rng = Random(mix(*keys))
        image, index, corrupt = read_or_replace(self.paths, index)
        image = random_resized_crop(image, self.size, self.augment.crop_scale, ASPECT_RATIO, rng)
        image = horizontal_flip(image, rng, self.augment.flip)
        if self.rand_augment:
            seed_generators(*keys)
            image = pil_to_tensor(self.rand_augment(to_pil_image(image)))
        return {"images": image.contiguous(), "labels": int(self.labels[index]), "corrupt": corrupt}


class EvaluationImages(Dataset[dict[str, Any]]):
    """Evaluation images by number: the central crop, the label, the number itself and whether it could be read."""

    def __init__(self, paths: list[Path], labels: list[int], size: int) -> None:
        self.paths, self.labels, self.size = paths, labels, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = {"labels": int(self.labels[index]), "numbers": index}
        try:
            image = evaluation_crop(read_image(self.paths[index]), self.size).contiguous()
        except UnreadableImage as error:
            blank = torch.zeros(3, self.size, self.size, dtype=torch.uint8)
            return sample | {"images": blank, "readable": False, "corrupt": {str(error.path): error.why}}
        return sample | {"images": image, "readable": True, "corrupt": {}}


class BatchAugmentation:
    """Normalisation, random erasing, then mixup and cutmix, on the device.

    Called with images uint8 (B, 3, H, W) and labels (B,); gives float images and targets (B, C) that sum to one.
    """

    def __init__(self, augment: FineTuningAugmentation, classes: int) -> None:
        self.classes, self.smoothing = classes, augment.label_smoothing
        self.erasing_probability = augment.random_erasing
        self.mixup = None
        if augment.mixup or augment.cutmix:
            self.mixup = Mixup(
                mixup_alpha=augment.mixup,
                cutmix_alpha=augment.cutmix,
                label_smoothing=augment.label_smoothing,
                num_classes=classes,
            )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        inputs = normalise(images)
        if self.erasing_probability:
            inputs = RandomErasing(self.erasing_probability, mode="pixel", device=str(inputs.device))(inputs)
        if self.mixup:
            return self.mixup(inputs, labels)
        off = self.smoothing / self.classes
        targets = torch.full((len(labels), self.classes), off, device=inputs.device)
        return inputs, targets.scatter_(1, labels[:, None], 1 - self.smoothing + off)


def check_even_batches(augment: FineTuningAugmentation, images_per_step: int) -> None:
    """Raise InputError if mixup, which pairs the images of a batch, would meet an odd number of them."""
    if (augment.mixup or augment.cutmix) and images_per_step % 2:
        raise InputError(
            f'key "runtime.batch_per_device": mixup pairs images, so a step needs an even number of them, not '
            f"{images_per_step}. Choose an even one, or set augment.mixup=0 augment.cutmix=0"
        )
