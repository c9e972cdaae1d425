import csv
import io
import re
from typing import Any

import pytest

from results import ResultsError, Table, build_table, render
from results.measurements import Number
from tests.support.results_examples import DEVIATION, make_random, make_record, read_markdown


def everything() -> Table:
    """A table with every kind of cell, and names that each format has to escape."""
    awkward: dict[str, Any] = {"method": r"my_50% |{x}& *new*", "pretrain_data": "[a] ~$#^", "backbone": "mine"}
    records = [make_record(83.4 + seed / 10, seed) for seed in range(3)]
    records += [make_record(83.9, **awkward, ci_low=83.0, ci_high=84.5), make_random(78.25, deviations=[DEVIATION])]
    records += [make_record(30.0, dataset="mini_set", **awkward)]
    return build_table(records, "imagenet")


def test_markdown_is_aligned_and_reads_back_to_the_same_numbers() -> None:
    table = everything()
    text = render(table, "md")
    for grid in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(line) for line in grid.splitlines()}) == 1
    grids = read_markdown(text)
    assert len(grids) == len(table.blocks) == 2
    for block, (_, *lines) in zip(table.blocks, grids, strict=True):
        for row, line in zip(block.rows, lines, strict=True):
            for cell, shown in zip(row.cells, line[len(row.labels) :], strict=True):
                read = [float(number) for number in re.findall(r"\d+\.\d+", shown)]
                if isinstance(cell, Number):
                    kept = [cell.value] if cell.low is None or cell.high is None else [cell.value, cell.low, cell.high]
                else:
                    kept = [] if cell is None else [cell]
                assert read == pytest.approx(kept, abs=0.0501)


def test_csv_reads_back_exactly() -> None:
    table = everything()
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    ours = [line for line in lines if line["published"] == "false"]
    cells = [cell for block in table.blocks for row in block.rows for cell in row.cells if isinstance(cell, Number)]
    assert [float(line["value"]) for line in ours] == [cell.value for cell in cells]
    assert [line["ci_low"] for line in ours] == ["" if cell.low is None else str(cell.low) for cell in cells]
    mae = next(line for line in ours if line["method"] == "MAE")
    assert (mae["seeds"], mae["interval"], mae["split"], mae["n_eval"]) == ("0 1 2", "seeds", "val", "50000")
    assert {line["note"] for line in ours if line["method"] == "random"} == {DEVIATION}
    assert [line["dataset"] for line in ours if line["method"].startswith("my_")] == ["imagenet1k", "mini_set"]


def test_latex_is_balanced_and_escaped() -> None:
    text = render(everything(), "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 2
    assert r"my\_50\% \textbar{}\{x\}\& {*}new{*} & {[}a] \textasciitilde{}\$\#\textasciicircum{}" in text
    assert r"78.2\textsuperscript{\dag{}" in text
    assert r"schedule.epochs=25 (reference 100)" in text
    assert text.isascii()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%$#^~]|(?<!\\)_", body)
    bare = re.sub(r"\\[{}]", "", body)
    assert bare.count("{") == bare.count("}")
    for tabular in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", body, flags=re.DOTALL):
        lines = [line for line in tabular[1].splitlines() if line.endswith(r"\\")]
        assert len(lines) >= 2
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(tabular[0])}


def test_latex_marks_the_best_in_bold() -> None:
    text = render(build_table([make_record(83.4), make_random(78.0)], "imagenet"), "latex")
    assert re.findall(r"\\textbf\{(.*?)\}", text) == ["83.4"]


def test_footnotes_go_on_after_z() -> None:
    records = [
        make_record(50.0, method=f"m{index:02}", deviations=[f"epochs={index} (reference 100)"]) for index in range(28)
    ]
    marks = re.findall(r"^- (†\w+): ", render(build_table(records, "imagenet")), flags=re.MULTILINE)
    assert marks[0] == "†a"
    assert marks[25:] == ["†z", "†aa", "†ab"]


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ResultsError, match=r'"html": no such format.*md, csv, latex'):
        render(build_table([make_record()], "imagenet"), "html")
