"""Starting a run: its first line, `--processes`, srun, and models in the current folder."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.launcher import LaunchConfig

from backbones.errors import InputError
from benchmarks.commands.statuses import after_repeating
from benchmarks.running import launching
from benchmarks.running.launching import _status, is_to_launch
from tests.support.commands import PATIENCE, last_checkpoint, read_record, run_directory
from tests.support.in_process import pretrain, refusal, run, success

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = [sys.executable, "-P", "-c", "from benchmarks.commands.cli import main; main()"]
"""What the console script is: without the current folder before the installed packages."""


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The console script in that folder."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
    )


def first_line(output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith(("starts: ", "goes on: "))]
    return line


class TestTheFirstLine:
    def test_it_says_how_and_where_a_run_starts(self, small: Path, tmp_path: Path) -> None:
        result = success(*run(small, tmp_path, precision="fp32", runtime__batch_per_device=4, runtime__device="cpu"))
        line = first_line(result.stderr)
        assert " cores; 1 process; fp32; batch 16 = 1 × 4 × 4 (processes × images each × accumulation); " in line
        assert "; normalisation mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (ImageNet's); " in line
        assert line.startswith("starts: ") and line.endswith(f"; in {run_directory(tmp_path)}; from the beginning")
        again = success(*run(small, tmp_path, precision="fp32"))
        assert "starts: " not in again.output and "goes on: " not in again.output

    def test_it_says_from_which_update_it_goes_on(self, small: Path, pretrained: Path, tmp_path: Path) -> None:
        out = Path(shutil.copytree(pretrained, tmp_path / "out"))
        (run_directory(out) / "record.json").unlink()
        line = first_line(success(*pretrain(small / "unlabelled", out)).stderr)
        assert line.startswith("goes on: ") and line.endswith("; from update 2")

    def test_a_checkpoint_that_cannot_be_read_is_not_what_it_goes_on_from(
        self, small: Path, pretrained: Path, tmp_path: Path
    ) -> None:
        out = Path(shutil.copytree(pretrained, tmp_path / "out"))
        (run_directory(out) / "record.json").unlink()
        whole = last_checkpoint(out)
        for number, left in ((7, whole.read_bytes()[:-200]), (8, b"")):
            whole.with_name(f"iteration_{number}.pth").write_bytes(left)
        said = success(*pretrain(small / "unlabelled", out)).stderr
        told = [line for line in said.splitlines() if "passed over" in line]
        assert len(told) == 2 and "UserWarning" not in said and "decide()" not in said
        starts = [
            f"backbench: {whole.with_name(f'iteration_{number}.pth')}: unreadable checkpoint passed over ("
            for number in (8, 7)
        ]
        assert all(line.startswith(start) for line, start in zip(told, starts, strict=True))
        line = first_line(said)
        assert line.startswith("goes on: ") and line.endswith("; from update 2")


class TestProcesses:
    @pytest.mark.slow
    def test_they_end_with_one_message(self, tmp_path: Path) -> None:
        """It is the last, too: twenty lines of torchrun's came after it."""
        command = run(tmp_path / "gone", tmp_path / "out", runtime__device="cpu")
        with start(tmp_path, *command, "--processes", "2") as launcher:
            out, err = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 3 and out == "", err
        assert err.startswith(f"backbench: {tmp_path / 'gone'}: no such folder") and err.count("\n") == 1, err

    def test_several_on_a_cpu_have_to_be_asked_for(self, small: Path, tmp_path: Path) -> None:
        with start(tmp_path, *run(small, tmp_path / "out"), "--processes", "2", CUDA_VISIBLE_DEVICES="") as launcher:
            _, err = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 2
        assert err.startswith("backbench: 2 processes and no GPU.") and err.count("\n") == 1, err

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
    def test_a_signal_is_handed_on(self, small: Path, tmp_path: Path, number: signal.Signals) -> None:
        command = run(small, tmp_path / "out", schedule__epochs=400, runtime__device="cpu", runtime__workers=1)
        with start(tmp_path, *command, "--processes", "2") as launcher:
            assert launcher.stderr
            while not launcher.stderr.readline().startswith("fine-tuning "):
                assert launcher.poll() is None
            launcher.send_signal(number)
            out, err = launcher.communicate(timeout=PATIENCE)
        assert launcher.returncode == 130 and out == ""
        assert err.count("backbench: interrupted; repeat the command") == 1 and "Traceback" not in err, err
        assert list((run_directory(tmp_path / "out") / "checkpoints").iterdir())

    def test_the_status_is_that_of_the_process_that_was_killed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The other only lost its connection, and may have ended before the launcher looked."""
        lost, killed, ended = (ProcessFailure(rank, 77, status, "") for rank, status in ((0, 1), (1, -9), (2, -15)))
        assert _status({2: ended, 0: lost}) == 1
        assert capsys.readouterr().err == ""
        assert _status({0: lost, 1: killed}) == 137
        assert "process 1 of the job was killed (SIGKILL)" in capsys.readouterr().err

    def test_more_than_there_are_gpus_are_refused_before_they_start(
        self, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each took its share of memory first."""
        monkeypatch.setattr(launching, "elastic_launch", Mock(side_effect=AssertionError("started")))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
        message = refusal(*run(small, tmp_path / "out"), "--processes", 64)
        assert message.startswith("64 processes on ") and "which has 8 GPU(s)" in message
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        message = refusal(*pretrain(small / "unlabelled", tmp_path / "out"), "--processes", 64)
        assert message.startswith("64 processes and no GPU.")
        evaluation = ["evaluate", "--data", small, "--weights", tmp_path, "--processes", 64]
        assert refusal(*evaluation).startswith("64 processes and no GPU.")
        assert "device" in refusal(*evaluation, "--set", "runtime.device=abacus")

    def test_the_agent_leaves_to_nohup_what_it_has_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """torch's agent listened for SIGHUP all the same, and a closed terminal ended the job."""
        handled = []

        def elastic(config: LaunchConfig, entrypoint: str) -> Callable[..., None]:
            handled.append(config.signals_to_handle.split(","))
            return lambda *arguments: None

        monkeypatch.setattr(launching, "elastic_launch", elastic)
        monkeypatch.setattr(os, "environ", {**os.environ})
        former = signal.getsignal(signal.SIGHUP)
        try:
            for disposition in (signal.SIG_DFL, signal.SIG_IGN):
                signal.signal(signal.SIGHUP, disposition)
                launching.launch(2, ["run"])
        finally:
            signal.signal(signal.SIGHUP, former)
        assert ["SIGHUP" in names for names in handled] == [True, False]
        assert "SIGTERM" in handled[1]

    @pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
    def test_what_stopped_them_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        def stop(*arguments: str) -> None:
            raise SignalException("", signal.Signals[name])

        monkeypatch.setattr(launching, "elastic_launch", lambda config, entrypoint: stop)
        monkeypatch.setattr(os, "environ", {**os.environ})
        assert launching.launch(2, ["run"]) == 130
        said = {"SIGHUP": "backbench: stopped by SIGHUP; repeat the command to go on from the last checkpoint\n"}
        assert capsys.readouterr().err == said.get(name, "")
        assert launching.launch(2, ["evaluate"], after_repeating("evaluate")) == 130
        assert ("repeat the command to evaluate anew" in capsys.readouterr().err) == (name == "SIGHUP")

    @pytest.mark.parametrize(
        ("recipe", "then"),
        [("mini_knn", "the features that are kept"), ("mini_linear_probing", "the last checkpoint")],
    )
    def test_of_a_probe_it_is_told_from_what_it_goes_on(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recipe: str, then: str
    ) -> None:
        """The launcher spoke of a checkpoint, the processes of features."""

        def stop(*arguments: str) -> None:
            raise SignalException("", signal.SIGTERM)

        monkeypatch.setattr(launching, "elastic_launch", lambda config, entrypoint: stop)
        monkeypatch.setattr(os, "environ", {**os.environ})
        own = ["--recipe", recipe, "--data", tmp_path, "--out", tmp_path, "--set", "runtime.device=cpu"]
        message = refusal("run", *own, "--backbone", "random_vit_mini", "--processes", 2, status=130)
        assert message == f"stopped by SIGTERM; repeat the command to go on from {then}"

    def test_they_are_started_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert [is_to_launch(processes) for processes in (None, 1, 2)] == [False, False, True]
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert not is_to_launch(2)
        with pytest.raises(InputError, match="--processes 8: 2 have been started"):
            is_to_launch(8)


@pytest.mark.slow
def test_srun_starts_processes_too(small: Path, tmp_path: Path) -> None:
    """With the environment variables that it sets, and a model of the current folder beside files named as ours."""
    (tmp_path / "my_models.py").write_text(
        "import timm\n\n\ndef cnn(image_size, drop_path):\n    return timm.create_model('resnet10t', num_classes=0)\n"
    )
    for name in ("tasks", "results", "backbones", "benchmarks"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')\n")
    step = {"JOB_ID": str(os.getpid()), "STEP_ID": "0", "NTASKS": "2", "NODEID": "0", "STEP_NODELIST": "localhost"}
    command = run(small, tmp_path / "out", "my_models:cnn", runtime__device="cpu")
    processes = [
        start(tmp_path, *command, **{f"SLURM_{name}": value for name, value in (step | own).items()})
        for own in ({"PROCID": "0", "LOCALID": "0"}, {"PROCID": "1", "LOCALID": "1"})
    ]
    said = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [bool(out) for out, _ in said] == [True, False]
    assert "; 2 processes; " in first_line(said[0][1]) and "batch 16 = 2 × 8 × 1 " in said[0][1]
    assert read_record(tmp_path / "out")["world_size"] == 2
