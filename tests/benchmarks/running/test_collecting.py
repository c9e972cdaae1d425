"""results.csv holds every finished run, whoever else finishes one at the same time and whatever lies beside."""

import csv
import itertools
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.running.collecting import collect, is_collected
from benchmarks.running.writing import write_record
from results import ResultsError
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


def end_a_run(out: Path, number: int) -> None:
    put(out, number)
    collect(out)


def end_together(out: Path, numbers: Sequence[int]) -> None:
    """Runs that end at the same time, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=end_a_run, args=(out, number)) for number in numbers]
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


def test_no_row_is_lost_where_runs_end_together(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path, number)
    for first in range(40, 60, 4):
        end_together(tmp_path, range(first, first + 4))
        assert collected(tmp_path) == set(KEYS[: first + 4])


@pytest.mark.slow
def test_no_row_is_ever_lost_in_a_store_of_two_hundred(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Fifty times four runs end together, among records that can't be read and a neighbour's that vanish."""
    for number in range(200):
        put(tmp_path, number)
    spoilt = spoil(tmp_path)
    for _ in range(50):
        with vanishing(tmp_path):
            end_together(tmp_path, range(200, 204))
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


def test_a_run_is_collected_once_its_key_is_there(tmp_path: Path) -> None:
    first = put(tmp_path, 0)
    assert not is_collected(tmp_path, first, make_record(0, key=KEYS[0]))
    collect(tmp_path)
    assert is_collected(tmp_path, first, make_record(0, key=KEYS[0]))
    assert not is_collected(tmp_path, first, make_record(1, key=KEYS[1]))


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
