"""Padding images to what a trunk takes."""

import torch.nn.functional as F
from torch import Tensor

from backbones.errors import InputError
from backbones.images.sizes import in_words


def padded(images_B3HW: Tensor, step: int, fixed_size: int | None, who: str) -> Tensor:
    """Add zeros on the right and at the bottom: to a multiple of `step` pixels, or to the one size that a model takes.

    Raises InputError, naming the model as `who`, for images that are larger than that size.
    """
    height, width = images_B3HW.shape[2:]
    if fixed_size and max(height, width) > fixed_size:
        raise InputError(
            f"an image of {in_words(height, width)}: {who} was built for at most {fixed_size} × {fixed_size}. Set "
            "model.image_size to the longest side of all images, or predict in windows where the task can."
        )
    below, beside = (fixed_size - side if fixed_size else -side % step for side in (height, width))
    return F.pad(images_B3HW, (0, beside, 0, below))
