"""Two processes of a job meet and end together, with one message and one status, whatever happens to one of them."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch.distributed import distributed_c10d

from backbones.errors import InputError, TryAgainError
from backbones.training import agreement, meeting
from backbones.training.agreement import each_says, first_decides
from backbones.training.launching import Place
from backbones.training.machine import meet_processes
from backbones.training.meeting import TALKING, meet
from benchmarks.commands.beginning import import_plugins
from benchmarks.running import together as ending
from benchmarks.running.together import together
from tests.support.commands import PATIENCE
from tests.support.two_processes import end_of_two, free_port

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def fail(rank: int, failing: tuple[int, ...]) -> None:
    with together():
        each_says(rank)
        if rank in failing:
            raise TypeError("a model's own mistake")
        each_says(rank)


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1)])
def test_a_fault_of_our_own_is_one_traceback(tmp_path: Path, failing: tuple[int, ...]) -> None:
    """The others said that a machine had gone, with status 75; where all failed each printed its traceback."""
    assert end_of_two(fail, tmp_path / "log", failing) == [1, 1]
    text = (tmp_path / "log").read_text()
    assert text.count("Traceback") == 1 and text.rstrip().endswith("TypeError: a model's own mistake"), text
    assert "backbench: " not in text


def end_the_program(rank: int, ending: tuple[int, ...], code: int | None) -> None:
    with together():
        each_says(rank)
        if rank in ending:
            sys.exit(code)
        each_says(rank)


@pytest.mark.parametrize(("ending", "code"), [((0,), 3), ((1,), None), ((0, 1), 3)])
def test_a_model_that_ends_the_program_ends_all_as_one_that_raises(
    tmp_path: Path, ending: tuple[int, ...], code: int | None
) -> None:
    """The others took it for killed, and ended with 75; it ended with its own status, which may be that of success."""
    assert end_of_two(end_the_program, tmp_path / "log", ending, code) == [2, 2]
    (message,) = (tmp_path / "log").read_text().splitlines()
    assert message.startswith("backbench: a model, or another library, has to raise an exception")
    assert f"sys.exit({'' if code is None else code}) in end_the_program ({__file__}, line " in message


def fail_before_they_meet(rank: int) -> None:
    ending._PATIENCE = 1.0
    if rank == 1:
        raise TypeError("before")


def test_a_fault_before_they_meet_is_told_too(tmp_path: Path) -> None:
    assert end_of_two(fail_before_they_meet, tmp_path / "log") == [0, 1]
    assert (tmp_path / "log").read_text().rstrip().endswith("TypeError: before")


def import_plugin(rank: int, files: list[Path]) -> None:
    ending._PATIENCE = 1.0
    socket.gethostname = lambda: f"node{rank}"
    import_plugins([files[rank]], meets=True)
    meet_processes()


@pytest.mark.parametrize(("lacking", "machine"), [([1], "on node1: "), ([0, 1], "")])
def test_what_is_wrong_with_a_plugin_is_told_once_with_the_machine_that_has_it(
    tmp_path: Path, lacking: list[int], machine: str
) -> None:
    """One that a machine alone lacked ended the job without a word."""
    (tmp_path / "mine.py").write_text("import backbones\n\nbackbones.register_method('Mine')\n")
    files = [tmp_path / ("theirs.py" if rank in lacking else "mine.py") for rank in range(2)]
    assert end_of_two(import_plugin, tmp_path / "log", files) == [2, 2]
    (message,) = (tmp_path / "log").read_text().splitlines()
    assert message.startswith(f"backbench: {machine}--plugin {tmp_path / 'theirs.py'}: there is no such file.")


def interrupt_decision(rank: int) -> None:
    def decide() -> None:
        raise KeyboardInterrupt

    with together():
        first_decides(decide)


def test_ctrl_c_in_one_process_ends_all(tmp_path: Path) -> None:
    """The first ended with 130, the others with 1, after waiting for a word for ten seconds."""
    started = time.monotonic()
    assert end_of_two(interrupt_decision, tmp_path / "log") == [130, 130]
    assert (tmp_path / "log").read_text().strip().count("backbench: interrupted") == 1
    assert time.monotonic() - started < 60


def tell_timeouts(rank: int) -> None:
    with together():
        assert distributed_c10d._get_default_group()._get_backend(torch.device("cpu")).options._timeout == TALKING
        each_says(rank)
        assert agreement._group()._get_backend(torch.device("cpu")).options._timeout == TALKING


def test_a_process_may_be_at_work_for_long(tmp_path: Path) -> None:
    """While one looked through the data for half an hour, the others' patience ended."""
    assert end_of_two(tell_timeouts, tmp_path / "log") == [0, 0], (tmp_path / "log").read_text()


def test_the_first_process_has_time_for_the_longest_regression() -> None:
    """ImageNet's classes from four blocks of a ViT-H, on a GPU of 0.6 TFLOPS in double precision (RTX A6000).

    45 strengths took 1,895 evaluations of 50 classes of random features. After 12 hours the others took the connection
    for lost; nothing is kept of a regression, so it would have ended so in each repetition.
    """
    images, channels, classes, evaluations = 1_281_167, 4 * 1280, 1000, 1_895
    operations = 2 * 2 * images * channels * classes  # of logits and derivative
    assert TALKING.total_seconds() > evaluations * operations / 0.6e12


