"""Pixels as a network takes them: from each channel its mean, by its standard deviation.

B images, H and W pixels.
"""

import torch
from torch import Tensor

from backbones.images.normalisation import Channels, Normalisation


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
    shift = _per_channel(normalisation.mean, images.device).mul_(255)
    factor = _per_channel(normalisation.std, images.device).mul_(255).reciprocal_()
    if out is None:
        out = torch.empty(images.shape, dtype=dtype, device=images.device)
    if images.device.type != "cpu":
        return out.copy_(images.to(torch.float32).sub_(shift).mul_(factor))
    for image, normalised in zip(images, out, strict=True):  # one image fits the processor's cache, the batch does not
        normalised.copy_(image.to(torch.float32).sub_(shift).mul_(factor))
    return out


def _per_channel(values: Channels, device: torch.device) -> Tensor:
    """(3, 1, 1), filled in where it is needed: to copy it to a GPU would be to wait for all that the GPU is at."""
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])


def to_pixels(inputs: Tensor, normalisation: Normalisation) -> Tensor:
    """The inverse of `normalise`, for pictures: (B, 3, H, W) of a network's input to pixels between 0 and 1."""
    mean, std = inputs.new_tensor(normalisation.mean), inputs.new_tensor(normalisation.std)
    return (inputs * std.view(3, 1, 1) + mean.view(3, 1, 1)).clamp(0, 1)
