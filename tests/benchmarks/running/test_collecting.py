"""results.csv holds every finished run, whoever else finishes one at the same time and whatever lies beside."""

import csv
import errno
import fcntl
import itertools
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import TryAgainError
from benchmarks.running import collecting, lease
from benchmarks.running.collecting import collect, collect_run, is_collected
from benchmarks.running.owners import Holder, this_process
from benchmarks.running.writing import write_record
from results import ResultsError, read_record
from results.errors import NoRoomError
from tests.support.in_process import refusal, success
from tests.support.results_examples import make_record

KEYS = [f"{number:012x}" for number in range(205)]
NEIGHBOUR = 204


def put(out: Path, number: int) -> Path:
    directory = out / f"seed{number}-{KEYS[number]}"
    write_record(directory, make_record(number, key=KEYS[number]))
    return directory


def collected(out: Path) -> set[str]:
    with (out / "results.csv").open() as file:
        return {row["key"] for row in csv.DictReader(file)}


def test_what_a_killed_one_has_left_goes_with_the_next(tmp_path: Path) -> None:
    put(tmp_path, 0)
    (tmp_path / ".results.csv.0123456789ab").write_text("table,")
    (tmp_path / ".results.csv.mine").write_text("a user's")
    assert collect(tmp_path) == 1
    assert {path.name for path in tmp_path.glob(".*")} == {".results.csv.mine"}


LOCKS = pytest.mark.parametrize("locks", ["locks", "no locks"])
"""Whether the file system has locks, and links, as some network file systems have not."""


def take_locks_away() -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for module, name in ((fcntl, "flock"), (fcntl, "lockf"), (fcntl, "fcntl"), (os, "link")):
        setattr(module, name, refuse)


def end_a_run(out: Path, number: int, locks: str) -> None:
    if locks == "no locks":
        take_locks_away()
    put(out, number)
    collect(out)


def end_together(out: Path, numbers: Sequence[int], locks: str) -> None:
    """Runs that end at the same time, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=end_a_run, args=(out, number, locks)) for number in numbers]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * len(runs)


def spoil(out: Path) -> list[Path]:
    """Records that can't be read, in the order of their paths."""
    contents = (("cut", '{"task": '), ("empty", ""), ("foreign", '{"name": "yolo"}'))
    for name, content in contents:
        (out / name).mkdir()
        (out / name / "record.json").write_text(content)
    return [out / name / "record.json" for name, _ in contents]


@contextmanager
def vanishing(out: Path) -> Iterator[None]:
    """Meanwhile a neighbour's runs appear, and vanish with their directories."""

    def appear_and_vanish() -> None:
        for number in itertools.count():
            shutil.rmtree(put(out / f"neighbour{number % 7}", NEIGHBOUR))

    process = multiprocessing.get_context("fork").Process(target=appear_and_vanish)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
        for place in out.glob("neighbour*"):
            shutil.rmtree(place)


@LOCKS
def test_no_row_is_lost_where_runs_end_together(tmp_path: Path, locks: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A lease needs no locks, so nothing is warned of where there are none."""
    for number in range(40):
        put(tmp_path, number)
    for first in range(40, 52, 4):
        end_together(tmp_path, range(first, first + 4), locks)
        assert collected(tmp_path) == set(KEYS[: first + 4])
    assert capfd.readouterr().err == ""


@LOCKS
@pytest.mark.slow
def test_no_row_is_ever_lost_in_a_store_of_two_hundred(
    tmp_path: Path, locks: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fifty times four runs end together, among records that can't be read and a neighbour's that vanish."""
    for number in range(200):
        put(tmp_path, number)
    spoilt = spoil(tmp_path)
    for _ in range(50):
        with vanishing(tmp_path):
            end_together(tmp_path, range(200, 204), locks)
        assert collected(tmp_path) >= set(KEYS[:204])
        told = capfd.readouterr().err
        assert [told.count(f"passed over: {path}: ") for path in spoilt] == [4] * 3
        for number in range(200, 204):
            shutil.rmtree(tmp_path / f"seed{number}-{KEYS[number]}")
    for arguments in (["collect"], ["table", "--layout", "imagenet"]):
        output = success(*arguments, tmp_path).output
        assert [output.count(f"passed over: {path}: ") for path in spoilt] == [1] * 3
    assert collected(tmp_path) == set(KEYS[:200])


def test_what_cannot_be_read_is_named_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, 0)
    spoilt = spoil(tmp_path)
    assert collect(tmp_path) == 1
    assert collected(tmp_path) == {KEYS[0]}
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2].strip() for line in told] == [*map(str, spoilt)]


