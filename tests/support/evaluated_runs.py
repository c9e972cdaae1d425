"""Runs of all tasks that are evaluated again, by `backbench evaluate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import detection_runs, segmentation_runs
from tests.support.commands import read_record
from tests.support.in_process import run, success

RUNS: dict[str, Callable[..., list[str]]] = {
    "classification": run,
    "detection": detection_runs.detection,
    "segmentation": segmentation_runs.segmentation,
}
"""By task, the arguments of a run of a second or two: (data, out)."""

PRODUCTS = {"classification": "per_image.csv", "detection": "detections.json", "segmentation": "areas.npz"}
"""What an evaluation leaves beside its record, by task."""

EQUAL = ("metrics", "per_class", "protocol", "deviations", "data_fingerprint", "dataset", "backbone", "seed", "table")
"""What the records of a run and of its evaluation have in common."""


def arguments(data: Path, weights: Path, out: Path, *more: object) -> list[str]:
    """`backbench evaluate` on the CPU, without loader processes."""
    own = ["--set", "runtime.device=cpu", "--set", "runtime.workers=0"]
    return [*map(str, ("evaluate", "--data", data, "--weights", weights, "--out", out, *own, *more))]


def evaluate(data: Path, weights: Path, out: Path, *more: object) -> dict[str, Any]:
    """The record of an evaluation, the only one below `out`."""
    success(*arguments(data, weights, out, *more))
    return read_record(out)
