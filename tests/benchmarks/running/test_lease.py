"""A lease in bad times: stopped owners and contenders, sick file servers, wrong clocks, machines of one name."""

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.running import lease
from benchmarks.running.lease import HeldByAnotherError, Lease, Watch, find_owner
from benchmarks.running.owners import Holder, this_process

DEAD = 2**31 - 1
"""No process has this number."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".claim"


def plant(path: Path, host: str = "elsewhere", pid: int = 77, boot: str = "another") -> None:
    """Another process's marker, in place of what is there."""
    path.with_name("new").write_bytes(Holder(host, pid, boot).marker)
    path.with_name("new").rename(path)


@contextmanager
def living(path: Path) -> Iterator[None]:
    """The owner of the marker at `path`, as it now is, gives signs of life."""
    inode, ended = path.stat().st_ino, threading.Event()

    def beat() -> None:
        while not ended.wait(0.02):
            if path.exists() and path.stat().st_ino == inode:
                os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def failing(call: Callable[..., Any], number: int, times: int) -> Callable[..., Any]:
    """`call`, which fails so many times before it does what it should."""
    left = iter(range(times))

    def failing_at_first(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise OSError(number, os.strerror(number))
        return call(*arguments, **options)

    return failing_at_first


def test_a_living_owner_on_a_machine_of_the_same_name_keeps_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of that number is sought in vain here."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    plant(path, host=this_process().host, pid=DEAD)
    with living(path):
        assert find_owner(path) == lease.Owner(f"process {DEAD} on {socket.gethostname()}", True)
        with pytest.raises(HeldByAnotherError, match=str(DEAD)):
            Lease(path)
        assert str(DEAD) in path.read_text()


def test_the_dead_of_this_machine_are_known_at_once(path: Path) -> None:
    here = this_process()
    plant(path, here.host, DEAD, here.boot)
    owner = find_owner(path)
    assert owner and owner.lives is False
    Lease(path).release()
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_sick_file_server_ends_no_healthy_owner(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.12)
    losses: list[str] = []
    with Lease(path, lost=losses.append) as held:
        calls = 20
        monkeypatch.setattr(os, "utime", failing(os.utime, number, calls))
        before = path.stat().st_mtime_ns
        deadline = time.monotonic() + 20
        while path.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime_ns > before
        assert held.is_held() and losses == []
        held.check()


def test_where_nobody_can_tell_whose_it_is_nothing_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.1)
    with Lease(path) as held, monkeypatch.context() as sick:
        sick.setattr(lease, "_look", failing(lease._look, errno.EIO, 10**9))
        time.sleep(0.15)
        with pytest.raises(OSError, match="Input/output error"):
            held.check()


def test_the_time_for_which_a_contender_hung_is_not_the_owners(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [0.0], [0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        looks[0] += 1
        now[0] += 1000.0 if looks[0] % 10 == 0 else seconds
        pauses.append(seconds)

    plant(path)
    monkeypatch.setattr(lease, "_now", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    Lease(path).release()
    assert sum(pauses) > 50
    assert max(pauses) == 1.0


def test_a_contender_that_hung_longer_than_its_patience_looks_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it has really waited; then it asks the file server's clock, once."""
    now, asked = [0.0], []
    genuine = lease._age

    def age(*arguments: Any) -> float:
        asked.append(now[0])
        return genuine(*arguments)

    def sleep(seconds: float) -> None:
        now[0] += 100.0 if now[0] == 0 else seconds

    here = this_process()
    plant(path, here.host, os.getppid(), here.boot)
    monkeypatch.setattr(lease, "_now", lambda: now[0])
    monkeypatch.setattr(lease, "_age", age)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(HeldByAnotherError, match=f"process {os.getppid()} on"):
        Lease(path, patience=20.0)
    assert len(asked) == 1 and asked[0] > 115


@pytest.mark.parametrize("times", [1, 2])
def test_a_marker_that_is_replaced_between_opening_and_reading_is_read_again(
    path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(path)
    monkeypatch.setattr(os, "fstat", failing(os.fstat, errno.ESTALE, times))
    owner = find_owner(path)
    assert owner and owner.name == "process 77 on elsewhere"


@pytest.mark.parametrize(("ahead", "silent", "lives"), [(300, 0, True), (-300, 290, None), (0, 0, True)])
def test_a_wrong_clock_makes_nobody_dead_or_alive(
    path: Path, ahead: int, silent: int, lives: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(path)
    touched = time.time() - silent
    os.utime(path, (touched, touched))
    genuine, genuine_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: genuine() + ahead)
    monkeypatch.setattr(time, "time_ns", lambda: genuine_ns() + ahead * 10**9)
    assert find_owner(path) == lease.Owner("process 77 on elsewhere", lives)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_lost_lease_is_told_once_and_left_to_its_owner(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.3)
    losses: list[str] = []
    held = Lease(path, lost=losses.append)
    plant(path)
    assert not held.is_held()
    deadline = time.monotonic() + 20
    while not losses and time.monotonic() < deadline:
        time.sleep(0.01)
    held.check()
    held.release()
    assert losses == ["the claim is lost, and process 77 on elsewhere has it now"]
    assert "elsewhere" in path.read_text()


def test_a_marker_that_nobody_has_finished_is_somebodys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch()
    owner = find_owner(path)
    assert owner == lease.Owner("another process", True)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.1)
    Lease(path).release()


class TestWatch:
    """Whether it is worth trying to take a lease."""

    def test_an_owner_elsewhere_lives_as_long_as_it_gives_signs(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [100.0]
        monkeypatch.setattr(lease, "_now", lambda: now[0])
        plant(path)
        watch, found = Watch(path), []
        for seconds, signs in ((0, False), (15, False), (15, True), (15, False), (15, False)):
            now[0] += seconds
            if signs:
                os.utime(path, ns=(0, time.time_ns() + 1))
            found.append(watch.has_living_owner())
        assert found == [True, True, True, True, False]
        assert watch.holder == "process 77 on elsewhere" and not watch.is_here

    def test_who_was_silent_before_is_not_watched(self, path: Path) -> None:
        plant(path)
        os.utime(path, (time.time() - 300,) * 2)
        assert not Watch(path).has_living_owner()

    def test_a_dead_owner_of_this_machine_is_known_at_once(self, path: Path) -> None:
        here = this_process()
        plant(path, here.host, here.pid, here.boot)
        watch = Watch(path)
        assert watch.has_living_owner() and watch.is_here
        plant(path, here.host, DEAD, here.boot)
        assert not watch.has_living_owner() and watch.is_here

    def test_nobody_lives_where_there_is_no_lease(self, path: Path) -> None:
        watch = Watch(path)
        assert not watch.has_living_owner() and watch.holder == ""
