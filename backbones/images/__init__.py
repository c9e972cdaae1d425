"""Photographs on disk: finding them, decoding them, cropping them.

Everything here works on uint8 tensors (3, H, W) in RGB until `normalise` makes a batch of floating-point numbers.
"""

from backbones.images.crops import evaluation_crop, horizontal_flip, random_resized_crop
from backbones.images.folders import find_images, fingerprint
from backbones.images.normalisation import HALF, IMAGENET, Normalisation, normalise
from backbones.images.reading import UnreadableImage, quick_check, read_image

__all__ = [
    "HALF",
    "IMAGENET",
    "Normalisation",
    "UnreadableImage",
    "evaluation_crop",
    "find_images",
    "fingerprint",
    "horizontal_flip",
    "normalise",
    "quick_check",
    "random_resized_crop",
    "read_image",
]
