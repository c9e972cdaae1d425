"""Comparing two partly fine-tuned classifiers image by image, from their `per_image.csv`."""

from tasks.probing.paired import compare

__all__ = ["compare"]
