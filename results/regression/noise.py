"""How far the numbers of equal cells lie apart, from seed to seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance

from results.regression.findings import CellName
from results.regression.runs import Run

Kind = tuple[str, str, str]
"""Task, data set and metric: what cells have in common whose noise is held to be alike."""

OfCell = tuple[CellName, str]
"""A cell under one protocol."""

UNLIKE = 0.002
"""Below which p-value of the variances' quotient (F) a cell is held to be noisier than all others of its kind. Of 40
that are alike one is in one baseline of 12, and 3 sigma of it are then hardly found; with 14 seeds each, one of three
times the others' sigma is in 99 of 100."""

_LEAST = 0.01
"""The share of equal cells whose variances are taken for the greatest of these, in logarithms: seeds that agree to the
last digit, as those of a cell at 100 %, would else say that no two cells are alike."""

_SHARE_OF_IMAGES = "top1"
"""How the names of metrics end that are shares of the images, or means of several: those of probes, too."""

_ROUNDING = 0.5
"""In steps of 1 / n, the standard deviation of a share of n images that is one of two neighbours as often as the other:
no number that only rounding moves has more."""


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
    return _pooled({one: _variance_of_seeds(of_cell) for one, of_cell in _by_cell(runs).items()}, stated)


def noise_of_cells(runs: Iterable[Run], stated: Mapping[str, float] | None = None) -> dict[OfCell, Noise]:
    """The noise of each cell and protocol: that of its kind, as far as its own seeds bear it out.

    The variances of a kind's cells tell how unlike cells are. Where they differ no more than samples do, the pooled one
    counts for all; else it counts with so many degrees of freedom as fit how they differ, beside the cell's own (Smyth
    2004, "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments").
    A cell that is noisier than all others together (`UNLIKE`) has its own alone: one of ten times their sigma, judged
    by the pooled one, would alarm in one night of four. No sigma is below what a share of so many images is rounded by.
    What `stated` gives holds for all cells.
    """
    of_cells = _by_cell(runs)
    own = {one: _variance_of_seeds(of_cell) for one, of_cell in of_cells.items()}
    found: dict[OfCell, Noise] = {}
    for kind, pooled in _pooled(own, stated).items():
        prior = PRIORS.get(kind)
        cells = [one for one in of_cells if kind_of(one[0]) == kind]
        known = [own[one] for one in cells if own[one][1]] + ([(prior.sigma**2, prior.degrees)] if prior else [])
        alike = math.inf if math.isinf(pooled.degrees) else _degrees_of_likeness(known, pooled.sigma**2)
        for one in cells:
            noise = _moderated(pooled, alike, *own[one])
            measured = not math.isinf(noise.degrees)
            found[one] = replace(noise, sigma=max(noise.sigma, _rounding(of_cells[one]))) if measured else noise
    return found


def mean_of_seeds(runs: Iterable[Run]) -> dict[int, float]:
    """By seed the mean of its numbers, which differ from night to night where kernels are not deterministic."""
    values: dict[int, list[float]] = {}
    for run in runs:
        values.setdefault(run.seed, []).append(run.value)
    return {seed: fmean(numbers) for seed, numbers in values.items()}


def _pooled(
    variances: Mapping[OfCell, tuple[float, int]], stated: Mapping[str, float] | None = None
) -> dict[Kind, Noise]:
    """As `pool_noise`, of each cell's variance between seeds with its degrees of freedom."""
    sums = {kind: (prior.sigma**2 * prior.degrees, prior.degrees) for kind, prior in PRIORS.items()}
    measured: dict[Kind, int] = {}
    for (cell, _), (of_cell, degrees) in variances.items():
        if degrees:
            kind = kind_of(cell)
            total, before = sums.get(kind, (0.0, 0.0))
            sums[kind] = total + of_cell * degrees, before + degrees
            measured[kind] = measured.get(kind, 0) + degrees
    noise = {
        kind: Noise((total / degrees) ** 0.5, degrees, _source(kind, measured.get(kind, 0)))
        for kind, (total, degrees) in sums.items()
    }
    kinds = {kind_of(cell) for cell, _ in variances}
    told = {kind: stated[kind[2]] for kind in kinds if stated and kind[2] in stated}
    return noise | {kind: Noise(sigma, math.inf, "stated by the call") for kind, sigma in told.items()}


