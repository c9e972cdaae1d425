"""ImageNet-C's corruptions (Hendrycks and Dietterich 2019, arXiv 1903.12261), and AlexNet's errors under them."""

from collections.abc import Mapping

from results.metrics import CORRUPTIONS

SEVERITIES = (1, 2, 3, 4, 5)

CATEGORIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
"""The folders, one an archive, in which the corruptions' own are distributed."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""To choose settings by, and no part of the mean; distributed in `extra`."""

ALEXNET_ERRORS: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Top-1 errors in 0-1, averaged over the five severities.

The README of hendrycks/robustness links to a spreadsheet with them (commit 8190fe3, "Calculating the mCE");
ImageNet-C/test.py there prints errors that are not divided by any. In a file they stand in google-research/augmix,
imagenet.py, lines 148 to 152 at commit 202cf4c, which has them from there, in the order of lines 140 to 145.
"""


def category_of(corruption: str) -> str:
    """The folder in which the corruption's own is distributed."""
    return next((name for name, corruptions in CATEGORIES.items() if corruption in corruptions), "extra")


def all_parts() -> list[tuple[str, int]]:
    """Corruption and severity of each of the 75 parts, in the order of the tables."""
    return [(corruption, severity) for corruption in CORRUPTIONS for severity in SEVERITIES]
