"""The images of a classification run, one by one: cropped at random to train on, at the centre to evaluate on."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import posterize, rand_augment_transform
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from backbones.errors import InputError
from backbones.images.crops import horizontal_flip, random_resized_crop
from backbones.images.normalisation import Normalisation
from backbones.images.reading import UnreadableImage
from backbones.images.tolerance import read_or_replace
from backbones.images.views import View
from backbones.training.randomness import mix, seed_generators
from tasks.classification.recipe import ClassificationDataSettings, ClassifierRecipe, FineTuningAugmentation, Inference

Labels = Sequence[int] | np.ndarray
ASPECT_RATIO = (3 / 4, 4 / 3)
"""Width over height of a random crop (torchvision's and timm's default)."""


def rand_augment(notation: str | None, size: int, normalisation: Normalisation) -> Any:
    """timm's RandAugment on PIL images of `size` pixels, or None, with the parameters of `timm.data.create_transform`.

    What comes into the image from outside has the mean's colour. Raises InputError for a notation that timm does not
    know.
    """
    if notation is None:
        return None
    try:
        parameters = {"translate_const": int(0.45 * size), "interpolation": Image.Resampling.BICUBIC}
        transform = rand_augment_transform(notation, parameters | {"img_mean": normalisation.fill})
    except (AssertionError, ValueError, KeyError) as error:
        raise InputError(
            f'key "augment.rand_augment": timm cannot read "{notation}". Expected for example "rand-m9-mstd0.5-inc1", '
            "or null for none"
        ) from error
    for operation in transform.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    """timm's posterizing; of no bits too, which is black: timm draws them, and Pillow refuses them since version 13."""
    return image.point([0] * 256 * len(image.getbands())) if bits < 1 else posterize(image, bits, **options)


class TrainingImages(Dataset[dict[str, Any]]):
    """Training images: `dataset[(index, epoch)]` is `images`, uint8 (3, size, size), and its `labels`.

    What is seen of an image depends on (seed, epoch, index) only. An unreadable image is replaced by the next one,
    label included, and named under `corrupt`.
    """

    def __init__(self, paths: Sequence[Path], labels: Labels, seed: int) -> None:
        self.paths, self.labels, self.seed = paths, labels, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        index, epoch = draw
        keys = (self.seed, "image", epoch, index)
        image, index, corrupt = read_or_replace(self.paths, index)
        image = self.augmented(image, keys)
        return {"images": image.contiguous(), "labels": int(self.labels[index]), "corrupt": corrupt}

    def augmented(self, image: torch.Tensor, keys: tuple[int | str, ...]) -> torch.Tensor:
        """What is seen of an image, uint8 (3, H, W): (3, size, size). All randomness comes from `keys`."""
        raise NotImplementedError


class LabelledImages(TrainingImages):
    """Those of fine-tuning: random crop, flip and RandAugment."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Labels,
        size: int,
        augment: FineTuningAugmentation,
        seed: int,
        normalisation: Normalisation,
    ) -> None:
        super().__init__(paths, labels, seed)
        self.size, self.augment = size, augment
        self.rand_augment = rand_augment(augment.rand_augment, size, normalisation)

    def augmented(self, image: torch.Tensor, keys: tuple[int | str, ...]) -> torch.Tensor:
        rng = Random(mix(*keys))
        image = random_resized_crop(image, self.size, self.augment.crop_scale, ASPECT_RATIO, rng)
        image = horizontal_flip(image, rng, self.augment.flip)
        if self.rand_augment:
            seed_generators(*keys)
            image = pil_to_tensor(self.rand_augment(to_pil_image(image)))
        return image


def view_of(recipe: ClassifierRecipe) -> View:
    """What a trained network sees of an image under a recipe."""
    return view_under(recipe.inference, recipe.model.image_size, recipe.data)


def view_under(inference: Inference, size: int, data: ClassificationDataSettings) -> View:
    """What is seen of an image, in so many pixels a side."""
    return View(size, inference.crop_ratio, inference.resized, inference.shape, inference.interpolation, data.decoder)


class EvaluationImages(Dataset[dict[str, Any]]):
    """Evaluation images by number: the pixels, the label, the number itself and whether it could be read.

    `view` says what is seen of each. `accepted` are each image's classes where several are right: the samples have
    them, -1 where there are fewer.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Labels,
        view: View,
        accepted: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.paths, self.labels, self.view = paths, labels, view
        self.accepted = None if accepted is None else _padded(accepted)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample: dict[str, Any] = {"labels": int(self.labels[index]), "numbers": index}
        if self.accepted is not None:
            sample["accepted"] = torch.from_numpy(self.accepted[index])
        try:
            image = self.view.read(self.paths[index]).contiguous()
        except UnreadableImage as error:
            blank = torch.zeros(3, self.view.size, self.view.size, dtype=torch.uint8)
            return sample | {"images": blank, "readable": False, "corrupt": {str(error.path): error.why}}
        return sample | {"images": image, "readable": True, "corrupt": {}}


def _padded(lists: Sequence[Sequence[int]]) -> np.ndarray:
    """Lists of unequal length as one array, -1 after their ends."""
    padded = np.full((len(lists), max(map(len, lists))), -1, dtype=np.int64)
    for row, entries in zip(padded, lists, strict=True):
        row[: len(entries)] = entries
    return padded
