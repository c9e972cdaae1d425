"""Ctrl-C ends a command without a trace of it on the screen or on the disk."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import Moment, backbench
from tests.support.in_process import assert_nothing_is_half_written, pretrain, run


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def interrupt(started: list[subprocess.Popen[str]], arguments: list[object], happened: Callable[[], bool]) -> str:
    """Press Ctrl-C, which reaches the whole process group, once `happened()`; what was printed after exit 130."""
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    started.append(process)
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    return output


@pytest.mark.slow
def test_ctrl_c_while_pretraining(small: Path, tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    arguments = pretrain(
        small / "unlabelled", tmp_path, schedule__epochs=10_000, runtime__workers=1, runtime__log_every=1
    )
    output = interrupt(started, arguments, lambda: any(tmp_path.rglob("iteration_*.pth")))
    assert "backbench: interrupted; repeat the command to go on from the last checkpoint" in output
    assert_nothing_is_half_written(tmp_path)


def test_ctrl_c_while_the_demo_draws(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    arguments = ["demo", "--out", tmp_path / "demo"]
    output = interrupt(started, arguments, lambda: any(tmp_path.rglob("*.jpg")))
    assert "backbench: interrupted; repeat the command" in output


def test_ctrl_c_while_drawing_processes_are_started(tmp_path: Path) -> None:
    """The signal waits until all are started; then what has not begun must not be drawn."""
    moment = Moment("concurrent.futures.process.ProcessPoolExecutor.submit")
    arguments = ["data", "mini", str(tmp_path / "mini"), "--unlabelled", "4000"]
    assert backbench(arguments, tmp_path / "log", moment, signal.SIGINT) == 130
    assert len(list((tmp_path / "mini").rglob("*.jpg"))) < 3000


LOADERS_END = "torch.utils.data.dataloader._MultiProcessingDataLoaderIter._shutdown_workers"


@pytest.mark.parametrize(
    "moments",
    [
        (Moment("backbones.training.progress.ProgressHook._log"), Moment(LOADERS_END, 1), Moment(LOADERS_END, 2)),
        (Moment(LOADERS_END, 1), Moment(LOADERS_END, 2), Moment(LOADERS_END, 3)),
    ],
)
def test_more_ctrl_c_while_a_run_ends_leave_no_trace(small: Path, tmp_path: Path, moments: tuple[Moment, ...]) -> None:
    """The first in training or at its end, the others where its loaders and the evaluation's are done away with."""
    arguments = run(small, tmp_path / "out", runtime__workers=1, runtime__log_every=1)
    assert backbench(arguments, tmp_path / "log", moments, signal.SIGINT) == 130
    output = (tmp_path / "log").read_text()
    assert output.endswith("\nbackbench: interrupted; repeat the command to go on from the last checkpoint\n")
    assert "Exception" not in output and "Traceback" not in output
