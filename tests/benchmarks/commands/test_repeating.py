"""A command that is repeated does what is left to do, and nothing else."""

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks.running.claim import claimed
from tests.support.commands import comparable, read_record, run_directory
from tests.support.finished_runs import assert_skipped
from tests.support.in_process import call, hide_training, refusal, run, success


def test_a_finished_run_is_skipped(small: Path, encoder: Path, finished: Path) -> None:
    arguments = run(small, finished, f"mae_vit_mini={encoder}")
    assert_skipped(arguments, run_directory(finished), "tasks.classification.task.fine_tune", "top1")


def test_without_its_record_only_the_evaluation_is_repeated(
    small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    before = read_record(out)
    (run_directory(out) / "record.json").unlink()
    hide_training(monkeypatch)
    success(*run(small, out, f"mae_vit_mini={encoder}"))
    assert comparable(read_record(out)) == comparable(before)


def test_two_processes_do_not_share_a_run(small: Path, finished: Path, encoder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    (run_directory(out) / "record.json").unlink()
    with claimed(run_directory(out), out, lambda: "task: classification"):
        message = refusal(*run(small, out, f"mae_vit_mini={encoder}"), status=75)
    assert message.startswith(f"{run_directory(out)}: process {os.getpid()} on ")
    assert "is at work on this run since 20" in message and "Wait for it, or stop it" in message


def test_a_broken_record_is_named(small: Path, encoder: Path, finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    record = run_directory(out) / "record.json"
    record.write_text('{"task": ')
    message = refusal(*run(small, out, f"mae_vit_mini={encoder}"), status=3)
    assert message.startswith(f"{record}: not a record") and "Delete the file and repeat" in message
    assert f"passed over: {record}: not a record" in call("table", out, "--layout", "transfer").output


def test_a_metric_of_a_later_version_is_shown_as_it_is(
    small: Path, encoder: Path, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    path = run_directory(out) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"].append({"name": "top3", "value": 3.0, "split": "val"})
    path.write_text(json.dumps(record))
    assert "top3 3.00" in success(*run(small, out, f"mae_vit_mini={encoder}")).output
