"""Change an image's colours at random, as torchvision's ColorJitter does."""

from random import Random

from torch import Tensor
from torchvision.transforms import functional

Strengths = tuple[float, float, float, float]
"""Of brightness, contrast, saturation and hue, as ColorJitter takes them."""


def colour_jitter(image: Tensor, strengths: Strengths, rng: Random) -> Tensor:
    """Change brightness, contrast, saturation and hue of `image`, uint8 (3, H, W), in a random order.

    The first three are multiplied by a factor that is uniform within 1 ± strength and at least 0, the hue is turned by
    a share of the circle that is uniform within ± its strength.
    """
    *of_factors, of_hue = strengths
    factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in of_factors]
    changes = [*factors, rng.uniform(-of_hue, of_hue)]
    adjust = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for which in rng.sample(range(4), 4):
        if strengths[which]:
            image = adjust[which](image, changes[which])
    return image
