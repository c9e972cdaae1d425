"""A folder in the cache that holds what was written into it: all of it, or there is no such folder."""

import errno
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
