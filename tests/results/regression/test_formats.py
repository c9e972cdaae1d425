"""A verdict as text: each format is read back by a reader of its own."""

import io
import json
from xml.etree import ElementTree

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from results import ResultsError
from results.regression.findings import CellName, Finding, Judged, Kind, Severity, Verdict
from results.regression.formats import FORMATS, headline, name_cells, render_verdict
from tests.support.results_examples import read_markdown

MAE = CellName("classification", "imagenet1k", "val", "top1", "MAE", "IN1K", "ViT-B", "mae_vit_base", "imagenet")
RANDOM = MAE._replace(method="random", pretrain_data="", backbone="random_vit_base")
BOXES = CellName("detection", "coco2017", "val", "AP_box", "MAE", "IN1K", "ViT-B", "mae_vit_base", "coco_fpn")
LOST = CellName("segmentation", "ade20k", "", "", "", "", "", "mae_vit_base", "ade20k")
LOSS = MAE._replace(task="pretraining", metric="reconstruction_loss", recipe="mae")

WORSE = Finding(MAE, "accuracy", Severity.regression, "top-1 81.00 %: 2.57 worse (p < 0.0001)", 81.0, 83.57, 2.57, 1e-9)
SLOWER = Finding(MAE, "speed", Severity.regression, "800 images/s: 25.3 % slower", 800.0, 1002.0, 25.25, 0.001)
VANISHED = Finding(RANDOM, "vanished", Severity.unclear, "no such run tonight")
FAILED = Finding(LOST, "failed", Severity.regression, "seed 0 failed: out of memory\nLower batch_per_device")
ELSEWHERE = Finding(MAE, "machine", Severity.notice, "speed is not compared: device A → B")
ELSEWHERE_TOO = Finding(BOXES, "machine", Severity.notice, "speed is not compared: device A → B")
BETTER = Finding(LOSS, "accuracy", Severity.improvement, "0.40 instead of 0.42", 0.4, 0.42, -0.02, 0.01)

JUDGED = (
    Judged(MAE, 81.0, 83.57, 1, 4, 2.57, 1e-9, True, False),
    Judged(BOXES, 50.3, 50.3, 1, 1, 0.0, 1.0, False, True),
    Judged(LOSS, 0.4, 0.42, 1, 4, -0.02, None, False, False),
)
FULL = Verdict(
    (WORSE, SLOWER, FAILED, VANISHED, ELSEWHERE, ELSEWHERE_TOO, BETTER), JUDGED, ("baseline: 4 nights", "CUDA 13")
)
EMPTY = Verdict((), ())


def suite_of(verdict: Verdict) -> ElementTree.Element:
    """The suite of the report, whose numbers are those of its tests, as GitHub's and Jenkins' readers count them."""
    root = ElementTree.fromstring(render_verdict(verdict, "junit").encode())
    assert root.tag == "testsuites"
    (suite,) = root
    tests = suite.findall("testcase")
    kinds = {"failure": "failures", "error": "errors", "skipped": "skipped"}
    assert all(sum(len(test.findall(kind)) for kind in kinds) <= 1 for test in tests)
    counts = {name: str(len(suite.findall(f"testcase/{kind}"))) for kind, name in kinds.items()}
    for element in (root, suite):
        assert element.attrib.items() >= ({"tests": str(len(tests))} | counts).items()
    named = [(test.get("classname"), test.get("name")) for test in tests]
    assert len({*named}) == len(named)
    return suite


def test_text_says_it_in_a_line_and_then_why() -> None:
    text = render_verdict(FULL)
    first, *blocks = text.split("\n\n")
    assert first == (
        "Regression in 2 cells: mae_vit_base on imagenet1k (imagenet), mae_vit_base on ade20k (ade20k); "
        "cannot tell for 1 cell."
    )
    assert [block.splitlines()[0] for block in blocks] == [
        "Regressions", "Cannot tell", "Notices", "Improvements", "baseline: 4 nights",
        "3 cells compared, 1 identical to the last digit.",
    ]  # fmt: skip
    assert blocks[2].splitlines()[1:] == [
        "  mae_vit_base on imagenet1k (imagenet), mae_vit_base on coco2017 (coco_fpn)",
        "    speed is not compared: device A → B",
    ]
    assert "seed 0 failed: out of memory Lower batch_per_device\n" in text


@pytest.mark.parametrize(
    ("findings", "judged", "expected"),
    [
        ((), JUDGED, "No regression in 3 cells."),
        ((ELSEWHERE,), JUDGED[:1], "No regression in 1 cell."),
        ((BETTER,), JUDGED, "No regression in 3 cells, improvement in 1 cell: mae_vit_base on imagenet1k (mae)."),
        ((VANISHED, BETTER), JUDGED, "Cannot tell for 1 cell: random_vit_base on imagenet1k (imagenet)."),
        ((), (), "Nothing was compared."),
    ],
)
def test_the_verdict_in_one_sentence(findings: tuple[Finding, ...], judged: tuple[Judged, ...], expected: str) -> None:
    assert headline(Verdict(findings, judged)) == expected


