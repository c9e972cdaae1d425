"""The images that a linear probe is trained on: a random crop and a flip, nothing else."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from torch import Tensor

from backbones.images.crops import horizontal_flip, random_resized_crop
from backbones.training.randomness import mix
from tasks.classification.samples import ASPECT_RATIO, Labels, TrainingImages
from tasks.linear_probing.recipe import ProbingAugmentation


class CroppedImages(TrainingImages):
    """Training images of `size` pixels a side, of which each is cropped and flipped."""

    def __init__(
        self, paths: Sequence[Path], labels: Labels, size: int, augment: ProbingAugmentation, seed: int
    ) -> None:
        super().__init__(paths, labels, seed)
        self.size, self.augment = size, augment

    def augmented(self, image: Tensor, keys: tuple[int | str, ...]) -> Tensor:
        rng, augment = Random(mix(*keys)), self.augment
        image = random_resized_crop(image, self.size, augment.crop_scale, ASPECT_RATIO, rng, augment.crop_tries)
        return horizontal_flip(image, rng, augment.flip)
