"""A folder in the cache that holds what was written into it: all of it, or there is no such folder."""

import errno
import os
import time
from pathlib import Path

import pytest

from backbones.cache import clear, entries, unpacked
from backbones.errors import TryAgainError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backbench" / "unpacked"


def write(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "image").write_bytes(b"12345")


def test_it_is_written_once_listed_and_cleared(place: Path, tmp_path: Path) -> None:
    folder = unpacked("images", tmp_path / "data", "set-1", write)
    assert folder == place / "set-1" and (folder / "deep" / "image").read_bytes() == b"12345"
    assert unpacked("images", tmp_path / "data", "set-1", lambda _: pytest.fail("written again")) == folder
    (entry,) = entries()
    assert (entry.what, entry.subject, entry.bytes, entry.path) == ("images", str(tmp_path / "data"), 5, folder)
    (place / ".left.0123").mkdir()
    assert clear() >= 5 and entries() == [] and not [*place.iterdir()]


def test_of_two_at_the_same_time_the_first_to_be_done_is_taken(place: Path, tmp_path: Path) -> None:
    def write_while_another_does(folder: Path) -> None:
        unpacked("images", tmp_path, "set-1", write)
        (folder / "late").touch()

    folder = unpacked("images", tmp_path, "set-1", write_while_another_does)
    assert (folder / "deep").is_dir() and not (folder / "late").exists() and [*place.iterdir()] == [folder]


def test_what_was_not_finished_is_not_there(place: Path, tmp_path: Path) -> None:
    def stop(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpacked("images", tmp_path, "set-1", stop)
    assert not [*place.iterdir()]


def test_a_full_disk_is_worth_another_try(place: Path, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(TryAgainError, match=f"{place}/set-1: cannot be written: No space left on device.*XDG_CACHE_"):
        unpacked("images", tmp_path, "set-1", fill)
    assert not [*place.iterdir()]


@pytest.mark.parametrize("cut", [True, False])
def test_one_that_has_lost_something_is_written_anew(place: Path, tmp_path: Path, cut: bool) -> None:
    image = unpacked("images", tmp_path, "set-1", write) / "deep" / "image"
    image.write_bytes(b"") if cut else image.unlink()
    assert unpacked("images", tmp_path, "set-1", write) == place / "set-1"
    assert image.read_bytes() == b"12345" and [*place.iterdir()] == [place / "set-1"]


def test_what_killed_processes_left_is_listed_and_goes_after_a_day(place: Path, tmp_path: Path) -> None:
    old, young = place / ".set-1.0123", place / ".set-1.4567"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "image").write_bytes(b"123")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    assert [(entry.what, entry.path, entry.bytes) for entry in entries()] == [
        ("unfinished", old, 3),
        ("unfinished", young, 3),
    ]
    unpacked("images", tmp_path, "set-1", write)
    assert {*place.iterdir()} == {young, place / "set-1"}