def test_of_many_cells_some_are_named() -> None:
    cells = [MAE._replace(backbone=f"vit_{number}", recipe="r") for number in range(40)]
    many = Verdict(tuple(Finding(cell, "accuracy", Severity.regression, "worse") for cell in cells), ())
    named = "vit_0 on imagenet1k (r), vit_1 on imagenet1k (r), vit_2 on imagenet1k (r) and 37 more"
    assert headline(many) == f"Regression in 40 cells: {named}."
    assert f"Regressions\n  {named}\n    worse\n" in render_verdict(many)


def test_cells_of_one_name_are_told_apart() -> None:
    large = MAE._replace(model="ViT-B-448", pretrain_data="")
    names = name_cells(Verdict((Finding(large, "vanished", Severity.unclear, "gone"), WORSE, VANISHED), ()))
    assert names[large] == "mae_vit_base on imagenet1k (imagenet), model ViT-B-448"
    assert names[MAE] == "mae_vit_base on imagenet1k (imagenet), pretrain data IN1K, model ViT-B"
    assert names[RANDOM] == "random_vit_base on imagenet1k (imagenet)"


def test_a_failed_seed_is_of_the_cell_whose_others_have_numbers() -> None:
    unknown = CellName("classification", "imagenet1k", "", "", "", "", "", "mae_vit_base", "imagenet")
    verdict = Verdict((Finding(unknown, "failed", Severity.regression, "seed 1 failed"), SLOWER), JUDGED)
    assert headline(verdict) == "Regression in 1 cell: mae_vit_base on imagenet1k (imagenet)."
    tests = suite_of(verdict).findall("testcase[@classname='classification.imagenet1k']")
    assert [test.get("name") for test in tests] == ["mae_vit_base (imagenet)", "mae_vit_base (imagenet), top1"]


def test_csv_is_a_frame() -> None:
    frame = pd.read_csv(io.StringIO(render_verdict(FULL, "csv")), keep_default_na=False, na_values={"value": [""]})
    assert frame.columns.tolist() == FULL.to_frame().columns.tolist()
    assert frame["severity"].tolist() == [finding.severity.value for finding in FULL.findings]
    assert frame["words"].tolist() == [finding.words for finding in FULL.findings]
    assert frame.loc[0, "value"] == 81.0 and float(frame.loc[0, "worse_by"]) == 2.57
    assert frame["value"].isna().tolist() == [finding.value is None for finding in FULL.findings]


def test_markdown_has_a_table_of_findings_and_one_of_cells_that_is_folded() -> None:
    text = render_verdict(FULL, "md")
    assert text.startswith("## Regression in 2 cells: ")
    findings, cells = read_markdown(text)
    assert findings[0] == ["severity", "cell", "what", "by how much"]
    assert [row[3] for row in findings[1:]] == ["2.57 points worse", "25.2 % slower", "", "", "", "", "0.02 better"]
    assert cells[1:] == [
        ["mae_vit_base on imagenet1k (imagenet)", "top-1", "81.00 %", "83.57 %", "1 against 4", "2.57 points worse",
         r"\< 0.0001"],
        ["mae_vit_base on coco2017 (coco_fpn)", "AP box", "50.30 %", "50.30 %", "1 against 1", "identical", "1.0000"],
        ["mae_vit_base on imagenet1k (mae)", "reconstruction loss", "0.4000", "0.4200", "1 against 4", "0.02 better",
         ""],
    ]  # fmt: skip
    folded = text.partition("<details>\n<summary>3 cells compared, 1 identical to the last digit.</summary>\n\n")[2]
    assert folded.endswith("\n\n</details>\n") and "| top-1 |" in folded


def test_markdown_shows_names_as_they_are() -> None:
    cell = MAE._replace(backbone="a|b\n# <b>*c*`d`", recipe="[x](y) &lt; ~~z~~")
    odd = Finding(cell, "vanished", Severity.unclear, "one\n| two |\n")
    tokens = MarkdownIt().enable(["table", "strikethrough"]).parse(render_verdict(Verdict((odd,), ()), "md"))
    shown = ["".join(part.content for part in token.children or ()) for token in tokens if token.type == "inline"]
    name = "a|b # <b>*c*`d` on imagenet1k ([x](y) &lt; ~~z~~)"
    heading, *rows = shown[:9]
    assert heading == f"Cannot tell for 1 cell: {name}."
    assert rows == ["severity", "cell", "what", "by how much", "cannot tell", name, "one | two |", ""]


