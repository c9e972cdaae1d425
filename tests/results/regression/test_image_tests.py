"""What is told of a paired test on images beside a finding, and what it must not change."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from results import PairedDifference, ResultsError
from results.regression.findings import CellName, Finding, Severity, Verdict
from results.regression.formats import FORMATS, render_verdict
from results.regression.image_tests import ImagesTested, ImageTest, NotKeptError, with_image_tests
from results.regression.joining import Pair
from results.regression.runs import Run
from tests.support.results_examples import read_markdown

TOP1 = CellName("classification", "flowers", "val", "top1", "MAE", "IN1K", "ViT-B", "mae_vit_base", "flowers")
MIOU = TOP1._replace(task="segmentation", dataset="ade20k", metric="mIoU", recipe="ade20k")
BOXES = TOP1._replace(task="detection", dataset="coco2017", metric="AP_box", recipe="coco")
MCE = TOP1._replace(metric="mCE")
WORSE_WORDS = "top-1 81.00 %: 2.57 worse (p < 0.0001; seeds differ by 0.09)"


def finding(cell: CellName, kind: Any, severity: Severity, words: str = "it differs", protocol: str = "p") -> Finding:
    run = Run(cell, "2026-01-01", 0, 80.0, protocol, {})
    return Finding(cell, kind, severity, words, pair=Pair(cell, [run], [run]))


WORSE = finding(TOP1, "accuracy", Severity.regression, WORSE_WORDS)
UNKNOWN = finding(MIOU, "noise", Severity.unclear)
COURSE = finding(BOXES, "behaviour", Severity.notice)


def saying(mean: float = -0.5, p_value: float = 0.001, seeds: tuple[int, ...] = (0,), before: Any = (0,)) -> ImageTest:
    return lambda pair: ImagesTested(5_000, seeds, before, PairedDifference(mean, mean - 0.1, mean + 0.1, p_value))


def refusing(error: Exception) -> Callable[[Pair], ImagesTested]:
    def refuse(pair: Pair) -> ImagesTested:
        raise error

    return refuse


def words_of(findings: Finding | tuple[Finding, ...], test: ImageTest) -> list[str]:
    several = findings if isinstance(findings, tuple) else (findings,)
    return [one.words for one in with_image_tests(Verdict(several, ()), test).findings]


TESTED = "Paired test on 5,000 images, seed 0 of both: 0.50 worse (p 0.0010), more than the choice of images explains"


@pytest.mark.parametrize(
    ("of", "test", "expected"),
    [
        (WORSE, saying(), f"{WORSE_WORDS}. {TESTED}"),
        (UNKNOWN, saying(), f"it differs. {TESTED}; another seed may differ as much"),
        (
            COURSE,
            saying(0.5, 0.05),
            "it differs. Paired test on 5,000 images, seed 0 of both: 0.50 better (p 0.0500), which may be the choice "
            "of images alone",
        ),
        (
            UNKNOWN,
            saying(0.0, 1.0),
            "it differs. Paired test on 5,000 images, seed 0 of both: no difference (p 1.0000)",
        ),
        (
            WORSE,
            saying(seeds=(3,), before=(1,)),
            f"{WORSE_WORDS}. {TESTED.replace('seed 0 of both', 'seed 3 against seed 1 of the baseline')}",
        ),
        (
            WORSE,
            saying(seeds=(0, 1, 2), before=(0, 1, 2)),
            f"{WORSE_WORDS}. {TESTED.replace('seed 0', 'seeds 0, 1, 2')}",
        ),
    ],
)
def test_words(of: Finding, test: ImageTest, expected: str) -> None:
    assert words_of(of, test) == [expected]


def test_of_an_error_less_is_better() -> None:
    (one,) = with_image_tests(Verdict((finding(MCE, "noise", Severity.unclear),), ()), saying(-0.5)).findings
    assert one.images_worse_by == -0.5 and "0.50 better" in one.words


def test_p_values_are_corrected_for_all_that_were_tested() -> None:
    """R's p.adjust(c(0.01, 0.03, 0.04), "holm")."""
    p_values = {TOP1: 0.01, MIOU: 0.03, BOXES: 0.04}
    verdict = with_image_tests(
        Verdict((WORSE, UNKNOWN, COURSE), ()), lambda pair: saying(p_value=p_values[pair.cell])(pair)
    )
    corrected = [(one.images, one.images_worse_by, one.images_p_value) for one in verdict.findings]
    assert corrected == [(5_000, 0.5, pytest.approx(p)) for p in (0.03, 0.06, 0.06)]
    assert [("the choice of images alone" in one.words) for one in verdict.findings] == [False, True, True]


