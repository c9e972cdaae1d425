"""What finished runs leave behind, and what the commands that read it say of them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.commands import metric_values, read_record, run_directory
from tests.support.in_process import success
from tests.support.results_examples import read_markdown


def read_log(directory: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def assert_pictures_and_curves(directory: Path, picture: str, metrics: list[str]) -> None:
    """A run of four updates has one picture, and its losses and these metrics in TensorBoard's files."""
    (path,) = (directory / "pictures").iterdir()
    assert path.name == picture
    with Image.open(path) as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 100
    curves = EventAccumulator(str(directory / "tensorboard")).Reload()
    assert [event.step for event in curves.Scalars("train/loss")] == [1, 2, 3, 4]
    values = metric_values(json.loads((directory / "record.json").read_text()))
    for name in metrics:
        (event,) = curves.Scalars(f"val/{name}")
        assert event.value == pytest.approx(values[name], rel=1e-6)


def assert_record_was_written_last(directory: Path, *patterns: str) -> None:
    """Whoever finds a record finds all that its run leaves behind; files of these patterns are among it."""
    times = {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}
    record = times.pop(directory / "record.json")
    assert [path for path, time in times.items() if time > record] == []
    assert [pattern for pattern in patterns if not list(directory.glob(pattern))] == []


def assert_skipped(arguments: list[str], directory: Path, training: str, metric: str) -> None:
    """A command whose run has finished shows its first metric and calls no function `training`; the record stays."""
    record = directory / "record.json"
    before = record.read_bytes()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training, lambda *arguments, **options: pytest.fail("ran again"))
        result = success(*arguments)
    assert "finished before; nothing to do" in result.output
    assert f"{metric} {metric_values(json.loads(before))[metric]:.2f} %" in result.output
    assert record.read_bytes() == before


def assert_in_results_csv(out: Path, seeds: tuple[int, ...], task: str, data_set: str) -> None:
    """`results.csv` has the metrics of the runs of all seeds, to the last digit."""
    frame = pd.read_csv(out / "results.csv", float_precision="round_trip")
    for seed in seeds:
        rows = frame[frame["seed"] == seed]
        assert dict(zip(rows["metric"], rows["value"], strict=True)) == metric_values(read_record(out, seed))
        assert set(rows["task"]) == {task} and set(rows["dataset"]) == {data_set}


def assert_in_table(out: Path, layout: str, caption: str, columns: dict[str, str]) -> None:
    """A table has one row, of two seeds with random weights: the means of these metrics, each in its column."""
    result = success("table", out, "--layout", layout)
    assert result.output.startswith(f"### {caption}")
    ((heading, row),) = read_markdown(result.output)
    assert heading == ["method", "pre-train data", *columns.values()]
    assert row[:2] == ["random", "none"]
    for name, cell in zip(columns, row[2:], strict=True):
        mean = sum(metric_values(read_record(out, seed))[name] for seed in (0, 1)) / 2
        assert cell.startswith(f"{mean:.1f} [") and "(2 seeds)" in cell


def assert_compared(out: Path, data_set: str, images: int, metrics: list[str]) -> None:
    """The runs of two seeds are the same protocol on the same images, and the comparison shows both and the rest."""
    result = success("compare", *(run_directory(out, seed) for seed in (0, 1)))
    assert f"{data_set}: both on the same {images} images" in result.output
    assert "not the same protocol" not in result.output
    for name in metrics:
        ours, theirs = (metric_values(read_record(out, seed))[name] for seed in (0, 1))
        (line,) = [line.split() for line in result.output.splitlines() if line.startswith(f"{name}\t")]
        assert line[1:4] == [f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:+.2f}"]
