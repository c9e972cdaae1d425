"""`backbench baseline`: what it prints, what it refuses, and what its help says."""

import json
from pathlib import Path

import pytest

from benchmarks.running.baselines import KEPT
from tests.support.baselines import put_run
from tests.support.in_process import call, refusal, success, usage_refusal
from tests.support.suite_stores import make_job, put_finished, put_run_of, put_state, put_suite

JOB, OTHER = make_job("one"), make_job("two", 1)


def put_night(root: Path, day: int) -> Path:
    put_run(root / f"nights/2026-01-{day:02}", 83.0 + day, day=day)
    return root / f"nights/2026-01-{day:02}"


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    for day in (1, 2):
        success("baseline", "promote", put_night(tmp_path, day), "--to", tmp_path / "baseline", "--who", "Ann")
    return tmp_path / "baseline"


@pytest.mark.parametrize("command", [(), ("show",), ("promote",), ("pin",), ("unpin",)])
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    result = call("baseline", *command, "--help")
    assert result.exit_code == 0
    assert " ".join(("Usage: backbench baseline", *command)) in " ".join(result.output.split())


def test_what_is_kept_by_default_is_what_the_help_says() -> None:
    assert f"default: {KEPT}" in " ".join(success("baseline", "promote", "--help").output.split())


def test_of_several_reasons_each_is_kept(baseline: Path, tmp_path: Path) -> None:
    reasons = ("--why", "release 1.0", "--why", "checked by hand", "--who", "Ann")
    success("baseline", "promote", put_night(tmp_path, 3), "--to", baseline, "--fresh", *reasons)
    success("baseline", "pin", baseline, "2026-01-03", *reasons)
    success("baseline", "unpin", baseline, *reasons)
    entries = json.loads(success("baseline", "show", baseline, "--json").stdout)["entries"]
    assert [entry["why"] for entry in entries[-3:]] == ["release 1.0; checked by hand"] * 3


def test_the_nights_and_the_changes_are_shown(baseline: Path) -> None:
    success("baseline", "pin", baseline, "2026-01-01", "--why", "release 1.0", "--who", "Bob")
    nights, changes = success("baseline", "show", baseline).stdout.split("\n\n")
    rows = [line.split("\t") for line in nights.splitlines()]
    assert [row[:3] for row in rows] == [
        ["night", "counts", "runs"],
        ["2026-01-01", "pinned", "1"],
        ["2026-01-02", "no", "1"],
    ]
    lines = [line.split("\t") for line in changes.splitlines()]
    assert lines[0] == ["when", "who", "what", "nights", "why", "from"]
    assert [line[1:5] for line in lines[1:]] == [
        ["Ann", "promote", "2026-01-01", ""],
        ["Ann", "promote", "2026-01-02", ""],
        ["Bob", "pin", "2026-01-01", "release 1.0"],
    ]
    document = json.loads(success("baseline", "show", baseline, "--json").stdout)
    assert (document["counts"], document["pinned"]) == (["2026-01-01"], True)
    assert [(one["night"], one["counts"], one["runs"]) for one in document["nights"]] == [
        ("2026-01-01", True, 1),
        ("2026-01-02", False, 1),
    ]
    assert document["entries"][0]["from"].endswith("nights/2026-01-01") and document["entries"][2]["action"] == "pin"


def test_what_each_change_says(baseline: Path, tmp_path: Path) -> None:
    night = put_night(tmp_path, 3)
    said = success("baseline", "promote", night, "--to", baseline, "--keep", 2, "--who", "Ann").stderr.splitlines()
    assert said == [
        f"{baseline}: 2026-01-03, 1 run added. 2026-01-02, 2026-01-03 count",
        "removed as older than the newest 2: 2026-01-01",
    ]
    said = success("baseline", "promote", night, "--to", baseline, "--keep", 2).stderr.splitlines()
    assert said == [f"{baseline}: 2026-01-03 is there already; nothing to do. 2026-01-02, 2026-01-03 count"]
    said = success("baseline", "pin", baseline, "2026-01-02", "--why", "release", "--who", "Ann").stderr.splitlines()
    assert said == [f"{baseline}. 2026-01-02 counts, pinned"]
    said = success("baseline", "unpin", baseline, "--who", "Ann").stderr.splitlines()
    assert said == [f"{baseline}. 2026-01-02, 2026-01-03 count"]


def test_a_wanted_change_needs_a_reason(baseline: Path, tmp_path: Path) -> None:
    night = put_night(tmp_path, 3)
    assert "--fresh takes a reason" in refusal("baseline", "promote", night, "--to", baseline, "--fresh")
    assert "Missing option '--why'" in usage_refusal("baseline", "pin", baseline, "2026-01-01")
    said = success("baseline", "promote", night, "--to", baseline, "--fresh", "--why", "new crop").stderr
    assert said.endswith("2026-01-03 counts\n")
    assert "promote --fresh" in success("baseline", "show", baseline).stdout


def test_a_night_with_a_failed_cell_is_refused(tmp_path: Path) -> None:
    folder = put_suite(tmp_path / "2026-01-02", JOB, OTHER, name="nightly")
    put_finished(folder, JOB)
    put_state(folder, OTHER, "failed", reason="out of\nmemory")
    call_ = ("baseline", "promote", tmp_path / "2026-01-02", "--to", tmp_path / "baseline", "--who", "Ann")
    assert "1 not finished: two failed: out of memory. Finish the night first, or give --anyway" in refusal(*call_)
    assert not (tmp_path / "baseline").exists()
    success(*call_, "--anyway")
    assert len(list((tmp_path / "baseline/2026-01-02").rglob("record.json"))) == 1


def test_a_store_with_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    night = put_night(tmp_path, 2)
    put_run_of(put_suite(tmp_path / "elsewhere", OTHER), OTHER).parent.parent.rename(night / "unfinished")
    assert "unfinished" in refusal("baseline", "promote", night, "--to", tmp_path / "baseline")
    success("baseline", "promote", night, "--to", tmp_path / "baseline", "--anyway", "--who", "Ann")


def test_other_numbers_are_refused(baseline: Path, tmp_path: Path) -> None:
    put_run(tmp_path / "other/2026-01-02", 70.0)
    message = refusal("baseline", "promote", tmp_path / "other/2026-01-02", "--to", baseline)
    assert "there already with other numbers" in message and "top1 85.0" in message and "top1 70.0" in message


def test_what_is_not_there_is_refused(baseline: Path, tmp_path: Path) -> None:
    assert "no such directory" in refusal("baseline", "promote", tmp_path / "none", "--to", baseline)
    assert "baseline.yaml: no such file" in refusal("baseline", "show", tmp_path / "none")
    (baseline / "baseline.yaml").write_text("counts: [yesterday]\n")
    assert 'baseline.yaml, line 1, key "counts.0": expected a date' in refusal("baseline", "show", baseline)
