"""Comparing two linear probes image by image, from their `per_image.csv`."""

from tasks.probing.paired import compare

__all__ = ["compare"]