def _by_cell(runs: Iterable[Run]) -> dict[OfCell, list[Run]]:
    of_cells: dict[OfCell, list[Run]] = {}
    for run in runs:
        of_cells.setdefault((run.cell, run.protocol), []).append(run)
    return of_cells


def _variance_of_seeds(runs: Iterable[Run]) -> tuple[float, int]:
    """With its degrees of freedom, 0 of a single seed."""
    means = [*mean_of_seeds(runs).values()]
    return (variance(means), len(means) - 1) if len(means) > 1 else (0.0, 0)


def _rounding(runs: Sequence[Run]) -> float:
    """The greatest standard deviation of an accuracy's rounding, in points: a share of n images has steps of 1 / n.

    That of a uniform error, 1 / sqrt(12) steps, is too little: by it a single image that falls differently after five
    equal seeds would alarm, which the sixth of six seeds is as likely to do as any other.
    """
    images = runs[-1].row["n_eval"]
    return 100 * _ROUNDING / float(images) if runs[-1].cell.metric.endswith(_SHARE_OF_IMAGES) and images else 0.0


def _degrees_of_likeness(variances: Sequence[tuple[float, float]], pooled: float) -> float:
    """Of how many degrees of freedom a kind's variance is of a cell that was not run; infinite where cells are alike.

    The logarithms of variances of d degrees of freedom vary by trigamma(d / 2) where cells are alike. What they vary by
    beyond that is trigamma of half of what is looked for. What is below that of `_LEAST` counts as that, by the median
    of the variances, which a noisy cell does not move.
    """
    import numpy as np
    from scipy.optimize import brentq  # type: ignore[import-untyped]
    from scipy.special import digamma, gammaincinv, polygamma  # type: ignore[import-untyped]

    if len(variances) < 2 or pooled == 0:
        return math.inf
    values, halves = np.array(variances).T * [[1], [0.5]]
    middle = float(np.median(values * halves / gammaincinv(halves, 0.5))) or pooled
    least_values = gammaincinv(halves, _LEAST) / halves * middle
    logs = np.log(np.maximum(values, least_values)) - digamma(halves) + np.log(halves)
    beyond = float(logs.var(ddof=1) - polygamma(1, halves).mean())
    least, most = 1e-3, 1e6
    if beyond <= polygamma(1, most):
        return math.inf
    return 2 * float(brentq(lambda half: polygamma(1, half) - beyond, least, most))


def _moderated(pooled: Noise, alike: float, own: float, degrees: int) -> Noise:
    from scipy.special import fdtrc

    others = pooled.degrees - degrees
    if math.isinf(pooled.degrees) or not others:
        return pooled
    of_others = (pooled.sigma**2 * pooled.degrees - own * degrees) / others
    if degrees and own > 0 and (of_others <= 0 or fdtrc(degrees, others, own / of_others) < UNLIKE):
        return Noise(own**0.5, degrees, f"seeds of this cell, {degrees} degrees of freedom")
    if math.isinf(alike):
        return pooled
    sigma = ((alike * pooled.sigma**2 + degrees * own) / (alike + degrees)) ** 0.5
    return Noise(sigma, min(alike + degrees, pooled.degrees), f"{pooled.source}, cells unlike")


def _source(kind: Kind, measured: int) -> str:
    prior = PRIORS.get(kind)
    words = [f"seeds of the baseline, {measured} degrees of freedom"] if measured else []
    return " and ".join([*words, *([prior.source] if prior else [])])