def test_a_run_is_collected_once_its_rows_are_there(tmp_path: Path) -> None:
    record = read_record(put(tmp_path, 0))
    assert not is_collected(tmp_path, record)
    collect(tmp_path)
    assert is_collected(tmp_path, record)
    assert not is_collected(tmp_path, make_record(1, key=KEYS[1]))


def test_a_run_that_was_renamed_since_is_not_collected(tmp_path: Path) -> None:
    """By another process, whose file is the newer one all the same."""
    put(tmp_path, 0)
    collect(tmp_path)
    assert not is_collected(tmp_path, make_record(0, key=KEYS[0], method="DINO"))


def count_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each look through a store finds."""
    found: list[int] = []
    genuine = collecting.load_records

    def load(*arguments: Any, **options: Any) -> Any:
        runs = genuine(*arguments, **options)
        found.append(len(runs))
        return runs

    monkeypatch.setattr(collecting, "load_records", load)
    return found


def test_a_run_that_another_has_just_collected_is_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_record(put(tmp_path, 0))
    looks = count_looks(monkeypatch)
    collect_run(tmp_path, record)
    collect_run(tmp_path, record)
    assert looks == [1]


def collect_after_a_pause(out: Path) -> None:
    lease.LEASE_SECONDS = 0.4
    genuine, looks = collecting.load_records, itertools.count()

    def load(*arguments: Any, **options: Any) -> Any:
        runs = genuine(*arguments, **options)
        if next(looks) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        return runs

    collecting.load_records = load
    collect(out)


def test_one_that_was_stopped_writes_nothing_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.4)
    put(tmp_path, 0)
    process = multiprocessing.get_context("fork").Process(target=collect_after_a_pause, args=(tmp_path,))
    process.start()
    assert process.pid
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    put(tmp_path, 1)
    collect(tmp_path)
    assert collected(tmp_path) == set(KEYS[:2])
    os.kill(process.pid, signal.SIGCONT)
    process.join(20)
    assert process.exitcode == 0
    assert collected(tmp_path) == set(KEYS[:2])
    assert not (tmp_path / ".results.csv.claim").exists()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_one_whose_claim_is_taken_starts_over_or_gives_up(
    tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the whole process, and with it the suite."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.1)
    put(tmp_path, 0)
    claim, genuine, looks = tmp_path / ".results.csv.claim", collecting.load_records, itertools.count(1)

    def load(*arguments: Any, **options: Any) -> Any:
        if next(looks) <= times:
            claim.unlink()
            claim.write_bytes(Holder("elsewhere", 77, "another").marker)
        return genuine(*arguments, **options)

    monkeypatch.setattr(collecting, "load_records", load)
    if times == 3:
        with pytest.raises(TryAgainError, match="others took over 3 times"):
            collect(tmp_path)
    else:
        collect(tmp_path)
        assert collected(tmp_path) == {KEYS[0]}


def test_whoever_is_waited_for_in_vain_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_PATIENCE", 0.0)
    here = this_process()
    (tmp_path / ".results.csv.claim").write_bytes(Holder(here.host, os.getppid(), here.boot).marker)
    with pytest.raises(TryAgainError, match=f"within 0 s, process {os.getppid()} on .* is writing it. Once that"):
        collect(tmp_path)


def test_no_room_for_the_claim_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.open

    def full(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return genuine(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(NoRoomError, match=r"results\.csv: cannot be renewed: .*claim: No space left on device"):
        collect(tmp_path)


@pytest.mark.parametrize("times", [1, 2, 99])
def test_files_that_another_host_replaces_meanwhile(
    tmp_path: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says ESTALE to whoever has opened them and reads on."""
    record = read_record(put(tmp_path, 0))
    collect(tmp_path)
    genuine, left = Path.open, itertools.count()

    def stale(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name in ("results.csv", "record.json") and next(left) < times:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return genuine(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", stale)
    assert is_collected(tmp_path, record) is (times < 99)
    left = itertools.count()
    if times < 99:
        assert read_record(tmp_path / f"seed0-{KEYS[0]}") == record
    else:
        with pytest.raises(ResultsError, match=r"record\.json: no such file"):
            read_record(tmp_path / f"seed0-{KEYS[0]}")


def test_the_command_makes_the_file_anew(tmp_path: Path) -> None:
    for number in range(2):
        put(tmp_path, number)
    assert f"{tmp_path / 'results.csv'}: 2 finished runs" in success("collect", tmp_path).output
    assert collected(tmp_path) == set(KEYS[:2])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["results.csv"]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere: no such directory"):
        collect(tmp_path / "nowhere")
    assert "nowhere: no such directory" in refusal("collect", tmp_path / "nowhere", status=3)
    assert not (tmp_path / "nowhere").exists()