def test_junit_has_a_test_for_each_cell() -> None:
    suite = suite_of(FULL)
    tests = {(test.get("classname"), test.get("name")): test for test in suite.findall("testcase")}
    assert [*tests] == [
        ("classification.imagenet1k", "mae_vit_base (imagenet), top1"),
        ("classification.imagenet1k", "random_vit_base (imagenet), top1"),
        ("detection.coco2017", "mae_vit_base (coco_fpn), AP_box"),
        ("pretraining.imagenet1k", "mae_vit_base (mae), reconstruction_loss"),
        ("segmentation.ade20k", "mae_vit_base (ade20k)"),
    ]
    worse, vanished, boxes, better, failed = tests.values()
    failure = worse.find("failure")
    assert failure is not None and failure.get("message") == WORSE.words
    assert failure.text == f"accuracy: {WORSE.words}\nspeed: {SLOWER.words}"
    assert "notice: speed is not compared" in (worse.findtext("system-out") or "")
    assert [child.tag for child in vanished] == ["error"] and vanished.find("error[@type='vanished']") is not None
    assert [child.tag for child in boxes] == ["system-out"]
    assert "AP box 50.30 %, in the baseline 50.30 %; runs: 1 against 1; difference: identical" in "".join(
        boxes.itertext()
    )
    assert "improvement: 0.40 instead of 0.42" in (better.findtext("system-out") or "")
    assert failed.find("failure") is not None
    assert "baseline: 4 nights\nCUDA 13" in (suite.findtext("system-out") or "")


@pytest.mark.parametrize(
    ("kind", "severity", "expected"),
    [
        ("failed", Severity.regression, "failure"),
        ("unfinished", Severity.unclear, "error"),
        ("vanished", Severity.unclear, "error"),
        ("appeared", Severity.notice, "skipped"),
        ("machine", Severity.notice, ""),
        ("accuracy", Severity.improvement, ""),
    ],
)
def test_junit_tells_what_failed_what_cannot_be_told_and_what_is_new(
    kind: Kind, severity: Severity, expected: str
) -> None:
    (test,) = suite_of(Verdict((Finding(RANDOM, kind, severity, "why"),), ())).findall("testcase")
    assert [(child.tag, child.get("type"), child.text) for child in test if child.tag != "system-out"] == [
        (tag, kind, f"{kind}: why") for tag in (expected,) if tag
    ]


def test_a_new_protocol_of_a_cell_that_was_compared_skips_no_test() -> None:
    new = Finding(MAE, "appeared", Severity.notice, "new tonight")
    (test,) = suite_of(Verdict((new,), JUDGED[:1])).findall("testcase")
    assert [child.tag for child in test] == ["system-out"] and "notice: new tonight" in "".join(test.itertext())


def test_junit_keeps_what_xml_can_hold() -> None:
    cell = MAE._replace(task="a.b", dataset="c.d", backbone='<x> & "y"\x1b[31m')
    odd = Finding(cell, "failed", Severity.regression, "it said \x00\x1b[0m\udce9\ufffe]]> ü\n<done>")
    (test,) = suite_of(Verdict((odd,), ())).findall("testcase")
    assert (test.get("classname"), test.get("name")) == ("a_b.c_d", '<x> & "y"[31m (imagenet), top1')
    assert test.findtext("failure") == "failed: it said [0m]]> ü\n<done>"


def test_a_cell_under_two_protocols_is_one_test() -> None:
    two = Verdict((), (JUDGED[0], JUDGED[0]))
    (test,) = suite_of(two).findall("testcase")
    assert (test.findtext("system-out") or "").count("top-1 81.00 %") == 2


def test_json_is_all_of_it() -> None:
    odd = Finding(MAE, "speed", Severity.regression, "slower", 800.0, float("nan"), float("inf"), 0.0)
    document = json.loads(render_verdict(Verdict((odd, *FULL.findings), JUDGED, FULL.remarks), "json"))
    assert (document["verdict"], document["status"], document["compared"], document["identical"]) == (
        "regression", 1, 3, 1,
    )  # fmt: skip
    assert [document["findings"][0][name] for name in ("value", "baseline", "worse_by")] == [800.0, None, None]
    assert document["findings"][1] == MAE._asdict() | {
        "kind": "accuracy", "severity": "regression", "words": WORSE.words, "value": 81.0, "baseline": 83.57,
        "worse_by": 2.57, "p_value": 1e-9, "images": None, "images_worse_by": None, "images_p_value": None,
    }  # fmt: skip
    assert document["cells"][1]["identical"] is True and document["cells"][2]["p_value"] is None
    assert document["remarks"] == ["baseline: 4 nights", "CUDA 13"]


def test_of_nothing_every_format_is_whole() -> None:
    assert render_verdict(EMPTY) == "Nothing was compared.\n\n0 cells compared, 0 identical to the last digit.\n"
    assert len(pd.read_csv(io.StringIO(render_verdict(EMPTY, "csv")))) == 0
    assert read_markdown(render_verdict(EMPTY, "md")) == []
    assert json.loads(render_verdict(EMPTY, "json"))["findings"] == []
    assert suite_of(EMPTY).findall("testcase") == []


@pytest.mark.parametrize("format", FORMATS)
def test_all_end_in_one_line_end(format: str) -> None:
    for verdict in (FULL, EMPTY):
        text = render_verdict(verdict, format)
        assert text.endswith("\n") and not text.endswith("\n\n")


def test_another_format_is_refused() -> None:
    with pytest.raises(ResultsError, match='format "html": no such format of a verdict'):
        render_verdict(EMPTY, "html")
