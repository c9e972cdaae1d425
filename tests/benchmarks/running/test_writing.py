"""Records, results.csv and other texts: written whole or not at all, whatever the disk does."""

import errno
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.running.writing import write_record, write_results_csv, write_text
from results import ResultsError, read_record
from tests.support.results_examples import make_record


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", refuse)
    yield


def test_a_record_is_written_and_read(tmp_path: Path) -> None:
    record = make_record()
    path = write_record(tmp_path / "new" / "run", record)
    assert path == tmp_path / "new" / "run" / "record.json"
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
    assert read_record(path.parent) == record


@pytest.mark.parametrize("write", [write_record, write_text])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, write: Callable[..., Path]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/record.json").symlink_to(tmp_path / "there/file")
    write(*((tmp_path / "here", make_record()) if write is write_record else (tmp_path / "here/record.json", "text")))
    assert (tmp_path / "here/record.json").is_symlink() and (tmp_path / "there/file").stat().st_size > 0
    assert [path.name for path in tmp_path.rglob(".*")] == []


def test_writing_respects_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_path_up_from_a_link_is_followed_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "there/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there/deep")
    path = write_text(tmp_path / "link/../runs/file", "text")
    assert path.read_text() == "text"
    assert path.resolve() == tmp_path.resolve() / "there/runs/file"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("old")
    with pytest.raises(ResultsError, match="no space is left in"):
        write_text(tmp_path / "results.csv", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]
    assert (tmp_path / "results.csv").read_text() == "old"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_at_the_end_of_a_run_says_that_nothing_is_trained_anew(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        write_record(tmp_path / "run", make_record())
    assert str(tmp_path / "run") in str(caught.value)
    assert "repeat the command" in str(caught.value)
    assert "without training anew" in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == []


def test_an_interrupted_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"file/run/record\.json.*cannot be written"):
        write_record(tmp_path / "file" / "run", make_record())


def test_a_directory_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(ResultsError, match=r"results\.csv: cannot be written"):
        write_results_csv(tmp_path / "results.csv", [make_record()])
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def write_often(path: Path, seed: int, count: int) -> None:
    records = [make_record(seed, backbone=f"{seed}-{index}") for index in range(200)]
    for _ in range(count):
        write_results_csv(path, records)


def test_two_processes_that_write_at_once_never_tear_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    whole = []
    for seed in (1, 2):
        write_often(path, seed, 1)
        whole.append(path.read_bytes())
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_often, args=(path, seed, 20)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in whole
        reads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert reads > 0
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_the_record_on_disk_is_plain_json(tmp_path: Path) -> None:
    fields = json.loads(write_record(tmp_path, make_record()).read_text(encoding="utf-8"))
    assert fields["metrics"][0]["value"] == 83.0
    assert fields["schema_version"] == 2
