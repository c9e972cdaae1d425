"""How a backbone takes its pixels: from each channel a mean, by a standard deviation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
        try:
            return cls(tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]
        except TypeError:
            raise InputError(f"mean {mean} and std {std}: expected three numbers each, for red, green, blue") from None

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
