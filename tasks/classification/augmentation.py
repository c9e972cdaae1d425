"""What fine-tuning does to a batch of training images, on the device.

B images, C classes.
"""

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.images.pixels import normalise
from tasks.classification.recipe import FineTuningAugmentation


class BatchAugmentation:
    """Normalisation, random erasing, then mixup and cutmix, on the device.

    Called with images uint8 (B, 3, H, W) and labels (B,); gives float images and targets (B, C) that sum to one.
    """

    def __init__(self, augment: FineTuningAugmentation, classes: int, normalisation: Normalisation) -> None:
        self.classes, self.smoothing, self.normalisation = classes, augment.label_smoothing, normalisation
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
        inputs = normalise(images, self.normalisation)
        if self.erasing_probability:
            inputs = RandomErasing(self.erasing_probability, mode="pixel", device=str(inputs.device))(inputs)
        if self.mixup:
            return self.mixup(inputs, labels)
        off = self.smoothing / self.classes
        targets = torch.full((len(labels), self.classes), off, device=inputs.device)
        return inputs, targets.scatter_(1, labels[:, None], 1 - self.smoothing + off)


def check_even_batches(mixes_images: bool, images_per_step: int) -> None:
    """Raise InputError if mixup, which pairs the images of a batch, would meet an odd number of them."""
    if mixes_images and images_per_step % 2:
        raise InputError(
            f'key "runtime.batch_per_device": mixup pairs images, so a step needs an even number of them, not '
            f"{images_per_step}. Choose an even one, or set augment.mixup=0 augment.cutmix=0"
        )
