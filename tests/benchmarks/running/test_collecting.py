"""results.csv holds every finished run, whoever else finishes one at the same time and whatever lies beside."""

import csv
import multiprocessing
from pathlib import Path

import pytest

from benchmarks.running.collecting import collect, is_collected
from benchmarks.running.writing import write_record
from results import ResultsError
from tests.support.in_process import refusal, success
from tests.support.results_examples import make_record

KEYS = [f"{number:012x}" for number in range(100)]


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


def test_no_row_is_lost_where_runs_end_together(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path, number)
    context = multiprocessing.get_context("fork")
    for first in range(40, 60, 4):
        runs = [context.Process(target=end_a_run, args=(tmp_path, first + k)) for k in range(4)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert [run.exitcode for run in runs] == [0] * 4
        assert collected(tmp_path) == set(KEYS[: first + 4])


def test_what_cannot_be_read_is_named_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, 0)
    for name, content in (("empty", ""), ("cut", '{"task": '), ("foreign", '{"name": "yolo"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(content)
    assert collect(tmp_path) == 1
    assert collected(tmp_path) == {KEYS[0]}
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2].strip() for line in told] == [
        str(tmp_path / name / "record.json") for name in ("cut", "empty", "foreign")
    ]


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
