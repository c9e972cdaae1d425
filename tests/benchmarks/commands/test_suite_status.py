"""`backbench status`: what people and programs are told of the suites of a store."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.commands import suite_status
from benchmarks.commands.suite_status import screen_of, show_status
from benchmarks.commands.suite_views import cell_lines, head, spell_seconds, standing
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.status import Reader
from results import Metric
from tests.support.in_process import call, refusal, success
from tests.support.stores import ELSEWHERE
from tests.support.suite_stores import make_job, own, put_finished, put_run_of, put_state, put_suite

BOXES = make_job(
    "coco-mae", task="detection", dataset="coco2017", table="coco", expected={"AP_box": 50.3, "AP_mask": 44.9}
)
MISSING = make_job("lost", 1, missing=("weights beit.pth: in /weights",))
AT_WORK, FAILED, TO_DO = make_job("at-work", 2), make_job("failed", 3), make_job("to-do", 4)


@pytest.fixture
def suite(tmp_path: Path) -> SuiteFolder:
    folder = put_suite(tmp_path, BOXES, MISSING, AT_WORK, FAILED, TO_DO)
    metrics = [
        Metric(name="AP_box", value=50.12, split="val", expected=50.3),
        Metric(name="AP_mask", value=44.7, split="val", expected=44.9),
    ]
    put_finished(folder, BOXES, metrics=metrics)
    put_run_of(folder, AT_WORK, update=50, of=100)
    own(folder, AT_WORK, here=False)
    put_state(folder, FAILED, "failed", "out of memory. Lower runtime.batch_per_device")
    return folder


def test_lines_for_programs(suite: SuiteFolder) -> None:
    done = call("status", suite.out)
    assert done.exit_code == 1
    heading, *rows = (line.split("\t") for line in done.stdout.splitlines())
    cells = {row[1]: dict(zip(heading, row, strict=True)) for row in rows}
    assert cells["coco-mae"]["numbers"] == "AP box 50.1, AP mask 44.7 (published 50.3, 44.9)"
    assert cells["at-work"]["progress"] == "update 50 of 100" and cells["at-work"]["loss"] == "0.9500"
    assert (cells["at-work"]["left"], cells["at-work"]["owner"]) == ("1 min", ELSEWHERE.name)
    assert cells["failed"]["reason"].startswith("out of memory")
    assert Path(cells["failed"]["log"]) == suite.path / "cells/failed/log.txt"
    assert [cells[name]["state"] for name in ("lost", "to-do")] == ["missing", "to do"]


def test_one_document(suite: SuiteFolder) -> None:
    done = call("status", suite.out, "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 1 and document["counts"] == {
        "finished": 1, "at work": 1, "failed": 1, "missing": 1, "to do": 1,
    }  # fmt: skip
    (only,) = document["suites"]
    cells = {cell["cell"]: cell for cell in only["cells"]}
    assert cells["coco-mae"]["metrics"] == {"AP_box": 50.12, "AP_mask": 44.7}
    assert cells["coco-mae"]["published"] == {"AP_box": 50.3, "AP_mask": 44.9}
    assert cells["at-work"]["seconds_left"] == 100.0 and cells["at-work"]["update"] == 50
    assert Path(cells["at-work"]["run"]).is_dir()
    assert document["cpu_hours"] == pytest.approx(2.0 + 100 / 3600 + 1.0)  # of what failed


def test_no_published_number_beside_a_run_that_is_held_against_none(tmp_path: Path) -> None:
    """Such as of other data, or with a deviation that only the run knows."""
    folder = put_suite(tmp_path, BOXES)
    put_finished(folder, BOXES, metrics=[Metric(name="AP_box", value=50.12, split="val")])
    (status,) = Reader(tmp_path).read_all()
    assert standing(status.cells[0]) == "AP box 50.1"
    document = json.loads(success("status", tmp_path, "--json").stdout)
    assert document["suites"][0]["cells"][0]["published"] == {}


def test_every_field_of_the_document_is_described(suite: SuiteFolder) -> None:
    document = json.loads(call("status", suite.out, "--json").stdout)
    page = (Path(__file__).parents[3] / "docs/status.md").read_text()
    fields = {*document, *document["suites"][0], *document["suites"][0]["cells"][0]}
    assert fields <= set(re.findall(r"`(\w+)`", page))


def test_nothing_failed(suite: SuiteFolder) -> None:
    put_state(suite, FAILED, "stopped")
    success("status", suite.out)


def test_a_store_without_suites_and_none_at_all(tmp_path: Path) -> None:
    done = success("status", tmp_path)
    assert f"{tmp_path}: no suites; `backbench runs {tmp_path}` lists runs" in done.stderr
    assert json.loads(success("status", tmp_path, "--json").stdout)["suites"] == []
    assert "no such directory" in refusal("status", tmp_path / "nowhere", status=3)
    assert "--watch --json" in refusal("status", tmp_path, "--watch", "--json")


@pytest.mark.parametrize("within", ["suites", "suites/demo"])
def test_within_a_store_its_place_is_told(within: str, tmp_path: Path) -> None:
    (folder := tmp_path / within).mkdir(parents=True)
    assert f"it is within one: `backbench status {tmp_path}`" in success("status", folder).stderr


def test_a_damaged_plan_is_one_line(suite: SuiteFolder) -> None:
    (suite.path / "plan.json").write_text("{")
    done = call("status", suite.out)
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == 2 and "plan.json" in done.stdout


def test_at_a_hundred_columns(suite: SuiteFolder) -> None:
    (status,) = Reader(suite.out).read_all()
    above = [line.plain for line in head(status, 100)]
    assert above[0] == "paper: the paper's tables"
    assert len(above[1]) == 100 and above[1].endswith("━ 1 of 5 finished")
    assert above[2].startswith("1 at work, 1 failed, 1 missing, 1 to do; 3.0 CPU hours so far; about 5 min left")
    lines = [[line.plain for line in several] for several in cell_lines(status.cells)]
    assert lines[0] == ["✓ coco-mae  AP box 50.1, AP mask 44.7 (published 50.3, 44.9)"]
    assert lines[2] == ["▶ at-work   50 %, loss 0.9500, 1 min left", f"    update 50 of 100, {ELSEWHERE.name}"]
    assert lines[3][1:] == [
        "    out of memory. Lower runtime.batch_per_device",
        f"    {suite.path / 'cells/failed/log.txt'}",
    ]
    screen = screen_of([status], 60, 11).plain.splitlines()
    assert len(screen) == 9 and max(map(len, screen)) <= 60
    assert screen[3].startswith("▶ at-work") and screen[-1] == "  and 3 more: backbench status"


def test_trained_and_not_yet_begun(suite: SuiteFolder) -> None:
    put_run_of(suite, TO_DO, update=100, of=100)
    own(suite, TO_DO, here=False)
    own(suite, FAILED, here=False)
    *_, failed, evaluating = Reader(suite.out).read(suite).cells
    assert (standing(evaluating), standing(failed)) == ("evaluating, loss 0.9000", "starting, 3 min left")


def test_watching_lines(
    suite: SuiteFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = iter([lambda: put_finished(suite, TO_DO, 84.0), lambda: put_state(suite, AT_WORK, "failed", "diverged")])

    def sleep(seconds: float) -> None:
        next(turns)()
        (suite.path / "cells/at-work/owner").unlink(missing_ok=True)

    monkeypatch.setattr(suite_status.time, "sleep", sleep)
    assert show_status(suite.out, as_json=False, watch=True) == 1
    counts, *changes = capsys.readouterr().out.splitlines()
    assert counts == "paper: 1 finished, 1 at work, 1 failed, 1 missing, 1 to do"
    assert [line.partition(" ")[2] for line in changes] == [
        "paper at-work: unfinished",
        "paper to-do: finished  top-1 84.0",
        "paper at-work: failed  diverged",
    ]


def test_ctrl_c_ends_watching(suite: SuiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(suite_status.time, "sleep", interrupt)
    put_state(suite, FAILED, "stopped")
    assert show_status(suite.out, as_json=False, watch=True) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3_600, "1 h"), (18_720, "5 h 12 min"), (273_600, "3 d 4 h")],
)
def test_how_long(seconds: float, words: str) -> None:
    assert spell_seconds(seconds) == words
