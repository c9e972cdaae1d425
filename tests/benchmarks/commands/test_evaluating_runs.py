"""`backbench evaluate` of finished runs, for all tasks: the numbers of their records, whatever happens on the way."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.commands import Moment, backbench, comparable, metric_values, read_record, run_directory, torchrun
from tests.support.evaluated_runs import EQUAL, PRODUCTS, RUNS, arguments, evaluate
from tests.support.in_process import call, refusal, success


def assert_same_product(task: str, one: Path, other: Path) -> None:
    """Both runs left the same results of every image, to the last byte."""
    paths = [directory / PRODUCTS[task] for directory in (one, other)]
    if paths[0].suffix != ".npz":
        assert paths[0].read_bytes() == paths[1].read_bytes()
        return
    a, b = (np.load(path, allow_pickle=False) for path in paths)
    assert a.files == b.files and all(np.array_equal(a[name], b[name]) for name in a.files)


def test_it_gives_the_records_numbers(task: str, sources: dict[str, Path], trained: Path, tmp_path: Path) -> None:
    run = run_directory(trained)
    record = evaluate(sources[task], run, tmp_path)
    expected = read_record(trained)
    assert {name: record[name] for name in EQUAL} == {name: expected[name] for name in EQUAL}
    assert record["trained"] == expected["key"] and record["key"] != expected["key"]
    assert record["train_loss"] is None and record["wall_seconds"] is None
    assert record["load_report"]["path"] == str(run / "weights.safetensors")
    assert_same_product(task, run, run_directory(tmp_path))
    again = call(*arguments(sources[task], run, tmp_path))
    assert again.exit_code == 0 and "finished before; nothing to do" in again.output


def test_a_copy_of_the_weights_is_the_same_network(small: Path, finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(run_directory(finished) / "weights.safetensors", tmp_path / "mine.safetensors"))
    record = evaluate(small, copy, tmp_path / "runs")
    assert metric_values(record) == metric_values(read_record(finished))


def test_any_number_of_images_a_step_gives_the_same(small: Path, finished: Path, tmp_path: Path) -> None:
    """Five images divide neither the batch nor the images."""
    record = evaluate(small, run_directory(finished), tmp_path, "--set", "runtime.batch_per_device=5")
    expected = read_record(finished)
    for name, value in metric_values(expected).items():
        assert metric_values(record)[name] == pytest.approx(value, abs=1e-4)
    frames = [pd.read_csv(run_directory(out) / "per_image.csv") for out in (finished, tmp_path)]
    assert frames[0]["predictions"].equals(frames[1]["predictions"])


@pytest.mark.slow
def test_killed_after_its_evaluation_it_does_not_evaluate_again(
    task: str, sources: dict[str, Path], trained: Path, tmp_path: Path
) -> None:
    command = arguments(sources[task], run_directory(trained), tmp_path / "runs")
    moment = Moment("benchmarks.running.evaluating.write_per_image")
    assert backbench(command, tmp_path / "killed.txt", moment) < 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("mmengine.runner.ValLoop.run", None)
        success(*command)
    record = read_record(tmp_path / "runs")
    assert metric_values(record) == metric_values(read_record(trained))
    assert record["total_seconds"] >= record["evaluation_seconds"] > 0
    assert_same_product(task, run_directory(trained), run_directory(tmp_path / "runs"))


def test_killed_on_the_way_it_begins_anew(small: Path, finished: Path, tmp_path: Path) -> None:
    command = arguments(small, run_directory(finished), tmp_path / "runs")
    assert backbench(command, tmp_path / "killed.txt", Moment("mmengine.runner.ValLoop.run_iter")) < 0
    record = evaluate(small, run_directory(finished), tmp_path / "runs")
    assert comparable(record) == comparable(evaluate(small, run_directory(finished), tmp_path / "other"))


def test_interrupted_it_ends_well_and_begins_anew(small: Path, finished: Path, tmp_path: Path) -> None:
    command = arguments(small, run_directory(finished), tmp_path / "runs")
    moment = Moment("mmengine.runner.ValLoop.run_iter")
    assert backbench(command, tmp_path / "log", moment, signal.SIGINT) == 130
    assert "interrupted; repeat the command to evaluate anew" in (tmp_path / "log").read_text()
    key = read_record(finished)["key"]
    assert "unfinished\tclassification" in (text := success("runs", tmp_path / "runs").output)
    assert f"an evaluation of the run {key}" in text and "epoch" not in text
    success(*command)
    assert metric_values(read_record(tmp_path / "runs")) == metric_values(read_record(finished))


@pytest.mark.slow
def test_windows_or_the_whole(sources: dict[str, Path], tmp_path: Path) -> None:
    """Another inference is another number, and the run's own settings give the run's own again."""
    data = sources["segmentation"]
    success(*RUNS["segmentation"](data, tmp_path / "runs"))
    run = run_directory(tmp_path / "runs")
    whole = ("--set", "inference.mode=whole", "--set", "inference.stride=null")
    record = evaluate(data, run, tmp_path / "whole", *whole, "--set", "inference.flip=true")
    expected = read_record(tmp_path / "runs")
    assert record["protocol"] != expected["protocol"] and record["key"] != expected["key"]
    assert record["protocol"]["inference.mode"] == '"whole"' and record["protocol"]["inference.flip"] == "true"
    assert 'mode "whole" has none (inference.stride=null)' in refusal(*arguments(data, run, tmp_path, *whole[:2]))
    back = ("--set", "inference.mode=slide", "--set", f"inference.stride={expected['protocol']['inference.stride']}")
    assert metric_values(evaluate(data, run, tmp_path / "slide", *back)) == metric_values(expected)


@pytest.mark.parametrize("dense", [pytest.param("detection", marks=pytest.mark.slow), "segmentation"])
def test_dense_tasks_are_evaluated_in_fp32_whatever_they_were_trained_in(
    sources: dict[str, Path], tmp_path: Path, dense: str
) -> None:
    """Which the record says; key, protocol and deviations are those of the run's own settings."""
    data, out = sources[dense], tmp_path / "runs"
    success(*RUNS[dense](data, out, precision="bf16"))
    run, expected = run_directory(out), read_record(out)
    record = evaluate(data, run, tmp_path / "own")
    assert (expected["precision"], record["precision"]) == ("bf16", "fp32")
    assert {name: record[name] for name in EQUAL} == {name: expected[name] for name in EQUAL}
    result = call(*arguments(data, run, tmp_path / "own", "--set", "precision=fp32"))
    assert "finished before; nothing to do" in result.output
    message = refusal(*arguments(data, run, tmp_path / "own", "--set", "precision=bf16"))
    assert message == f"--set precision=bf16: networks of {dense} compute in fp32 here always. Leave it out"


