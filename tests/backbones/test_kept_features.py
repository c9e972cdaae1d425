"""Features are kept whole or not at all, and never taken for others."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones import kept_features
from backbones.errors import InputError, TryAgainError
from backbones.kept_features import KeptFeatures, feature_entries, remove_features
from tests.support.in_process import refusal, success

VALUES = {"token1": np.arange(12, dtype=np.float32).reshape(4, 3), "avg1": np.ones((4, 2), np.float32)}
READABLE = np.array([True, False, True, True])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def place(**about: Any) -> KeptFeatures:
    return KeptFeatures({"weights": "a", **about}, "photos: training, by vit", 4)


def write(kept: KeptFeatures, start: int, end: int) -> None:
    unreadable = {"1.jpg": "truncated"} if start <= 1 < end else {}
    kept.write(start, {name: each[start:end] for name, each in VALUES.items()}, READABLE[start:end], unreadable)


def test_what_is_written_is_found() -> None:
    kept = place()
    assert kept.find() is None and kept.done() == 0
    write(kept, 0, 3)
    assert kept.find() is None and place().done() == 3
    write(place(), 3, 4)
    place().finish()
    found = place().find()
    assert found is not None and place(weights="b").find() is None
    for name, each in VALUES.items():
        np.testing.assert_array_equal(found.values[name], each)
        assert isinstance(found.values[name], np.memmap)
    np.testing.assert_array_equal(found.readable, READABLE)
    assert found.unreadable == {"1.jpg": "truncated"}
    (entry,) = feature_entries()
    assert (entry.what, entry.subject) == ("features", "photos: training, by vit")
    assert entry.bytes >= 4 * (1 + 4 * 5)


def test_what_another_question_left_unfinished_is_not_gone_on_with(tmp_path: Path) -> None:
    kept = place()
    write(kept, 0, 3)
    other = place(weights="b")
    kept.unfinished.rename(other.unfinished)
    assert other.done() == 0
    write(other, 0, 2)
    assert other.done() == 2


def finished() -> KeptFeatures:
    kept = place()
    write(kept, 0, 4)
    kept.finish()
    return kept


def test_features_of_something_else_in_their_place_are_refused() -> None:
    kept, other = finished(), place(weights="b")
    kept.folder.rename(other.folder)
    with pytest.raises(InputError, match=f"holds other features.*backbench cache rm {other.folder.name}"):
        other.find()


@pytest.mark.parametrize("what", ["token1.npy", "readable.npy"])
@pytest.mark.parametrize("harm", ["cut off", "gone"])
def test_damaged_files_are_refused(what: str, harm: str) -> None:
    kept = finished()
    path = kept.folder / what
    path.write_bytes(path.read_bytes()[:-1])
    if harm == "gone":
        path.unlink()
    with pytest.raises(InputError, match="missing or were cut off"):
        kept.find()


def test_a_head_that_is_no_json_is_refused() -> None:
    kept = finished()
    (kept.folder / "features.json").write_text("{")
    with pytest.raises(InputError, match="holds other features"):
        kept.find()


@pytest.mark.parametrize("missing", ["unreadable", "widths"])
def test_a_head_that_lacks_something_is_refused(missing: str) -> None:
    kept = finished()
    head = kept.folder / "features.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {missing: None}))
    with pytest.raises(InputError, match="holds other features"):
        kept.find()


def test_damaged_ones_are_listed_and_removed_by_name() -> None:
    kept = finished()
    (kept.folder / "features.json").write_text("{}")
    with pytest.raises(InputError, match=f"backbench cache rm {kept.folder.name}"):
        kept.find()
    assert [(entry.what, entry.path) for entry in feature_entries()] == [("damaged features", kept.folder)]
    success("cache", "rm", kept.folder.name)
    assert kept.find() is None and not kept.folder.exists()


def test_what_an_ended_removal_has_left_is_replaced() -> None:
    kept = finished()
    (kept.folder / "features.json").unlink()
    assert kept.find() is None
    write(kept, 0, 4)
    kept.finish()
    assert kept.find() is not None and not (kept.folder / "done.json").exists()


def test_what_cannot_be_given_its_name_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = place()
    write(kept, 0, 4)

    def rename(path: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken, pytest.raises(InputError, match="cannot be written"):
        broken.setattr(Path, "rename", rename)
        kept.finish()
    assert kept.done() == 4
    kept.finish()
    assert kept.find() is not None


def test_an_empty_name_removes_nothing() -> None:
    kept = finished()
    assert refusal("cache", "rm", "").startswith('"": no features of that name')
    assert kept.find() is not None


def test_only_one_computes_them() -> None:
    kept = place()
    with kept.alone(0.1) as first, place().alone(0.1) as second:
        assert first and not second
    with place().alone(0.1) as third:
        assert third


def test_what_was_used_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    first = finished()
    size = feature_entries()[0].bytes
    monkeypatch.setattr(kept_features, "LIMIT", size)
    second = place(weights="b")
    write(second, 0, 4)
    second.finish()
    assert first.find() is None and second.find() is not None


def test_too_little_room_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptFeatures({}, "photos: training, by vit", 10**12)
    with pytest.raises(InputError, match=r"take 13000\.0 GB there, and .* GB are free"):
        kept.write(
            0, {name: each[:1] for name, each in VALUES.items()} | {"avg1": VALUES["avg1"][:1, :0]}, READABLE[:1], {}
        )


@pytest.fixture
def _unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files that serves, since a file stands where the cache folder would be."""
    (tmp_path / "backbench").write_text("a file")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"backbench-features-{os.getuid()}"


