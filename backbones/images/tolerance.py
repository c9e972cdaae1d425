"""Training goes on where an image is unreadable; the run's record says which ones were."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from backbones.images.reading import UnreadableImage, read_image

REPLACEMENTS = 32
"""Images tried in place of an unreadable one, before a black one stands in and the job gives up on the data."""


def read_or_replace(paths: Sequence[Path], index: int) -> tuple[Tensor, int, dict[str, str]]:
    """Read an image, or else the next readable one in the list.

    Returns the image, uint8 (3, H, W), the index that it really is of, and why each unreadable path was passed over.
    Which image replaces another does not depend on chance, so that a resumed run sees the same ones.
    """
    corrupt: dict[str, str] = {}
    for offset in range(min(REPLACEMENTS, len(paths))):
        candidate = (index + offset) % len(paths)
        try:
            return read_image(paths[candidate]), candidate, corrupt
        except UnreadableImage as error:
            corrupt[str(error.path)] = error.why
    return torch.zeros(3, 32, 32, dtype=torch.uint8), index, corrupt


def too_many_unreadable(corrupt: int, images: int) -> bool:
    """Whether so many of `images` are unreadable that the data set, not a file, is at fault: over a tenth of it."""
    return corrupt > max(0.1 * images, min(10, images - 1))
