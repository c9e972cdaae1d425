"""The processes of `backbench doctor --train`: who may start it, what they are told, and that none outlives it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.commands import selftest
from benchmarks.running.lease import Lease
from benchmarks.selftest.worker import Worker
from tests.support.in_process import call, refusal
from tests.support.selftest_lines import MORE, OF_LAUNCHERS

LINES = "tests.support.selftest_lines:MORE"
BY_NAME = {line.name: line for line in MORE}
ROOT = Path(__file__).resolve().parents[3]
DOCTOR = f"""
import sys
from pathlib import Path
from benchmarks.commands import selftest
from benchmarks.selftest import course
from tests.support.selftest_lines import MORE
course._draw = lambda data: None
selftest.LINES, selftest.COURSE = MORE, {LINES!r}
sys.exit(selftest.run_selftest("cpu", 5, Path(sys.argv[1]), ["children"]))
"""
"""The self-test in a process of its own, of one line that starts others and never ends."""


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def started(scratch: Path) -> list[int]:
    """The processes that the line has started."""
    path = scratch / "children"
    return [int(number) for number in path.read_text().split()] if path.exists() else []


def is_running(process: int) -> bool:
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # of a dead one nothing is left, if it is there
    except OSError:
        return False


def end(processes: list[int]) -> None:
    for process in filter(is_running, processes):
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("torchrun", {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}),
        (
            "srun",
            {
                "SLURM_STEP_ID": "0",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0",
                "SLURM_NODELIST": "a",
            },
        ),
    ],
)
def test_one_of_several_processes_is_refused(
    launcher: str, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = refusal("doctor", "--train", "--device", "cpu", "--out", tmp_path / "out")
    assert message.startswith("doctor --train: the self-test starts its own processes. Run it in one, without ")
    assert f" without {launcher}: this is one of 2" in message
    assert not (tmp_path / "out").exists()


def test_jobs_are_not_told_of_the_launcher_of_the_self_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `torchrun --nproc-per-node 1` they would take its place in a job for theirs."""
    for name, value in OF_LAUNCHERS.items():
        monkeypatch.setenv(name, value)
    with Worker(LINES, "cpu", tmp_path / "log") as worker:
        outcome = worker.try_line(BY_NAME["told-of-launcher"], tmp_path, tmp_path, limit=60)
    assert outcome.state == "ok", outcome


def test_a_second_self_test_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "selftest.log").write_text("the other's")
    with Lease(tmp_path / ".claim"):
        message = refusal("doctor", "--train", "--device", "cpu", "--only", "mini-jobs", "--out", tmp_path, status=75)
    assert message.startswith(f"--out {tmp_path}: process ")
    assert " runs a self-test there. Wait for it, or name another folder" in message
    assert (tmp_path / "selftest.log").read_text() == "the other's"


def test_ctrl_c_before_the_first_line_promises_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(wanted: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(selftest, "_device", interrupt)
    result = call("doctor", "--train")
    assert result.exit_code == 130
    assert result.output.strip() == "backbench: interrupted before the self-test began"


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
@pytest.mark.slow
def test_no_process_outlives_the_self_test(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DOCTOR, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    ) as doctor:
        children: list[int] = []
        try:
            wait_until(lambda: len(started(tmp_path / "scratch/children")) == 2)
            children = started(tmp_path / "scratch/children")
            assert all(map(is_running, children))
            doctor.send_signal(number)
            said, _ = doctor.communicate(timeout=60)
            wait_until(lambda: not any(map(is_running, children)))
        finally:
            doctor.kill()
            end(children)
    if number != signal.SIGKILL:
        assert doctor.returncode == 130 and said.startswith("interrupted: 0 lines ok, 1 not run")


@pytest.mark.slow
def test_what_a_line_has_started_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """Also in a session of its own, as torch's agent starts processes."""
    with Worker(LINES, "cpu", tmp_path / "log") as worker:
        worker.start()
        outcome = worker.try_line(BY_NAME["children"], tmp_path, tmp_path, limit=8)
        assert outcome.why == "not done after 8 s, and ended"
    children = started(tmp_path)
    try:
        assert len(children) == 2 and not any(map(is_running, children))
    finally:
        end(children)
