"""Stores made by hand: runs with records, checkpoints and claims of any age."""

import os
import time
from pathlib import Path

from benchmarks.running.claim import CLAIM, RECIPE
from benchmarks.running.owners import Holder
from benchmarks.running.writing import write_record
from results import run_directory
from tests.support.results_examples import make_record

KEY = "0123456789ab"
RECIPE_TEXT = "task: classification\ndataset: shapes\nschedule: {epochs: 100}\n"

ELSEWHERE = Holder("node7", 77, boot="another")
"""A process of another host."""


def put_run(out: Path, number: int = 1, *, seed: int = 0, finished: bool = True, checkpoints: int = 2) -> Path:
    """A run with so many checkpoints of a kilobyte."""
    directory = run_directory(out, "classification", "imagenet1k", "mae_vit_base", seed, KEY, number)
    (directory / "checkpoints").mkdir(parents=True)
    (directory / RECIPE).write_text(RECIPE_TEXT)
    for update in range(1, checkpoints + 1):
        (directory / f"checkpoints/iteration_{update}.pth").write_bytes(b"x" * 1024)
    if finished:
        write_record(directory, make_record(key=KEY, seed=seed, run=number))
    return directory


def claim_from_elsewhere(directory: Path, silent_for: float) -> None:
    """The claim of a process on node7, which gave its last sign of life so many seconds ago."""
    (directory / CLAIM).write_bytes(ELSEWHERE.marker)
    os.utime(directory / CLAIM, (time.time() - silent_for,) * 2)
