"""A command that is repeated does what is left to do, and nothing else."""

import fcntl
import shutil
from pathlib import Path

import pytest

from tests.support.in_process import call, comparable, directory_of, hide_training, record_of, refusal, run


def test_a_finished_run_is_skipped(small: Path, encoder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.classification.task.fine_tune", lambda *arguments, **options: pytest.fail("ran again"))
    before = record_of(finished)
    result = call(*run(small, finished, f"mae_vit_mini={encoder}"))
    assert result.exit_code == 0 and "finished before; nothing to do" in result.output
    assert f"top1 {before['metrics'][0]['value']:.2f}" in result.output
    assert record_of(finished) == before


def test_without_its_record_only_the_evaluation_is_repeated(
    small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    before = record_of(out)
    (directory_of(out) / "record.json").unlink()
    hide_training(monkeypatch)
    assert call(*run(small, out, f"mae_vit_mini={encoder}")).exit_code == 0
    assert comparable(record_of(out)) == comparable(before)


def test_two_processes_do_not_share_a_run(small: Path, finished: Path, encoder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    (directory_of(out) / "record.json").unlink()
    with (directory_of(out) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        message = refusal(*run(small, out, f"mae_vit_mini={encoder}"))
    assert message == f"{directory_of(out)}: another process is at work on this run. Wait for it"


def test_a_broken_record_is_named(small: Path, encoder: Path, finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    record = directory_of(out) / "record.json"
    record.write_text('{"task": ')
    for arguments in (["table", out, "--layout", "imagenet"], run(small, out, f"mae_vit_mini={encoder}")):
        message = refusal(*arguments)
        assert message.startswith(f"{record}: not a record") and "Delete the file and repeat" in message