class TestTheMeetingPlace:
    def test_of_another_job_is_left_alone(self, tmp_path: Path) -> None:
        """A process of this one could meet, and end, the other's."""
        store = torch.distributed.TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)
        store.set("backbench/job", "100.1")
        place = {"MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "101.0"}
        assert end_of_two(met, tmp_path / "log", **place, TORCHELASTIC_USE_AGENT_STORE="False") == [2, 2]
        (message,) = (tmp_path / "log").read_text().splitlines()
        assert message.startswith("backbench: the processes of this job cannot meet at 127.0.0.1, port ")
        assert "another program listens there. Set MASTER_ADDR" in message and "MASTER_PORT to a free port" in message
        with pytest.raises(InputError, match=r"job 100\.1 meets there, and this is 101\.0\. Set "):
            meet(Place(1, 2, address="127.0.0.1", port=store.port, job="101.0"))

    def test_keeps_nothing_of_an_earlier_attempt(self, tmp_path: Path) -> None:
        """torchrun's agent keeps its store over attempts: addresses of the dead were read, and a status."""
        store = torch.distributed.TCPStore("127.0.0.1", free_port(), is_master=True, wait_for_workers=False)
        place = {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "a"}
        assert end_of_two(fail, tmp_path / "log", (1,), **place) == [1, 1]
        store.set("backbench/here/1", "one that came, and died before all had met")
        assert end_of_two(fail, tmp_path / "again", (), **place) == [0, 0], (tmp_path / "again").read_text()

    def test_is_left_if_not_all_come(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Long before that it is told whom one waits for: srun may leave alone those that wait for a dead one."""
        monkeypatch.setattr(meeting, "MEETING", timedelta(seconds=0.6))
        monkeypatch.setattr(meeting, "SILENCE", timedelta(seconds=0.2))
        with pytest.raises(TryAgainError, match="of the 3 processes of this job, number 1, 2 did not come to 127"):
            meet(Place(0, 3, address="127.0.0.1", port=free_port(), launcher="srun"))
        (line,) = capsys.readouterr().err.splitlines()
        assert "number 1, 2 has not come yet to 127.0.0.1, port " in line and "--kill-on-bad-exit" in line
        assert line.endswith(". srun says that there are 3; to run one process alone, unset SLURM_STEP_ID")

    @pytest.mark.slow
    def test_is_told_where_nobody_listens(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(meeting, "MEETING", timedelta(seconds=1.5))
        monkeypatch.setattr(meeting, "SILENCE", timedelta(seconds=0.2))
        port = free_port()
        for rank, lines in ((1, 1), (3, 0), (8, 1)):  # of eight on each machine
            with pytest.raises(InputError, match="cannot meet at 127"):
                meet(Place(rank, 16, rank % 8, 8, address="127.0.0.1", port=port))
            told = f"{socket.gethostname()} waits for the first process to listen at 127.0.0.1, port {port}, "
            assert capfd.readouterr().err.count(f"backbench: {told}") == lines


def met(rank: int) -> None:
    ending._PATIENCE = 1.0
    with together():
        pass


def kill_first(rank: int, talks: bool) -> None:
    with together():
        each_says(rank)
        if rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if talks:
            each_says(rank)
        time.sleep(PATIENCE)


@pytest.mark.parametrize("talks", [False, True])
def test_the_end_of_the_first_is_the_end_of_all(tmp_path: Path, talks: bool) -> None:
    """Under srun the store goes with it: the others looked for it for ever, each time with a dozen lines of torch's."""
    assert end_of_two(kill_first, tmp_path / "log", talks) == [-signal.SIGKILL, 75]
    text = (tmp_path / "log").read_text()
    assert (
        text.count("backbench: ") == text.count("backbench: the connection to another process of this job is lost") == 1
    )


def fall_silent(rank: int) -> None:
    ending._LOOKS_BETWEEN_SIGNS, ending._SIGNS_MISSED = 1, 2
    if rank == 1:
        ending._Watch._give_sign = lambda watch: None  # type: ignore[method-assign]
    with together():
        time.sleep(PATIENCE)


def test_a_machine_that_gives_no_sign_is_gone(tmp_path: Path) -> None:
    assert end_of_two(fall_silent, tmp_path / "log") == [75, 75]
    (message,) = (tmp_path / "log").read_text().splitlines()
    assert message.startswith("backbench: process 1 of this job has given no sign of life")


def go_separately(rank: int, times: int) -> None:
    ending._SECONDS_BETWEEN_LOOKS = 0.01
    for _ in range(times):
        with together():
            time.sleep(0.2 * rank)


def test_the_first_is_there_until_all_have_finished(tmp_path: Path) -> None:
    assert end_of_two(go_separately, tmp_path / "log", 2) == [0, 0]
    assert not (tmp_path / "log").read_text()


ATTEMPT = """
import os, signal, sys
from pathlib import Path
from backbones.training.agreement import each_says
from backbones.training.machine import choose_device
from benchmarks.running.together import together

choose_device("cpu")
with together():
    each_says(1)
    if os.environ["RANK"] == "1" and not Path(sys.argv[1]).exists():
        Path(sys.argv[1]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    said = each_says(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if os.environ["RANK"] == "0":
        print(said)
"""


@pytest.mark.slow
def test_torchrun_starts_them_again(tmp_path: Path) -> None:
    """Whatever became of the first attempt, no later one could meet."""
    program = tmp_path / "job.py"
    program.write_text(ATTEMPT)
    finished = subprocess.run(
        [*TORCHRUN, "--max-restarts", "1", "--monitor-interval", "0.1", str(program), str(tmp_path / "died")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["['1', '1']"]
