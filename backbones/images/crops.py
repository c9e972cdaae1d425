"""Crop, resize and flip images of bytes.

The geometry is torchvision's and the MAE reference's and so are the pixels, to two levels of 255: cropping is a view,
resizing is antialiased bicubic interpolation on uint8, and only the finished batch becomes floating point
(`normalise`, in the module beside this one). All randomness comes from a `random.Random` that the caller passes in, so
an image's augmentation can be drawn again.
"""

import math
from random import Random
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

EVALUATION_SHARE = 224 / 256
"""What the centre crop keeps of the resized short side, up to 224 pixels (MAE, util/datasets.py)."""

MAX_RESIZED_PIXELS = 2**26
"""An image that would grow beyond this when its short side is resized is trimmed at the far ends of its long side."""

Rectangle = tuple[int, int, int, int]
"""top, left, height, width"""

Interpolation = Literal["bicubic", "bilinear"]


def draw_rectangle(
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: Random,
    tries: int = 10,
) -> Rectangle:
    """Draw a rectangle of random area and shape at a random place inside an image of `height` × `width`.

    Area (as a share of the image, uniform in `scale`) and width / height (log-uniform in `ratio`) are drawn anew, at
    most `tries` times, until the rectangle fits. After that:

    - `tries` > 1: the largest centred rectangle within `ratio`, as in torchvision's RandomResizedCrop (`tries` is 10),
      which the MAE reference pre-trains and fine-tunes with.
    - `tries` = 1: the rectangle drawn, its sides cut to the image's, as in TensorFlow code after BYOL's. Of the MAE
      reference linear probing alone has it (util/crop.py, which main_linprobe.py imports).
    """
    for _ in range(tries):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        crop_height, crop_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if tries == 1:
            # A sliver of less than half a pixel would be rounded away; one row or column of it stays.
            crop_height, crop_width = max(1, min(crop_height, height)), max(1, min(crop_width, width))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top, left = rng.randint(0, height - crop_height), rng.randint(0, width - crop_width)
            return top, left, crop_height, crop_width
    crop_height, crop_width = height, width
    if width / height < ratio[0]:
        crop_height = round(width / ratio[0])
    elif width / height > ratio[1]:
        crop_width = round(height * ratio[1])
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_resized_crop(
    image: Tensor,
    size: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: Random,
    tries: int = 10,
) -> Tensor:
    """Cut a random rectangle from `image`, uint8 (3, H, W), and resize it to (3, size, size).

    The rectangle is that of `draw_rectangle`, with the same arguments.
    """
    top, left, height, width = draw_rectangle(image.shape[1], image.shape[2], scale, ratio, rng, tries)
    return resize(image[:, top : top + height, left : left + width], size, size)


def random_square(image: Tensor, size: int, share: float, rng: Random) -> Tensor:
    """Cut a square of `share` of the short side of `image`, uint8 (3, H, W), at a random place: (3, size, size).

    So does whoever resizes the short side to `size` / `share` and cuts a random square of `size` from that.
    """
    height, width = image.shape[1:]
    side = max(1, round(min(height, width) * share))
    top, left = rng.randint(0, height - side), rng.randint(0, width - side)
    return resize(image[:, top : top + side, left : left + side], size, size)


def horizontal_flip(image: Tensor, rng: Random, p: float = 0.5) -> Tensor:
    """Mirror `image` (3, H, W) left to right with probability `p`."""
    return image.flip(-1) if rng.random() < p else image


def resize(image: Tensor, height: int, width: int, mode: Interpolation = "bicubic") -> Tensor:
    """Resize `image`, uint8 (3, H, W), to (3, height, width), antialiased when it shrinks, as Pillow does.

    Pillow shrinks the sides one after the other and rounds in between, so their order shows (by up to ten levels at
    hard edges). Since version 13 it begins with the height where that loses more than twice as many pixels as the
    width, and with the width otherwise, as torch always does.
    """
    lost_height, lost_width = image.shape[1] - height, image.shape[2] - width
    if lost_height > 2 * max(0, lost_width):
        image = _interpolate(image, height, image.shape[2], mode)
    return _interpolate(image, height, width, mode)


def _interpolate(image: Tensor, height: int, width: int, mode: Interpolation) -> Tensor:
    if image.shape[1:] == (height, width):
        return image
    # A view's rows lie apart, which torch's kernel for packed pixels does not take; copying them costs less than that.
    packed = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(packed, size=(height, width), mode=mode, antialias=True)[0]


def resize_short_side(image: Tensor, size: int, mode: Interpolation = "bicubic") -> Tensor:
    """Resize `image`, uint8 (3, H, W), so that its shorter side measures `size`; the longer one is rounded down."""
    height, width = image.shape[1:]
    if height <= width:
        return resize(image, size, int(size * width / height), mode)
    return resize(image, int(size * height / width), size, mode)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """Cut the central (3, size, size) out of `image` (3, H, W); where the image is smaller, black fills the rest.

    Halves round as in torchvision's CenterCrop.
    """
    height, width = image.shape[1:]
    if height < size or width < size:
        x_margin, y_margin = max(0, size - width), max(0, size - height)
        image = F.pad(image, (x_margin // 2, (x_margin + 1) // 2, y_margin // 2, (y_margin + 1) // 2))
        height, width = image.shape[1:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[:, top : top + size, left : left + size]


def evaluation_crop(image: Tensor, size: int, ratio: float | None = None) -> Tensor:
    """Resize the short side of `image`, uint8 (3, H, W), and cut out the centre: (3, size, size), with no randomness.

    The short side becomes `size` / `ratio`. None is the MAE reference's ratio (util/datasets.py, lines 53 to 57): up to
    224 pixels 224/256, so that the short side of 224 becomes 256; above them 1, no margin.
    """
    resized = resized_side(size, ratio)
    return centre_crop(resize_short_side(trim_far_ends(image, resized), resized), size)


def resized_side(size: int, ratio: float | None = None) -> int:
    """The side in pixels, of `evaluation_crop`, that an image is resized to before the centre is cut out."""
    if ratio is None:
        ratio = EVALUATION_SHARE if size <= 224 else 1.0
    return int(size / ratio)


def trim_far_ends(image: Tensor, short_side: int) -> Tensor:
    """Trim a strip of a few pixels by thousands to what a centre crop sees: resized whole it would take gigabytes."""
    top, left, height, width = within_far_ends(image.shape[1], image.shape[2], short_side)
    return image[:, top : top + height, left : left + width]


def within_far_ends(height: int, width: int, short_side: int) -> Rectangle:
    """What `trim_far_ends` leaves of an image of so many pixels; nearly always all of it."""
    longest = MAX_RESIZED_PIXELS // short_side * min(height, width) // short_side
    if max(height, width) <= longest:
        return 0, 0, height, width
    margin = (max(height, width) - longest) // 2
    return (margin, 0, longest, width) if height > width else (0, margin, height, longest)
