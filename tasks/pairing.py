"""Comparing two runs image by image: what every task's `paired` gives, and the refusal of runs on other images."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from results import PairedDifference, ResultsError


@dataclass(frozen=True)
class PairedRuns:
    """Two runs on the same images: how many these are, and by metric the first run's number less the second's."""

    images: int
    differences: dict[str, PairedDifference]


def require_same_images(a: Path, a_images: Sequence[Hashable], b: Path, b_images: Sequence[Hashable]) -> None:
    """Raise ResultsError, naming both runs' directories and an image, unless the same images were evaluated."""
    only_a, only_b = set(a_images).difference(b_images), set(b_images).difference(a_images)
    if only_a or only_b:
        raise ResultsError(
            f"{a} and {b}: not evaluated on the same images. {len(only_a):,} of {len(a_images):,} images are only in "
            f"the first, {len(only_b):,} of {len(b_images):,} only in the second, for example "
            f"{min(only_a or only_b, key=str)}. Evaluate both on the same images; record.json names those left out"
        )
