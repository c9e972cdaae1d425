"""Beside what seeds and courses have found: whether the runs differ on the very same images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from results.errors import ResultsError
from results.metrics import find_metric
from results.regression.accuracy import holm, worse_by
from results.regression.findings import Finding, Severity, Verdict, in_order
from results.regression.joining import Pair
from results.regression.wording import counted, spell_p
from results.statistics import PairedDifference

LEVEL = 0.05
"""Of the corrected p-value, below which the choice of images does not explain a difference. It alarms nobody."""


@dataclass(frozen=True)
class ImagesTested:
    """Runs of both sides, tested on the same images.

    seeds:      those of tonight's runs, and `baseline_seeds` those of the baseline's
    difference: tonight's metric less the baseline's, with a two-sided p-value over the images
    """

    images: int
    seeds: tuple[int, ...]
    baseline_seeds: tuple[int, ...]
    difference: PairedDifference


class NotKeptError(ResultsError):
    """That one side alone has results image by image, which is no fault of a file."""


ImageTest = Callable[[Pair], ImagesTested | None]
"""Tests the runs of both sides of a cell; None where neither has results image by image. Raises NotKeptError where one
side alone has, ResultsError for files that do not serve."""


def with_image_tests(verdict: Verdict, test: ImageTest) -> Verdict:
    """The verdict, in which each cell that is worse, is not known to be, or took another course is tested by images.

    The test takes the trained networks as they are: two seeds of equal code differ in it, too. So it is evidence that
    is told in a finding's words, and neither makes a finding nor changes the severity of one. p-values are corrected
    for how many were tested (Holm), apart from those that alarm. A file that does not serve is told in their place.
    """
    tested: dict[Finding, ImagesTested] = {}
    told: dict[Finding, Finding] = {}
    lacking: dict[str, list[str]] = {}
    for finding, pair in _candidates(verdict.findings):
        try:
            if found := test(pair):
                tested[finding] = found
        except NotKeptError as error:
            lacking.setdefault(str(error), []).append(str(finding.cell))
        except ResultsError as error:
            told[finding] = replace(finding, words=_joined(finding.words, f"Not tested image by image: {error}"))
    corrected = holm([one.difference.p_value for one in tested.values()])
    for (finding, found), p_value in zip(tested.items(), corrected, strict=True):
        told[finding] = _with(finding, found, p_value)
    findings = in_order(told.get(finding, finding) for finding in verdict.findings)
    return replace(verdict, findings=findings, remarks=(*verdict.remarks, *_remarks(lacking)))


def _candidates(findings: Sequence[Finding]) -> Iterable[tuple[Finding, Pair]]:
    """Those whose runs are tested, with them: of a changed course only where the cell's number has no such finding."""
    about = [
        (finding, finding.pair) for finding in findings if finding.pair and finding.severity is not Severity.improvement
    ]
    numbers = {(pair.cell, pair.protocol) for finding, pair in about if finding.kind != "behaviour"}
    for finding, pair in about:
        if finding.kind != "behaviour" or (pair.cell, pair.protocol) not in numbers:
            yield finding, pair


def _with(finding: Finding, found: ImagesTested, p_value: float) -> Finding:
    size = worse_by(finding.cell.metric, found.difference.mean, 0.0)
    shown = find_metric(finding.cell.metric).shown_size(abs(size))
    way = f"{shown} {'worse' if size > 0 else 'better'}" if size else "no difference"
    conclusion = f", {_meaning(finding, p_value)}" if size else ""
    images = f"{found.images:,} image{'' if found.images == 1 else 's'}"
    words = f"Paired test on {images}, {_of_seeds(found)}: {way} (p {spell_p(p_value)}){conclusion}"
    return replace(
        finding,
        words=_joined(finding.words, words),
        images=found.images,
        images_worse_by=size,
        images_p_value=p_value,
    )


def _meaning(finding: Finding, p_value: float) -> str:
    if p_value >= LEVEL:
        return "which may be the choice of images alone"
    of_seeds = "" if finding.kind == "accuracy" else "; another seed may differ as much"
    return f"more than the choice of images explains{of_seeds}"


def _of_seeds(found: ImagesTested) -> str:
    now, before = (_seeds(seeds) for seeds in (found.seeds, found.baseline_seeds))
    return f"{now} of both" if now == before else f"{now} against {before} of the baseline"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _remarks(lacking: dict[str, list[str]]) -> list[str]:
    return [f"{counted(len({*cells}), 'cell')} not tested image by image: {why}" for why, cells in lacking.items()]


def _joined(words: str, sentence: str) -> str:
    return f"{words.rstrip('.')}. {sentence}"
