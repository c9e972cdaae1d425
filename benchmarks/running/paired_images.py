"""The paired test on images between two sides of a verdict: which runs are tested, as `backbench compare` does it."""

from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError
from benchmarks.running.baselines import IMAGES
from results.errors import ResultsError
from results.record import Outline
from results.regression.image_tests import ImagesTested, NotKeptError
from results.regression.joining import Pair
from results.regression.runs import Run
from results.store import read_record
from tasks.pairing import PairedRuns
from tasks.registry import TASKS

MOST_SEEDS = 3
"""Seeds that are tested together, which bounds time and memory: two detectors on COCO take a quarter of a minute."""


def compare_images(pair: Pair) -> ImagesTested | None:
    """Test the runs of both sides of a cell on the same images, by the metric that the cell is judged by.

    Of the runs that have kept their results of images, the latest of each seed: the first `MOST_SEEDS` seeds of both
    sides, each with its like, or where they have none in common the last run of each, whatever its seed. None where
    neither side has such a run, or the task has no results image by image.
    Raises NotKeptError where one side has none, ResultsError for files that do not serve or are of other images.
    """
    cell = pair.cell
    if cell.task not in TASKS:
        return None
    before, now = _kept(pair.baseline), _kept(pair.current)
    if not before and not now:
        return None
    _require_both(before, now)
    shared = sorted(before.keys() & now.keys())[:MOST_SEEDS]
    seeds, baseline_seeds = (shared or [*side][:1] for side in (now, before))
    ours, theirs = ([side[seed] for seed in own] for side, own in ((now, seeds), (before, baseline_seeds)))
    try:
        tested: PairedRuns = TASKS[cell.task].module("paired").compare(ours, theirs, cell.metric)
    except InputError as error:
        raise ResultsError(str(error)) from error
    if cell.metric not in tested.differences:
        raise ResultsError(f"{ours[0]} and {theirs[0]}: no {cell.metric} of images in both")
    return ImagesTested(tested.images, tuple(seeds), tuple(baseline_seeds), tested.differences[cell.metric])


def _kept(runs: Sequence[Run]) -> dict[int, Path]:
    """By seed where its latest run lies that has results of images; the latest of all first."""
    found: dict[int, Path] = {}
    for run in reversed(runs):
        directory = Path(run.row["directory"] or "nowhere")
        if run.seed not in found and _is_of(directory, run) and any((directory / name).is_file() for name in IMAGES):
            found[run.seed] = directory
    return found


def _is_of(directory: Path, run: Run) -> bool:
    """Whether it is this run that lies there: a results.csv may be older than what its folders hold."""
    try:
        record = read_record(directory, Outline)
    except ResultsError:
        return False
    return record.finished_at.isoformat() == run.row["finished_at"]


def _require_both(before: dict[int, Path], now: dict[int, Path]) -> None:
    if not now:
        raise NotKeptError("tonight's runs have kept no results of images")
    if not before:
        keeps = "`backbench baseline promote NIGHT --to BASELINE --with-images` keeps them"
        raise NotKeptError(f"the baseline has kept no results of images; {keeps}")
