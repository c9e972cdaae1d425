"""What was found out of data is found once, and again as soon as anything of it has changed."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backbones import cache
from backbones.cache import Finding, clear, entries, found_anew, kept
from backbones.errors import DataError
from backbones.images import mounts, observing
from backbones.images.observing import looking_at
from tests.support.folders import age


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "cache" / "backbench"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("one")
    return age(tmp_path / "data")


class Search:
    """Reads a file, lists a folder and looks for a third, and counts how often."""

    def __init__(self, data: Path) -> None:
        self.data, self.times = data, 0

    def __call__(self) -> Finding:
        self.times += 1
        for name in ("a.txt", "deep", "absent"):
            looking_at(self.data / name)
        return Finding({"text": (self.data / "a.txt").read_text()}, {"numbers": np.arange(self.times)})

    def ask(self, **question: object) -> str:
        return str(kept("text", self.data, question, self).facts["text"])


@pytest.mark.parametrize("told", ["", "cache", "./cache", "~/cache"])
def test_a_relative_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    """Each folder in which a command was called had a cache of its own, whose features were computed anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", told)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "backbench"


@pytest.mark.parametrize("home", ["", "home", "."])
def test_without_a_home_there_is_none_below_the_folder_of_the_command(
    monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert cache.cache_folder().is_absolute()


def test_it_is_found_once_for_each_question(data: Path) -> None:
    search = Search(data)
    assert [search.ask(), search.ask(), search.ask(other=1), search.ask()] == ["one"] * 4
    assert search.times == 2
    assert {(entry.what, entry.subject) for entry in entries()} == {("text", str(data))}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: (data / "a.txt").write_text("two!"),
        lambda data: os.utime(data / "a.txt", (2e9 / 2 + 5, 2e9 / 2 + 5)),
        lambda data: (data / "deep" / "new").touch(),
        lambda data: (data / "absent").touch(),
        lambda data: (data / "deep").rmdir(),
    ],
)
def test_a_change_is_seen(data: Path, change: Callable[[Path], object]) -> None:
    search = Search(data)
    search.ask()
    change(data)
    assert search.ask() == (data / "a.txt").read_text() and search.times == 2


def test_another_file_of_the_same_size_and_time_is_seen(data: Path) -> None:
    search = Search(data)
    search.ask()
    (data / "b.txt").write_text("two")
    os.utime(data / "b.txt", (1e9, 1e9))
    (data / "b.txt").replace(data / "a.txt")
    assert search.ask() == "two"


def test_what_was_just_changed_is_not_trusted(data: Path) -> None:
    (data / "a.txt").touch()
    search = Search(data)
    assert (search.ask(), search.ask(), search.times) == ("one", "one", 2)