@pytest.mark.slow
def test_two_processes_give_the_same(task: str, sources: dict[str, Path], trained: Path, tmp_path: Path) -> None:
    torchrun(arguments(sources[task], run_directory(trained), tmp_path))
    record, expected = read_record(tmp_path), read_record(trained)
    assert record["world_size"] == 2
    for name, value in metric_values(expected).items():
        assert metric_values(record)[name] == pytest.approx(value, abs=1e-4)


def test_a_first_look_is_marked_as_one(task: str, sources: dict[str, Path], trained: Path, tmp_path: Path) -> None:
    record = evaluate(sources[task], run_directory(trained), tmp_path, "--limit", 3)
    assert {metric["n_eval"] for metric in record["metrics"]} == {3}
    assert record["evaluation_images"] == read_record(trained)["evaluation_images"] > 3
    assert "limit=3 (reference all images)" in record["deviations"]
    table = success("table", tmp_path).output
    assert f"evaluated on 3 of {record['evaluation_images']} images" in table


def test_a_limit_beyond_all_images_is_none(small: Path, finished: Path, tmp_path: Path) -> None:
    record = evaluate(small, run_directory(finished), tmp_path, "--limit", 10_000)
    assert record["key"] == evaluate(small, run_directory(finished), tmp_path)["key"]
    assert record["deviations"] == read_record(finished)["deviations"]


def test_what_it_would_do_is_said_beforehand(small: Path, finished: Path, tmp_path: Path) -> None:
    command = arguments(small, run_directory(finished), tmp_path, "--limit", 4)
    text = success(*command, "--dry-run").output
    assert "to be evaluated; results go below" in text and "limit=4 (reference all images)" in text
    assert not list(tmp_path.iterdir())
    document = json.loads(success(*command, "--dry-run", "--json").stdout)
    assert document["trained"] == read_record(finished)["key"] and document["to_be_run"]
    assert "weights.safetensors" not in success(*command).output.replace(str(finished), "")
    assert "finished on " in success(*command, "--dry-run").output