def test_where_the_cache_cannot_be_written_to_a_temporary_folder_serves(
    _unwritable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with place().alone(0.1) as alone:
        write(place(), 0, 2)
        write(place(), 2, 4)
        place().finish()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"backbench cannot be written to: features are kept in {_unwritable}")
    assert alone and place().folder.parent == _unwritable
    assert _unwritable.stat().st_mode & 0o777 == 0o700
    require_values(place())
    assert [entry.path for entry in feature_entries()] == [place().folder]
    success("cache", "rm", place().folder.name)
    assert place().find() is None and feature_entries() == []


def test_neither_can_be_written_to(_unwritable: Path) -> None:
    _unwritable.mkdir()
    _unwritable.chmod(0o777)
    with pytest.raises(InputError, match="XDG_CACHE_HOME"), place().alone(0.1):
        pass


def test_features_of_a_cache_that_can_only_be_read_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place(), 0, 4)
    place().finish()
    kept, lock, access = place().folder, kept_features.FileLock.acquire, os.access

    def refuse(self: Any, *arguments: Any, **options: Any) -> Any:
        if str(kept.parent) in self.lock_file:
            raise PermissionError(errno.EACCES, "Permission denied")
        return lock(self, *arguments, **options)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(kept_features.FileLock, "acquire", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: kept.parent != path and access(path, mode))
    with place().alone(0.1) as alone:
        require_values(place())
    assert alone and place().folder == kept
    with place(weights="b").alone(0.1):
        assert place(weights="b").folder.parent.parent == tmp_path / "other"


def test_what_is_asked_is_kept_as_json() -> None:
    assert json.loads(json.dumps(place(size=(1, 2)).about)) == place(size=[1, 2]).about