def test_a_modification_time_ahead_of_the_clock_costs_no_second_look(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = time.time_ns() + 10**18
    os.utime(data / "a.txt", ns=(ahead, ahead))
    search = Search(data)
    search.ask()
    assert entries() == []  # just changed, by whatever time
    monkeypatch.setattr(observing.time, "time_ns", lambda: ahead - 10**18 + 3 * 10**9)
    search.ask(), search.ask()
    assert search.times == 2


@pytest.mark.parametrize(("seconds", "times"), [(1, 2), (3600, 1)])
def test_a_clock_behind_costs_looks_only_for_a_minute(
    data: Path, seconds: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "a.txt").touch()
    behind = (data / "a.txt").stat().st_mtime_ns - seconds * 10**9
    monkeypatch.setattr(observing.time, "time_ns", lambda: behind)
    search = Search(data)
    search.ask(), search.ask()
    assert search.times == times


def test_machines_with_data_of_their_own_keep_what_each_found(data: Path, tmp_path: Path) -> None:
    """In one cache, of the same path: which lies on a disk of each, or is a link to such a place on a shared one."""
    search, other, shown = Search(data), tmp_path / "other", tmp_path / "shown"
    shutil.copytree(data, other)
    (other / "a.txt").write_text("two")
    age(other)
    for _ in range(3):
        for place, text in ((data, "one"), (other, "two")):
            place.rename(shown)
            search.data = shown
            assert str(kept("text", shown, {}, search).facts["text"]) == text
            shown.rename(place)
    assert search.times == 2


def test_what_changes_while_it_is_looked_at_is_not_kept(data: Path) -> None:
    def find() -> Finding:
        looking_at(data / "a.txt")
        (data / "a.txt").write_text("changed")
        os.utime(data / "a.txt", (1e9 + 1, 1e9 + 1))
        return Finding({})

    kept("text", data, {}, find)
    assert entries() == []


def mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """Let this test's folder lie on a file system of a kind."""
    point = str(tmp_path).replace(" ", "\\040")
    lines = ["22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw", f"23 22 0:50 / {point} rw - {kind} there rw"]
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    mounts.MOUNTS.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("kind", "is_mapped"),
    [("ext4", True), ("overlay", True), ("nfs4", False), ("fuse.sshfs", False), ("lustre", False), ("newfs", False)],
)
def test_arrays_come_back_as_they_were(
    data: Path, kind: str, is_mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are mapped only where no other machine can take a file away that is mapped."""
    mount(monkeypatch, tmp_path, kind)
    arrays: dict[str, np.ndarray] = {
        "bytes": np.frombuffer(b"abc", np.uint8),
        "none": np.zeros((0, 4), np.float64),
        "table": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    }

    def find() -> Finding:
        looking_at(data)
        return Finding({"name": "ä\udcff"}, arrays)

    for _ in range(2):
        found = kept("arrays", data, {}, find)
        assert found.facts == {"name": "ä\udcff"} and found.arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(found.arrays[name], array)
    base = found.arrays["table"]
    while isinstance(base.base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap) == is_mapped


def test_where_mounts_are_not_told_nothing_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(monkeypatch, tmp_path, "xfs")
    (tmp_path / "a b").mkdir()
    assert mounts.is_on_own_disk(tmp_path / "a b")
    mounts.MOUNTS.unlink()
    assert not mounts.is_on_own_disk(tmp_path)


def test_what_a_larger_answer_rests_on_is_watched(data: Path) -> None:
    """The smaller one came from the cache, and was not looked at again for the larger one."""
    search = Search(data)
    search.ask()

    def larger() -> str:
        return str(kept("larger", data, {}, lambda: Finding({"text": search.ask()})).facts["text"])

    assert larger() == "one" and search.times == 1
    (data / "a.txt").write_text("two!")
    assert larger() == "two!"


def test_it_is_found_anew_on_request(data: Path) -> None:
    search = Search(data)
    search.ask()
    with found_anew(wanted=False):
        search.ask()
    assert search.times == 1
    with found_anew():
        search.ask()
    search.ask()
    assert search.times == 2


def test_an_error_is_raised_and_not_kept(data: Path) -> None:
    def fail() -> Finding:
        looking_at(data)
        raise DataError("no")

    with pytest.raises(DataError):
        kept("text", data, {}, fail)
    assert Search(data).ask() == "one"


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b'{"asked": 1}\n', None])
def test_a_broken_cache_costs_a_look(data: Path, content: bytes | None) -> None:
    search = Search(data)
    search.ask(), search.ask(other=1)
    for entry in entries():
        entry.path.write_bytes(entry.path.read_bytes().partition(b"\n")[0] if content is None else content)
    assert search.ask() == "one"


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    return tmp_path / f"backbench-{os.getuid()}"


def test_a_cache_that_cannot_be_written_to_is_told_once_and_a_temporary_folder_serves(
    data: Path, unwritable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = Search(data)
    assert [search.ask(), search.ask(), search.ask(other=1)] == ["one"] * 3 and search.times == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{unwritable.parent}/file/backbench cannot be written to (Not a directory)" in line
    assert f"kept in {unwritable}" in line and "XDG_CACHE_HOME" in line
    assert unwritable.stat().st_mode & 0o777 == 0o700
    assert {entry.path.parent for entry in entries()} == {unwritable} and clear() > 0 and entries() == []


def test_of_several_processes_the_first_tells_it(
    data: Path, unwritable: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    search = Search(data)
    search.ask(), search.ask()
    assert search.times == 1 and capsys.readouterr().err == ""


def test_a_temporary_folder_that_others_may_write_to_is_not_used(
    data: Path, unwritable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unwritable.mkdir()
    unwritable.chmod(0o777)
    search = Search(data)
    assert [search.ask(), search.ask()] == ["one", "one"] and search.times == 2
    assert entries() == [] and clear() == 0 and not [*unwritable.iterdir()]
    assert "by each process anew" in capsys.readouterr().err


def test_what_was_used_longest_ago_makes_room(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Search(data)
    for number in range(3):
        search.ask(number=number)
    files = {entry.path for entry in entries()}
    for number, path in enumerate(sorted(files)):
        os.utime(path, (number + 1, number + 1))
    oldest, *_ = entries()
    monkeypatch.setattr(cache, "LIMIT", sum(entry.bytes for entry in entries()) + 100)
    search.ask(number=3)
    assert oldest.path not in {entry.path for entry in entries()} and len(entries()) == 3
    monkeypatch.setattr(cache, "LIMIT", 10)
    assert search.ask(number=4) == "one" and len(entries()) == 3


def test_all_of_it_can_go(data: Path, folder: Path) -> None:
    search = Search(data)
    search.ask()
    (folder / "data" / ".left.partial").write_bytes(b"123")
    assert clear() > 3 and entries() == [] and not [*(folder / "data").iterdir()]
    assert search.ask() == "one"
