"""One process at a time has a run's directory: others are refused, the dead are followed."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from backbones.training.agreement import each_says
from backbones.training.writing import check_before_writing, written_whole
from benchmarks.running import lease
from benchmarks.running.claim import CLAIM, RECIPE, claimed
from benchmarks.running.owners import Holder, this_process
from benchmarks.running.together import together
from tests.support.two_processes import end_of_two

PROCESSES = multiprocessing.get_context("fork")


def hold(directory: Path, out: Path, host: str, lease_seconds: float, ends: Connection) -> None:
    socket.gethostname = lambda: host
    lease.LEASE_SECONDS = lease_seconds
    with claimed(directory, out, lambda: "task: x"):
        ends.send(os.getpid())
        ends.recv()


@contextmanager
def held(directory: Path, out: Path, host: str | None = None) -> Iterator[int]:
    """Another process, on this host or one that calls itself otherwise, has the claim; gives its number."""
    here, there = PROCESSES.Pipe()
    arguments = (directory, out, host or socket.gethostname(), lease.LEASE_SECONDS, there)
    process = PROCESSES.Process(target=hold, args=arguments)
    process.start()
    try:
        yield here.recv()
    finally:
        with suppress(OSError):
            here.send("end")
        process.join()


def refusal(directory: Path, out: Path) -> str:
    with pytest.raises(InputError) as error, claimed(directory, out, lambda: "task: x"):
        pass
    return str(error.value)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "out" / "task" / "seed0-abc"


def test_a_process_at_work_is_named(directory: Path, tmp_path: Path) -> None:
    with held(directory, tmp_path / "out") as number:
        message = refusal(directory, tmp_path / "out")
    owner = f"process {number} on {socket.gethostname()}"
    assert message.startswith(f"{directory}: {owner} is at work on this run since 20")


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_a_killed_owner_is_followed(
    directory: Path, tmp_path: Path, host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.3)
    with held(directory, tmp_path / "out", host) as number:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        with claimed(directory, tmp_path / "out", lambda: "task: y"):
            assert (directory / RECIPE).read_text() == "task: y"


def test_an_owner_on_another_host_that_lives_is_not_followed(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    with held(directory, tmp_path / "out", "elsewhere") as number:
        message = refusal(directory, tmp_path / "out")
    assert f"process {number} on elsewhere is at work" in message
    assert f"claimed by process {number} on elsewhere. Waiting up to" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_will_do(
    directory: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with claimed(directory, tmp_path / "out", lambda: "task: x"):
        (directory / "log.jsonl").touch()
    assert {path.name for path in directory.iterdir()} == {RECIPE, "log.jsonl"}


def test_a_call_that_came_to_nothing_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="no weights"), claimed(directory, tmp_path / "out", lambda: "task: x"):
        raise InputError("no weights")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_claim_that_another_has_ends_the_run_at_once(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    here, there = PROCESSES.Pipe()
    arguments = (directory, tmp_path / "out", socket.gethostname(), lease.LEASE_SECONDS, there)
    process = PROCESSES.Process(target=hold, args=arguments)
    process.start()
    here.recv()
    (directory / CLAIM).unlink()
    with claimed(directory, tmp_path / "out", lambda: "task: y"):
        process.join(20)
        assert process.exitcode == 75
        assert (directory / CLAIM).exists()
    assert f"process {os.getpid()} on {socket.gethostname()} has it now. Ending at once" in capfd.readouterr().err


def test_a_claim_that_is_merely_gone_is_taken_again(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    with claimed(directory, tmp_path / "out", lambda: "task: x"):
        (directory / CLAIM).unlink()
        told = ""
        while "is taken again" not in told:
            told += capfd.readouterr().err
        assert (directory / CLAIM).exists()
    assert not directory.exists()


def write_after_a_pause(directory: Path, out: Path, what: str) -> None:
    socket.gethostname = lambda: "elsewhere"
    lease.LEASE_SECONDS = 0.4
    with claimed(directory, out, lambda: "task: x"):
        if what == "a log line":
            os.kill(os.getpid(), signal.SIGSTOP)
            check_before_writing()
            (directory / what).touch()
        else:
            with written_whole(directory / what) as file:
                file.write(b"all")
                os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("what", ["a log line", "a checkpoint"])
def test_an_owner_that_was_stopped_writes_nothing_beside_its_successor(
    directory: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.4)
    process = PROCESSES.Process(target=write_after_a_pause, args=(directory, tmp_path / "out", what))
    process.start()
    assert process.pid
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with claimed(directory, tmp_path / "out", lambda: "task: y"):
        os.kill(process.pid, signal.SIGCONT)
        process.join(20)
        assert process.exitcode == 75
        assert {path.name for path in directory.iterdir() if not path.name.startswith(".")} == {RECIPE}
        assert (directory / RECIPE).read_text() == "task: y"
    told = capfd.readouterr().err
    assert told.count("has it now. Ending at once, unsaved") == 1 and f"process {os.getpid()} on" in told


def test_what_a_successor_has_begun_with_stays(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="told to stop"), claimed(directory, tmp_path / "out", lambda: "task: x"):
        (directory / CLAIM).unlink()
        (directory / CLAIM).write_bytes(Holder("elsewhere", 77, "another").marker)
        raise InputError("told to stop")
    assert {path.name for path in directory.iterdir()} == {CLAIM, RECIPE}


def test_what_went_wrong_is_told_although_the_directory_has_gone(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the real reason"), claimed(directory, tmp_path / "out", lambda: "task: x"):
        shutil.rmtree(directory)
        raise InputError("the real reason")


def compete(out: Path) -> None:
    entries = 0
    while entries < 5:
        with suppress(InputError), claimed(out / "task" / "run", out, lambda: "task: x"):
            inside = os.open(out / "inside", os.O_CREAT | os.O_EXCL)  # fails if another is inside
            os.close(inside)
            (out / "inside").unlink()
            entries += 1


def test_of_many_that_come_and_go_one_is_inside(tmp_path: Path) -> None:
    """The first of them follows a dead owner."""
    (tmp_path / "task/run").mkdir(parents=True)
    here = this_process()
    (tmp_path / "task/run" / CLAIM).write_bytes(Holder(here.host, 2**31 - 1, here.boot).marker)
    processes = [PROCESSES.Process(target=compete, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4


def refuse_in_the_second(rank: int, out: Path) -> None:
    directory = out / "task" / "run"
    with together(), claimed(directory, out, lambda: "task: x"):
        each_says(rank)
        if rank == 1:
            raise InputError("what only this process finds wrong")
        each_says(rank)


@pytest.mark.parametrize("trained", [False, True])
def test_what_another_process_refuses_leaves_what_has_been_trained(tmp_path: Path, trained: bool) -> None:
    """The first ended at once, and left a directory with a recipe in it."""
    out = tmp_path / "out"
    out.mkdir()
    if trained:
        (out / "task" / "run" / "checkpoints").mkdir(parents=True)
    assert end_of_two(refuse_in_the_second, tmp_path / "log", out) == [2, 2]
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.name != ".claim"}
    assert left == ({"task", "task/run", "task/run/recipe.yaml", "task/run/checkpoints"} if trained else set())
