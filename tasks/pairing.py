"""Comparing runs image by image: what every task's `paired` gives, and the refusal of runs on other images.

R resamples, N images
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbones.training.progress_line import ProgressLine, progress_line
from results import PairedDifference, ResultsError, Statistic, paired_statistic_difference

RESAMPLES = 1_000


@dataclass(frozen=True)
class PairedRuns:
    """Two runs, or two averages over seeds, on the same images: how many, and by metric A's number less B's."""

    images: int
    differences: dict[str, PairedDifference]


def require_same_images(runs: Sequence[Path], images: Sequence[Sequence[Hashable]]) -> None:
    """Raise ResultsError, naming two runs' directories and an image, unless all evaluated what the first did."""
    for run, others in zip(runs[1:], images[1:], strict=True):
        only_a, only_b = set(images[0]).difference(others), set(others).difference(images[0])
        if only_a or only_b:
            raise ResultsError(
                f"{runs[0]} and {run}: not evaluated on the same images. {len(only_a):,} of {len(images[0]):,} images "
                f"are only in the first, {len(only_b):,} of {len(others):,} only in the second, for example "
                f"{min(only_a or only_b, key=str)}. Evaluate both on the same images; record.json names those left out"
            )


def compare_statistics(
    a: Mapping[str, Sequence[Statistic]], b: Mapping[str, Sequence[Statistic]], images: int
) -> dict[str, PairedDifference]:
    """Test numbers that are no means over images: by metric, the average over A's runs less that over B's.

    All runs are resampled together. Says how far it is: two detectors on COCO take half a minute.
    """
    runs = sum(len(each) for side in (a, b) for each in side.values())
    with progress_line("comparing", runs * (RESAMPLES + 1), "resamples") as line:
        count = _counter(line)
        return {
            name: paired_statistic_difference(
                _averaged(a[name], count), _averaged(b[name], count), images, resamples=RESAMPLES
            )
            for name in a
        }


def _averaged(statistics: Sequence[Statistic], count: Callable[[int], None]) -> Statistic:
    """The mean of one number over several runs; `count` is told of every resample of each."""

    def average(weights_RN: np.ndarray) -> np.ndarray:
        values = []
        for statistic in statistics:
            values.append(statistic(weights_RN))
            count(len(weights_RN))
        return np.asarray(np.mean(values, axis=0))

    return average


def _counter(line: ProgressLine) -> Callable[[int], None]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        line.update(done)

    return count
