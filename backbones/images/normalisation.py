"""Pixels as a network takes them: from each channel its mean, by its standard deviation.

B images, H and W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones.errors import InputError

Channels = tuple[float, float, float]
"""A number for each of red, green and blue."""


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std of pixels x between 0 and 1. It belongs to a backbone: its weights were trained under it.

    Raises InputError unless mean and std are three numbers each, between 0 and 1, those of std above 0.
    """

    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        for name, values, least in (("mean", self.mean, 0.0), ("std", self.std, 1e-6)):
            if len(values) != 3 or not all(math.isfinite(value) and least <= value <= 1 for value in values):
                kind = "from 0 to 1" if name == "mean" else "above 0, up to 1"
                raise InputError(
                    f"{name} {list(values)}: expected three numbers {kind}, for red, green and blue, of pixels between "
                    "0 and 1. What is meant for pixels up to 255 is to be divided by 255"
                )

    @classmethod
    def of(cls, mean: Sequence[float] | None, std: Sequence[float] | None) -> "Normalisation | None":
        """That of a mean and a std, or None of neither. Raises InputError for one alone, and as the class does."""
        if mean is None and std is None:
            return None
        if mean is None or std is None:
            raise InputError("mean and std belong together: give both, or neither")
        return cls(tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean as a colour of bytes: what augmentation fills with (timm's `create_transform`)."""
        red, green, blue = (round(255 * channel) for channel in self.mean)
        return red, green, blue

    def as_dict(self) -> dict[str, Channels]:
        """`{"mean": …, "std": …}`, as records have it."""
        return {"mean": self.mean, "std": self.std}

    @property
    def label(self) -> str:
        """Its name where it has one, else its numbers."""
        return _NAMES.get(self) or str(self)

    def __str__(self) -> str:
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}" + (f" ({_NAMES[self]})" if self in _NAMES else "")


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Pixels between -1 and 1, as Inception's code has them, and after it ViT's and BEiT's."""

_NAMES = {IMAGENET: "ImageNet's", HALF: "half"}


def normalise(
    images: Tensor, normalisation: Normalisation, dtype: torch.dtype = torch.float32, out: Tensor | None = None
) -> Tensor:
    """Turn a batch of bytes into the network's input: (x / 255 - mean) / std per channel.

    Args:
        images: uint8 (B, 3, H, W), on any device.
        normalisation: the backbone's.
        dtype: of the result; the arithmetic is done in float32.
        out: memory to write to instead of new memory, (B, 3, H, W) of `dtype`. On the CPU this is several times faster:
            most of the time goes into the operating system's first touch of the new pages.

    Returns:
        (B, 3, H, W) of `dtype`, on the device of `images`; `out` if it was given.
    """
    shift = torch.tensor(normalisation.mean, device=images.device).view(3, 1, 1).mul_(255)
    factor = torch.tensor(normalisation.std, device=images.device).view(3, 1, 1).mul_(255).reciprocal_()
    if out is None:
        out = torch.empty(images.shape, dtype=dtype, device=images.device)
    if images.device.type != "cpu":
        return out.copy_(images.to(torch.float32).sub_(shift).mul_(factor))
    for image, normalised in zip(images, out, strict=True):  # one image fits the processor's cache, the batch does not
        normalised.copy_(image.to(torch.float32).sub_(shift).mul_(factor))
    return out


def to_pixels(inputs: Tensor, normalisation: Normalisation) -> Tensor:
    """The inverse of `normalise`, for pictures: (B, 3, H, W) of a network's input to pixels between 0 and 1."""
    mean, std = inputs.new_tensor(normalisation.mean), inputs.new_tensor(normalisation.std)
    return (inputs * std.view(3, 1, 1) + mean.view(3, 1, 1)).clamp(0, 1)
