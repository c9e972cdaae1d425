"""An --out that cannot be written to, from the beginning or suddenly."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.commands import comparable, read_record, run_directory
from tests.support.finished_runs import assert_record_was_written_last
from tests.support.in_process import (
    FullDisk,
    assert_nothing_is_half_written,
    call,
    hide_training,
    pretrain,
    refusal,
    refusal_on_a_full_disk,
    run,
    success,
)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_way(small: Path, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / below
    message = refusal(*pretrain(small / "unlabelled", out), status=3)
    assert message == f"--out {out}: cannot be written to (Not a directory). Choose another directory"


def test_a_read_only_directory(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = refusal(*run(small, tmp_path / "out"), status=3)
    assert message == f"--out {tmp_path}/out: cannot be written to (Permission denied). Choose another directory"


def test_missing_parents_are_created(small: Path, tmp_path: Path) -> None:
    success(*run(small, tmp_path / "a/b/c"))
    assert (tmp_path / "a/b/c/results.csv").is_file()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
@pytest.mark.parametrize(
    "full",
    [
        "log.jsonl",
        "iteration_2.pth",
        "encoder.pth",
        "reconstruction_2.png",
        "events.out.tfevents",
        "recipe.yaml",
        "record.json",
    ],
)
def test_a_full_disk_while_pretraining(small: Path, pretrained: Path, tmp_path: Path, full: str) -> None:
    message = refusal_on_a_full_disk(pretrain(small / "unlabelled", tmp_path), tmp_path, full)
    assert str(tmp_path) in message and "No space left" in message.replace("no space is left", "No space left")
    success(*pretrain(small / "unlabelled", tmp_path))
    assert comparable(read_record(tmp_path)) == comparable(read_record(pretrained))
    assert len(pd.read_csv(tmp_path / "results.csv")) == 1


def test_the_engines_own_log_is_given_up_in_silence(small: Path, tmp_path: Path) -> None:
    with FullDisk(tmp_path, "engine.log") as disk:
        result = call(*pretrain(small / "unlabelled", tmp_path))
    assert disk.hits and result.exit_code == 0
    assert "Traceback" not in result.output and "No space left" not in result.output


@pytest.mark.parametrize("full", ["per_image.csv", "record.json"])
def test_a_full_disk_after_fine_tuning(
    small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    arguments = run(small, tmp_path, f"mae_vit_mini={encoder}")
    message = refusal_on_a_full_disk(arguments, tmp_path, full)
    assert full in message and "no space is left" in message
    hide_training(monkeypatch)
    success(*arguments)
    assert comparable(read_record(tmp_path)) == comparable(read_record(finished))
    measured = {"top1", "top5", "loss", "mean_class_accuracy", "ECE"}
    assert set(pd.read_csv(tmp_path / "results.csv")["metric"]) == measured


def test_a_full_disk_for_results_csv_is_told_and_spoils_no_finished_run(
    small: Path, encoder: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = run(small, tmp_path, f"mae_vit_mini={encoder}")
    with FullDisk(tmp_path, ".results.csv.") as disk:
        output = success(*arguments).output
    assert disk.hits
    assert (
        output.count("backbench: ") == output.count(f"{tmp_path}/results.csv: cannot be written, no space is left") == 1
    )
    assert comparable(read_record(tmp_path)) == comparable(read_record(finished))
    assert not (tmp_path / "results.csv").exists()
    hide_training(monkeypatch)
    success(*arguments)
    assert len(pd.read_csv(tmp_path / "results.csv")) == 5


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(small: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(38 << 20))
        message = refusal(*pretrain(small / "unlabelled", disk / "out"), status=75)
        assert "iteration_2.pth: cannot be written (No space left on device). Make room" in message
        assert_nothing_is_half_written(disk / "out")
        ballast.unlink()
        success(*pretrain(small / "unlabelled", disk / "out"))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_the_record_is_written_last(finished: Path, pretrained: Path) -> None:
    assert_record_was_written_last(run_directory(finished), "per_image.csv", "checkpoints/*.pth", "tensorboard/*")
    assert_record_was_written_last(run_directory(pretrained), "pictures/*.png", "checkpoints/encoder.pth")