@pytest.mark.parametrize("p_value", [1e-4, 1.0])
def test_it_neither_alarms_nor_acquits(p_value: float) -> None:
    """Whatever images say, all findings and the exit status stay what seeds and courses have made them."""
    random = np.random.default_rng(0)
    kinds = [
        ("accuracy", Severity.regression),
        ("accuracy", Severity.improvement),
        ("noise", Severity.unclear),
        ("behaviour", Severity.notice),
        ("behaviour", Severity.regression),
        ("machine", Severity.notice),
    ]
    for _ in range(200):
        chosen = random.choice(len(kinds), size=random.integers(1, 5), replace=False)
        cells = [TOP1, MIOU, BOXES, MCE]
        before = Verdict(tuple(finding(cells[n % 4], *kinds[n]) for n in sorted(chosen)), ())
        after = with_image_tests(before, saying(random.normal(), p_value))
        assert after.status == before.status
        told = {(one.cell, one.kind, one.severity, one.value, one.p_value) for one in after.findings}
        assert told == {(one.cell, one.kind, one.severity, one.value, one.p_value) for one in before.findings}


def test_only_what_may_be_worse_is_tested() -> None:
    asked: list[Pair] = []

    def test(pair: Pair) -> None:
        asked.append(pair)

    better = finding(MCE, "accuracy", Severity.improvement)
    machine = Finding(TOP1, "machine", Severity.notice, "another GPU")
    of_worse = finding(TOP1, "behaviour", Severity.notice)
    elsewhere = finding(TOP1, "behaviour", Severity.notice, "under another protocol", protocol="q")
    given = Verdict((WORSE, UNKNOWN, COURSE, better, machine, of_worse, elsewhere), ())
    after = with_image_tests(given, test)
    assert [(pair.cell, pair.protocol) for pair in asked] == [(TOP1, "p"), (MIOU, "p"), (BOXES, "p"), (TOP1, "q")]
    assert {*after.findings} == {*given.findings} and after.remarks == ()


def test_a_file_that_does_not_serve_is_told_beside_the_finding() -> None:
    words = words_of((WORSE, UNKNOWN), refusing(ResultsError("runs/per_image.csv: no such file")))
    assert words == [
        f"{of}. Not tested image by image: runs/per_image.csv: no such file" for of in (WORSE_WORDS, "it differs")
    ]


def test_what_one_side_has_not_kept_is_told_once() -> None:
    verdict = Verdict((WORSE, UNKNOWN, replace(WORSE, kind="noise")), (), ("baseline: 1 night",))
    after = with_image_tests(verdict, refusing(NotKeptError("the baseline has kept none")))
    assert {*after.findings} == {*verdict.findings}
    assert after.remarks == (
        "baseline: 1 night", "2 cells not tested image by image: the baseline has kept none",
    )  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_carries_it(format: str) -> None:
    text = render_verdict(with_image_tests(Verdict((WORSE, UNKNOWN), ()), saying()), format)
    words = (
        "Paired test on 5,000 images, seed 0 of both: 0.50 worse (p 0.0020), more than the choice of images explains"
    )
    match format:
        case "csv":
            frame = pd.read_csv(io.StringIO(text), dtype=str)
            assert (
                frame[["images", "images_worse_by", "images_p_value"]].values.tolist() == [["5000", "0.5", "0.002"]] * 2
            )
            assert all(words in one for one in frame["words"])
        case "json":
            findings = json.loads(text)["findings"]
            assert [(one["images"], one["images_worse_by"]) for one in findings] == [(5_000, 0.5)] * 2
            assert all("pair" not in one and words in one["words"] for one in findings)
        case "junit":
            root = ElementTree.fromstring(text.encode())
            (of_worse, unknown) = (root.find(f"*/*/{kind}") for kind in ("failure", "error"))
            for one in (of_worse, unknown):
                assert one is not None and words in (one.text or "") and words in one.get("message", "")
        case "md":
            assert [words in row[2] for row in read_markdown(text)[0][1:]] == [True, True]
        case _:
            assert text.count(words) == 2
