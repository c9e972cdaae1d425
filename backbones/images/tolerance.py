"""Training goes on where an image is unreadable; the run's record says which ones were."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from backbones.images.reading import UnreadableImage, read_image

Item = TypeVar("Item")
Image = TypeVar("Image")

REPLACEMENTS = 32
"""Images tried in place of an unreadable one, before a black one stands in and the job gives up on the data."""


def first_readable(
    items: Sequence[Item], index: int, read: Callable[[Item], Image]
) -> tuple[Image | None, int, dict[str, str]]:
    """Read the item at `index`, or else the next one in the list whose image is readable.

    Returns what was read, or None after too many tries, the index that it really is of, and why each unreadable path
    was passed over. Which item replaces another does not depend on chance, so that a resumed run sees the same ones.
    """
    corrupt: dict[str, str] = {}
    for offset in range(min(REPLACEMENTS, len(items))):
        candidate = (index + offset) % len(items)
        try:
            return read(items[candidate]), candidate, corrupt
        except UnreadableImage as error:
            corrupt[str(error.path)] = error.why
    return None, index, corrupt


def read_or_replace(paths: Sequence[Path], index: int) -> tuple[Tensor, int, dict[str, str]]:
    """`first_readable` of image files: uint8 (3, H, W), a black one where none could be read."""
    image, found, corrupt = first_readable(paths, index, read_image)
    return torch.zeros(3, 32, 32, dtype=torch.uint8) if image is None else image, found, corrupt


def too_many_unreadable(corrupt: int, images: int) -> bool:
    """Whether so many of `images` are unreadable that the data set, not a file, is at fault: over a tenth of it."""
    return corrupt > max(0.1 * images, min(10, images - 1))
