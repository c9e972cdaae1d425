"""How far the numbers of equal cells lie apart, from seed to seed."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, variance

from results.regression.findings import CellName
from results.regression.runs import Run

Kind = tuple[str, str, str]
"""Task, data set and metric: what cells have in common whose noise is taken to be the same."""


@dataclass(frozen=True)
class Noise:
    """A standard deviation between seeds in the metric's units, of so many degrees of freedom.

    source: where it is from, in words
    """

    sigma: float
    degrees: float
    source: str


PRIORS: Mapping[Kind, Noise] = {
    ("classification", "imagenet1k", "top1"): Noise(0.086, 6, "four seeds of MAE's ViT-B and ViT-L each, fine-tuned"),
}
"""What is known before any seed was run: facebookresearch/mae, FINETUNE.md has 83.63, 83.66, 83.52, 83.46 of ViT-B and
85.95, 85.87, 85.76, 85.88 of ViT-L, whose variances, 0.00876 and 0.00617, are averaged here."""


def kind_of(cell: CellName) -> Kind:
    return cell.task, cell.dataset, cell.metric


def pool_noise(runs: Iterable[Run], stated: Mapping[str, float] | None = None) -> dict[Kind, Noise]:
    """The noise of each kind of cell: variances between seeds, pooled over cells by their degrees of freedom.

    A seed that was run in several nights counts with its mean: what one seed repeats is no noise between seeds. A prior
    counts with its own degrees of freedom. `stated` gives standard deviations by metric, which go before all else.
    Kinds of which nothing is known are left out.
    """
    of_cells: dict[tuple[CellName, str], list[Run]] = {}
    for run in runs:
        of_cells.setdefault((run.cell, run.protocol), []).append(run)
    sums = {kind: (prior.sigma**2 * prior.degrees, prior.degrees) for kind, prior in PRIORS.items()}
    measured: dict[Kind, int] = {}
    for (cell, _), of_cell in of_cells.items():
        means = [*mean_of_seeds(of_cell).values()]
        if len(means) > 1:
            kind, degrees = kind_of(cell), len(means) - 1
            total, before = sums.get(kind, (0.0, 0.0))
            sums[kind] = total + variance(means) * degrees, before + degrees
            measured[kind] = measured.get(kind, 0) + degrees
    noise = {
        kind: Noise((total / degrees) ** 0.5, degrees, _source(kind, measured.get(kind, 0)))
        for kind, (total, degrees) in sums.items()
    }
    kinds = {kind_of(cell) for cell, _ in of_cells}
    told = {kind: stated[kind[2]] for kind in kinds if stated and kind[2] in stated}
    return noise | {kind: Noise(sigma, math.inf, "stated by the call") for kind, sigma in told.items()}


def mean_of_seeds(runs: Iterable[Run]) -> dict[int, float]:
    """By seed the mean of its numbers, which differ from night to night where kernels are not deterministic."""
    values: dict[int, list[float]] = {}
    for run in runs:
        values.setdefault(run.seed, []).append(run.value)
    return {seed: fmean(numbers) for seed, numbers in values.items()}


def _source(kind: Kind, measured: int) -> str:
    prior = PRIORS.get(kind)
    words = [f"seeds of the baseline, {measured} degrees of freedom"] if measured else []
    return " and ".join([*words, *([prior.source] if prior else [])])
