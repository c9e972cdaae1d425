"""What commands print for programs: lines with tabs where nobody looks on, JSON documents, files; and for people."""

import importlib.metadata
import io
import json
import math
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from backbones.weights.checkpoints import read_checkpoint
from benchmarks.commands.inspection import grouped
from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.running.writing import write_record
from tests.support.commands import read_record, run_directory
from tests.support.in_process import call, refusal, run, success, usage_refusal
from tests.support.results_examples import make_record, read_markdown


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_version() -> None:
    assert success("--version").stdout == f"backbench {importlib.metadata.version('backbench')}\n"


def test_lines_with_tabs_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """rich wraps at 80 columns where there is no terminal."""
    show(Sheet(("name", "text"), [("a", "long " * 50), ("b", "two\nlines\tand a tab")]))
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading == "name\ttext" and first == f"a\t{' '.join(['long'] * 50)}"
    assert second == "b\ttwo lines and a tab"


def test_on_a_terminal_there_are_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    show(Sheet(("name", "count"), [("[a]", "5"), ("longer", "12")], numbers=frozenset({"count"})))
    assert "\t" not in screen.getvalue()
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert [line.split() for line in lines[1:]] == [["[a]", "5"], ["longer", "12"]]
    assert lines[1].index("5") > lines[2].index("12")  # numbers stand on the right


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_paths_are_whole_on_terminals_of_any_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were folded over many lines, from which they could not be copied."""
    screen, path = Screen(), "a store/classification/" + "x" * 30
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    notes = ["", "what there is to say of it, and more"]
    show(Sheet(("what", "path"), [("short", "[a]"), ("longer", path)], is_of_paths=True, notes=notes))
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in screen.getvalue().splitlines()]
    if columns == 80:
        assert lines == ["what    path", "short   [a]", f"longer  {path}", notes[1]]
    else:
        assert lines[:6] == ["what", "path", "short", "[a]", "longer", path]
        assert " ".join(lines[6:]) == notes[1] and all(len(line) <= columns for line in lines[6:])


def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    """NaN is no JSON: jq, and everything but Python, refused the document."""
    print_json({"a": [math.nan, 1.5, (math.inf, "nan")], "b": {"c": -math.inf, "d": None}, "e": Path("f")})
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document == {"a": [None, 1.5, [None, "nan"]], "b": {"c": None, "d": None}, "e": "f"}


@pytest.mark.parametrize("what", ["backbones", "methods", "recipes", "datasets", "weights"])
def test_lists_as_json_hold_what_the_lines_do(what: str) -> None:
    document = json.loads(success("list", what, "--json").stdout)
    sheets = success("list", what).stdout.split("\n\n")
    assert [len(rows) for rows in document.values()] == [sheet.strip().count("\n") for sheet in sheets]
    assert list(document) == (["cells", "files"] if what == "weights" else [what])


def test_a_run_as_json_is_all_there_is_on_stdout(small: Path, encoder: Path, finished: Path, tmp_path: Path) -> None:
    arguments = run(small, tmp_path, f"mae_vit_mini={encoder}")
    planned = json.loads(success(*arguments, "--dry-run", "--json").stdout)
    assert planned["finished"] is None and planned["backbone"] == "mae_vit_mini" and planned["missing"] == []
    result = success(*arguments, "--json")
    document = json.loads(result.stdout)
    assert document["record"] == read_record(tmp_path) and document["skipped"] is False
    assert Path(document["directory"]) == run_directory(tmp_path)
    assert "iterations" in result.stderr
    assert json.loads(success(*arguments, "--json").stdout)["skipped"] is True
    assert json.loads(success(*arguments, "--dry-run", "--json").stdout)["finished"] == document["directory"]


def test_a_plan_that_misses_files_says_so_in_json(tmp_path: Path) -> None:
    result = call(*run(tmp_path / "gone", tmp_path / "out"), "--dry-run", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["missing"] == [str(tmp_path / "gone")]


class TestTables:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> Path:
        """Runs of two layouts."""
        fields = {"task": "segmentation", "dataset": "ade20k", "table": "ade20k"}
        write_record(tmp_path / "runs/a", make_record(83.5))
        write_record(tmp_path / "runs/b", make_record(48.0, metric="mIoU", **fields))
        return tmp_path / "runs"

    def test_without_a_layout_all_that_have_runs(self, runs: Path) -> None:
        text = success("table", runs).stdout
        assert text.startswith("### ImageNet-1K: ") and "### ADE20K: mIoU in %" in text and "COCO" not in text
        assert len(read_markdown(text)) == 2
        lines = success("table", runs, "--format", "csv").stdout.strip().splitlines()
        assert [line for line in lines if line.startswith("table,")] == lines[:1]
        assert {line.partition(",")[0] for line in lines[1:]} == {"imagenet", "ade20k"}

    def test_as_json(self, runs: Path) -> None:
        imagenet, ade20k = json.loads(success("table", runs, "--json").stdout)["tables"]
        assert (imagenet["layout"], ade20k["layout"]) == ("imagenet", "ade20k")
        (ours,) = [number for number in ade20k["numbers"] if not number["published"]]
        assert (ours["value"], ours["metric"], ours["ci_low"]) == (48.0, "mIoU", None)

    @pytest.mark.parametrize(
        ("name", "expected"), [("t.md", "### "), ("t.csv", "table,"), ("t.tex", "% needs"), ("t.json", "{")]
    )
    def test_into_a_file_by_its_suffix(self, runs: Path, tmp_path: Path, name: str, expected: str) -> None:
        result = success("table", runs, "-o", tmp_path / "new" / name)
        assert result.stdout == "" and result.stderr == f"{tmp_path}/new/{name}: imagenet, ade20k\n"
        assert (tmp_path / "new" / name).read_text().startswith(expected)
        assert [path.name for path in (tmp_path / "new").iterdir()] == [name]

    def test_a_format_beats_the_suffix(self, runs: Path, tmp_path: Path) -> None:
        success("table", runs, "-o", tmp_path / "t.txt", "--format", "latex", "--layout", "ade20k")
        assert (tmp_path / "t.txt").read_text().startswith("% needs")

    def test_what_does_not_say_how_is_refused(self, runs: Path, tmp_path: Path) -> None:
        assert "expected a name that ends in .md, .csv" in refusal("table", runs, "-o", tmp_path / "t.xlsx")
        assert "two formats" in refusal("table", runs, "--json", "--format", "csv")
        assert "cannot be written" in refusal("table", runs, "-o", runs / "a/record.json/t.md", status=3)

    def test_runs_of_no_layout(self, pretrained: Path) -> None:
        message = refusal("table", pretrained)
        assert message.startswith("no run belongs to one of the paper's tables. Found: 1 of pretraining on unlabelled")

    def test_pandas_reads_it_back(self, runs: Path, tmp_path: Path) -> None:
        success("table", runs, "-o", tmp_path / "t.csv")
        frame = pd.read_csv(tmp_path / "t.csv")
        assert set(frame[~frame["published"]]["value"]) == {83.5, 48.0}


class TestInspect:
    def test_blocks_are_one_row_unless_all_are_wanted(self, encoder: Path) -> None:
        short = success("inspect", encoder, "--backbone", "mae_vit_mini").stdout
        rows = [line.split("\t") for line in short.splitlines() if line.startswith("loaded\t")]
        (norm,) = [row for row in rows if row[2] == "blocks.0-3.norm1.weight"]
        assert norm[1] == "4" and norm[3] == "blocks.0-3.norm1.weight"
        full = success("inspect", encoder, "--backbone", "mae_vit_mini", "--full").stdout
        each = [line for line in full.splitlines() if line.startswith("loaded\t")]
        assert sum(int(row[1]) for row in rows) == len(each) == 54 and len(rows) < 20
        assert "loaded\tblocks.2.norm1.weight\tblocks.2.norm1.weight" in each

    def test_all_of_nothing_is_refused(self, encoder: Path) -> None:
        assert "give --backbone as well" in usage_refusal("inspect", encoder, "--full")

    def test_what_differs_in_more_than_the_block_stays_apart(self) -> None:
        rows = [("loaded", f"stages.{s}.blocks.{b}.w", f"s{s}.{b}.w, x.{b}") for s in (0, 1) for b in (0, 1, 2)]
        rows += [("loaded", "head.weight", "fc.weight"), ("converted", "stages.0.blocks.7.w", "s0.7.w, x.7")]
        assert grouped(Sheet(("what", "weight", "why"), list(rows))).rows == [
            ("loaded", "3", "stages.0.blocks.0-2.w", "s0.0-2.w, x.0-2"),
            ("loaded", "3", "stages.1.blocks.0-2.w", "s1.0-2.w, x.0-2"),
            ("loaded", "1", "head.weight", "fc.weight"),
            ("converted", "1", "stages.0.blocks.7.w", "s0.7.w, x.7"),
        ]

    def test_as_json(self, encoder: Path) -> None:
        document = json.loads(success("inspect", encoder, "--backbone", "mae_vit_mini", "--json").stdout)
        assert document["sha256"] == read_checkpoint(encoder).sha256
        assert len(document["report"]["used"]) == 54 and "mae_vit_mini" in document["fits"]
        assert document["undefined"] == []
        assert json.loads(success("inspect", encoder, "--json").stdout)["report"] is None

    def test_a_contradiction_is_a_message_and_an_exit_status_alone(self, encoder: Path) -> None:
        result = call("inspect", encoder, "--backbone", "supervised_vit_mini", "--json")
        assert result.exit_code == 2 and result.stdout == ""
        assert "--backbone supervised_vit_mini says supervised" in result.stderr


def test_data_is_called_data_everywhere(small: Path) -> None:
    assert "no problem" in success("data", "check", "folders", "--data", small).stdout
    assert "no problem" in success("data", "check", "folders", "--root", small).stdout
    text = call("data", "check", "--help").output
    assert "--data" in text and "--root" not in text
    assert call("data", "check", "folders").exit_code == 2
