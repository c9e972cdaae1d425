"""A verdict as text: at a terminal, in the summary of a job, for programs, and for readers of test reports."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any
from xml.etree import ElementTree

from results.errors import ResultsError
from results.metrics import find_metric
from results.record import spell_out
from results.regression.findings import NOT_SHOWN, CellName, Finding, Judged, Severity, Verdict
from results.regression.wording import counted, spell_p

_HEADINGS = {
    Severity.regression: "Regressions",
    Severity.unclear: "Cannot tell",
    Severity.notice: "Notices",
    Severity.improvement: "Improvements",
}
_VERDICTS = {0: "no regression", 1: "regression", 3: "cannot tell"}
"""By exit status."""

_MOST_NAMED = 3
"""Cells that one sentence names."""

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write (section 2.2)."""

_MARKED = re.compile(r"([\\|*`<\[~&])")
"""Characters that mean something in GitHub's Markdown, within a line."""


def render_verdict(verdict: Verdict, format: str = "text") -> str:
    """The verdict as text that ends in one newline. `format` is one of `FORMATS`. Raises ResultsError for another."""
    if format not in FORMATS:
        raise ResultsError(f'format "{format}": no such format of a verdict. There are: {", ".join(FORMATS)}')
    return FORMATS[format](verdict)


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence, with the cells that it is about."""
    names = name_cells(verdict)
    worse, unclear, better = (
        [*dict.fromkeys(names[finding.cell] for finding in verdict.of(severity))]
        for severity in (Severity.regression, Severity.unclear, Severity.improvement)
    )
    if worse:
        others = f"; cannot tell for {counted(len(unclear), 'cell')}" if unclear else ""
        return f"Regression in {counted(len(worse), 'cell')}: {_listed(worse)}{others}."
    if unclear:
        return f"Cannot tell for {counted(len(unclear), 'cell')}: {_listed(unclear)}."
    if not verdict.cells:
        return "Nothing was compared."
    improved = f", improvement in {counted(len(better), 'cell')}: {_listed(better)}" if better else ""
    return f"No regression in {counted(len(verdict.cells), 'cell')}{improved}."


def to_text(verdict: Verdict) -> str:
    """For a terminal: the verdict in one line, findings by severity, what holds for all cells, and their number."""
    names = name_cells(verdict)
    blocks = [headline(verdict)]
    for severity, heading in _HEADINGS.items():
        same: dict[str, list[str]] = {}
        for finding in verdict.of(severity):
            same.setdefault(_one_line(finding.words), []).append(names[finding.cell])
        lines = [f"  {_listed([*dict.fromkeys(cells)])}\n    {words}" for words, cells in same.items()]
        blocks += ["\n".join([heading, *lines])] if lines else []
    blocks += ["\n".join(_one_line(remark) for remark in verdict.remarks)] if verdict.remarks else []
    return "\n\n".join([*blocks, _compared(verdict)]) + "\n"


def to_csv(verdict: Verdict) -> str:
    """One finding a line, at full precision, in the columns of `Verdict.to_frame`."""
    return verdict.to_frame().to_csv(index=False, lineterminator="\n")


def to_markdown(verdict: Verdict) -> str:
    """For the summary of a job on GitHub: a table of findings, and one of all compared cells that is folded."""
    names = name_cells(verdict)
    findings = [
        (finding.severity.value, names[finding.cell], finding.words, _by_how_much(finding))
        for finding in verdict.findings
    ]
    cells = [(names[cell.cell], *_numbers_of(cell)) for cell in verdict.cells]
    parts = [
        f"## {_escape(headline(verdict))}",
        _grid(("severity", "cell", "what", "by how much"), findings),
        "\n".join(f"- {_escape(remark)}" for remark in verdict.remarks),
        f"<details>\n<summary>{_escape(_compared(verdict))}</summary>",
        _grid(("cell", "metric", "now", "baseline", "runs", "difference", "p"), cells),
        "</details>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(verdict: Verdict) -> str:
    """One document with all that the verdict has; null for a number that is not known."""
    document = {
        "verdict": _VERDICTS[verdict.status],
        "status": verdict.status,
        "summary": headline(verdict),
        "compared": len(verdict.cells),
        "identical": verdict.identical,
        "findings": [_as_dict(finding) for finding in verdict.findings],
        "cells": [_as_dict(cell) for cell in verdict.cells],
        "remarks": list(verdict.remarks),
    }
    return f"{json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)}\n"


def to_junit(verdict: Verdict) -> str:
    """JUnit's XML, as GitHub's actions and Jenkins read it: a test for each cell and metric.

    A regression is a failure, and so is a cell that failed; what cannot be told is an error, also where the cell has
    only not been begun, or has vanished: a test that is skipped is green, and such a night is not. Skipped is a cell
    that is new, which nothing is to be held against. `type` says what it is about. Of a regression and something else,
    a test is a failure. Readers that count elements and those that count tests find the same numbers: a test has one
    of them, with all of its findings as text.
    """
    further = _distinctions(_cells_of(verdict))
    of_cell: dict[CellName, list[Finding]] = {cell: [] for cell in further}
    for finding in verdict.findings:
        of_cell[finding.cell].append(finding)
    numbers: dict[CellName, list[str]] = {}
    for judged in verdict.cells:
        numbers.setdefault(judged.cell, []).append(_in_words(judged))
    tests = [_test(cell, further[cell], findings, numbers.get(cell, [])) for cell, findings in sorted(of_cell.items())]
    counts = {
        "tests": str(len(tests)),
        "failures": str(sum(test.find("failure") is not None for test in tests)),
        "errors": str(sum(test.find("error") is not None for test in tests)),
        "skipped": str(sum(test.find("skipped") is not None for test in tests)),
        "time": "0",
    }
    root = ElementTree.Element("testsuites", {"name": "backbench regress", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "backbench regress", **counts})
    suite.extend(tests)
    told = "\n".join([headline(verdict), *verdict.remarks, _compared(verdict)])
    ElementTree.SubElement(suite, "system-out").text = _for_xml(told)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


FORMATS: Mapping[str, Callable[[Verdict], str]] = {
    "text": to_text,
    "csv": to_csv,
    "md": to_markdown,
    "json": to_json,
    "junit": to_junit,
}


def name_cells(verdict: Verdict) -> dict[CellName, str]:
    """What each cell is called: backbone, data set and recipe, and what else tells it from others of the verdict."""
    return {cell: f"{_short(cell)}{further}" for cell, further in _distinctions(_cells_of(verdict)).items()}


def _cells_of(verdict: Verdict) -> list[CellName]:
    found = [*(finding.cell for finding in verdict.findings), *(judged.cell for judged in verdict.cells)]
    return [*dict.fromkeys(found)]


def _distinctions(cells: Iterable[CellName]) -> dict[CellName, str]:
    """For each cell ", model ViT-L" and the like, where its short name is another's too; else nothing."""
    alike: dict[str, list[CellName]] = {}
    for cell in cells:
        alike.setdefault(_short(cell), []).append(cell)
    found = {}
    for group in alike.values():
        known = [cell for cell in group if cell.metric]  # of one without a run that is not known
        names = [name for name in CellName._fields if len({getattr(cell, name) for cell in known}) > 1]
        for cell in group:
            told = [f", {name.replace('_', ' ')} {getattr(cell, name)}" for name in names if getattr(cell, name)]
            found[cell] = _one_line("".join(told))
    return found