def test_the_cache_lists_and_removes_them() -> None:
    first, second = finished(), place(weights="b")
    write(second, 0, 2)
    listed = success("cache", "ls", "--json").output
    assert first.folder.name in listed and second.unfinished.name in listed
    assert refusal("cache", "rm", "x").startswith('"x": no features of that name')
    success("cache", "rm", first.folder.name)
    assert first.find() is None and second.done() == 2
    success("cache", "rm", "--features")
    assert second.done() == 0 and not feature_entries()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_whoever_died_there_is_not_waited_for(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*about: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    with place().alone(0.1) as first, place().alone(0.1) as second:
        assert first and second


def require_values(kept: KeptFeatures) -> None:
    found = kept.find()
    assert found is not None
    for name, each in VALUES.items():
        np.testing.assert_array_equal(found.values[name], each)
    np.testing.assert_array_equal(found.readable, READABLE)


def test_two_that_nothing_keeps_apart_write_each_image_to_its_place() -> None:
    first, second = place(), place()
    write(first, 0, 2)
    write(second, 0, 2)
    assert first.done() == 2
    write(second, 2, 4)
    write(first, 2, 4)
    first.finish()
    second.finish()
    require_values(place())


def test_who_comes_last_where_nothing_keeps_them_apart_leaves_what_is_finished() -> None:
    second = place()
    write(second, 0, 2)
    write(place(), 2, 4)
    place().finish()
    write(second, 2, 4)
    second.finish()
    require_values(place())
    assert not second.unfinished.exists()


def test_what_was_removed_amid_a_pass_is_not_begun_with_later_images() -> None:
    kept = place()
    write(kept, 0, 2)
    success("cache", "rm", "--features")
    with pytest.raises(TryAgainError, match="0 images are done there, and were 2"):
        write(kept, 2, 3)
    assert place().done() == 0


def test_what_was_removed_after_a_pass_is_told() -> None:
    write(place(), 0, 4)
    shutil.rmtree(place().unfinished)
    with pytest.raises(TryAgainError, match=r"0 images are done there, and were 4: .* Repeat the command"):
        place().finish()
    assert place().find() is None


def test_files_that_could_not_be_removed_are_in_nobodys_way() -> None:
    kept = finished()
    (kept.folder / "features.json").unlink()  # NFS keeps what is open, and so the folder
    assert kept.find() is None
    write(kept, 0, 4)
    kept.finish()
    require_values(kept)


def test_removed_features_are_gone_though_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = finished()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *about, **more: None)
        remove_features(kept.folder)
    assert kept.find() is None and not feature_entries() and not kept.folder.exists()
    finished()
    assert [path.name for path in kept.folder.parent.iterdir()] == [kept.folder.name]


def test_who_is_killed_before_they_have_their_name_repeats_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = place()
    write(kept, 0, 4)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *about: (_ for _ in ()).throw(OSError(errno.EIO, "killed")))
        with pytest.raises(InputError, match="killed"):
            kept.finish()
    assert place().done() == 4
    place().finish()
    require_values(place())


def test_from_other_disks_only_what_is_wanted_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = finished()
    monkeypatch.setattr(kept_features, "is_on_own_disk", lambda path: False)
    found, nothing = kept.find(["avg1"]), kept.find(())
    assert found is not None and [*found.values] == ["avg1"] and not isinstance(found.values["avg1"], np.memmap)
    assert nothing is not None and not nothing.values
    (kept.folder / "token1.npy").unlink()
    with pytest.raises(InputError, match="missing or were cut off"):
        kept.find(())


def test_what_is_asked_for_together_makes_no_room_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    first = finished()
    monkeypatch.setattr(kept_features, "LIMIT", 1)
    second = place(weights="b")
    second.spared = [first.folder]
    write(second, 0, 4)
    second.finish()
    assert first.find() is not None and second.find() is not None


def test_what_was_begun_long_ago_makes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    left, now = place(weights="c"), place(weights="d")
    write(left, 0, 2)
    write(now, 0, 2)
    for path in (left.unfinished, *left.unfinished.iterdir()):
        os.utime(path, (0, 0))
    monkeypatch.setattr(kept_features, "LIMIT", 1)
    write(place(), 0, 2)
    assert left.done() == 0 and now.done() == 2 and place().done() == 2