def _short(cell: CellName) -> str:
    """A cell's name, of which a part may be unknown where it has no run."""
    dataset = f" on {cell.dataset}" if cell.dataset else ""
    recipe = f" ({cell.recipe})" if cell.recipe else ""
    return _one_line(f"{cell.backbone}{dataset}{recipe}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _compared(verdict: Verdict) -> str:
    return f"{counted(len(verdict.cells), 'cell')} compared, {verdict.identical} identical to the last digit."


def _by_how_much(finding: Finding) -> str:
    if finding.worse_by is None:
        return ""
    is_worse, size = finding.worse_by >= 0, abs(finding.worse_by)
    match finding.kind:
        case "speed":
            return f"{size:.1f} % {'slower' if is_worse else 'faster'}"
        case "memory":
            return f"{size:.1f} % {'more' if is_worse else 'less'}"
    return _difference(finding.cell.metric, finding.worse_by)


def _difference(metric: str, worse_by: float) -> str:
    """Such as "0.42 points worse", or "0.0123 better" of a loss."""
    kind, way = find_metric(metric), "worse" if worse_by > 0 else "better"
    return f"{kind.shown_size(abs(worse_by))}{' points' if kind.unit else ''} {way}" if worse_by else "none"


def _numbers_of(judged: Judged) -> tuple[str, ...]:
    metric = find_metric(judged.cell.metric)
    p_value = "" if judged.p_value is None else spell_p(judged.p_value)
    difference = "identical" if judged.identical else _difference(metric.name, judged.worse_by)
    runs = f"{judged.runs} against {judged.baseline_runs}"
    return metric.label, metric.shown(judged.value), metric.shown(judged.baseline), runs, difference, p_value


def _in_words(judged: Judged) -> str:
    label, now, before, runs, difference, _ = _numbers_of(judged)
    return f"{label} {now}, in the baseline {before}; runs: {runs}; difference: {difference}"


def _test(cell: CellName, further: str, findings: Sequence[Finding], numbers: Sequence[str]) -> ElementTree.Element:
    place = ".".join(part.replace(".", "_") for part in (cell.task, cell.dataset) if part) or "suite"
    recipe, metric = f" ({cell.recipe})" if cell.recipe else "", f", {cell.metric}" if cell.metric else ""
    name = f"{cell.backbone}{recipe}{metric}{further}"
    test = ElementTree.Element("testcase", {"classname": _for_xml(place), "name": _for_xml(name), "time": "0"})
    outcome, told = _outcome(findings, is_compared=bool(numbers))
    if told:
        about = {"type": told[0].kind, "message": _for_xml(" ".join(told[0].words.split()))}
        lines = [f"{finding.kind}: {finding.words}" for finding in told]
        ElementTree.SubElement(test, outcome, about).text = _for_xml("\n".join(lines))
    others = [f"{finding.severity.value}: {finding.words}" for finding in findings if finding not in told]
    if numbers or others:
        ElementTree.SubElement(test, "system-out").text = _for_xml("\n".join([*numbers, *others]))
    return test


def _outcome(findings: Sequence[Finding], *, is_compared: bool) -> tuple[str, list[Finding]]:
    """The element that tells a test apart from those that passed, and what it says; nothing of one that passed."""
    for severity, name in ((Severity.regression, "failure"), (Severity.unclear, "error")):
        if told := [finding for finding in findings if finding.severity is severity]:
            return name, told
    return "skipped", [finding for finding in findings if finding.kind == "appeared" and not is_compared]


def _as_dict(one: Finding | Judged) -> dict[str, Any]:
    own = {field.name: getattr(one, field.name) for field in fields(one) if field.name not in NOT_SHOWN}
    return one.cell._asdict() | {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in own.items()
    }


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [headings, ["---"] * len(headings), *([_escape(entry) for entry in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    return _MARKED.sub(r"\\\1", _one_line(text))


def _for_xml(text: str) -> str:
    return _NO_XML.sub("", text)


def _one_line(text: str) -> str:
    return spell_out(" ".join(text.split()))
