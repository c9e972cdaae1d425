"""Which runs of two sides of a verdict are tested on the same images, and by what."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.running.baselines import IMAGES, promote
from benchmarks.running.comparison import compare_cells
from benchmarks.running.paired_images import MOST_SEEDS, compare_images
from benchmarks.running.regressing import read_side
from results import ResultsError
from results.regression.image_tests import NotKeptError
from results.regression.joining import Pair, join
from results.regression.runs import to_runs
from tasks.registry import TASKS
from tests.support.paired_runs import (
    IMAGES as NUMBER,
)
from tests.support.paired_runs import (
    answers,
    draw_areas,
    write_classification,
    write_detection,
    write_segmentation,
)


def put(night: Path, accuracy: float, seed: int = 0, day: int = 1, **fields: Any) -> Path:
    """A finished classification whose images are drawn by that day."""
    about = {"seed": seed, "key": f"{seed:012x}", "finished_at": datetime(2026, 1, day, tzinfo=UTC)}
    return write_classification(night / f"run{seed}", answers(accuracy, seed=day), **about | fields)


def pair_of(baseline: Path, current: Path) -> Pair:
    ((pair,), findings) = join(to_runs(read_side([baseline])), to_runs(read_side([current])))
    assert not findings
    return pair


def test_of_right_and_wrong_answers_it_is_mcnemars_test(tmp_path: Path) -> None:
    before, now = put(tmp_path / "a", 0.85, day=1), put(tmp_path / "b", 0.80, day=2)
    tested = compare_images(pair_of(before.parent, now.parent))
    assert tested and (tested.images, tested.seeds, tested.baseline_seeds) == (NUMBER, (0,), (0,))
    old, new = (pd.read_csv(run / "per_image.csv")["top1"].to_numpy() for run in (before, now))
    gained, lost = int((new > old).sum()), int((new < old).sum())
    expected = stats.binomtest(gained, gained + lost).pvalue
    assert 0.01 < expected < 0.9
    assert tested.difference.p_value == pytest.approx(expected, abs=4 * (expected / 10_000) ** 0.5)
    assert tested.difference.mean == pytest.approx(new.mean() - old.mean())


WRITERS: dict[str, tuple[str, Callable[..., Path], Callable[..., Path]]] = {
    "classification": ("top1", lambda run, **at: write_classification(run, answers(0.9), **at),
                       lambda run, **at: write_classification(run, answers(0.7, seed=1), **at)),
    "detection": ("AP_box", lambda run, **at: write_detection(run, 0.03, **at),
                  lambda run, **at: write_detection(run, 0.12, **at)),
    "segmentation": ("mIoU", lambda run, **at: write_segmentation(run, draw_areas(0.8), **at),
                     lambda run, **at: write_segmentation(run, draw_areas(0.7), **at)),
}  # fmt: skip


@pytest.mark.parametrize("task", WRITERS)
def test_it_is_the_test_of_compare(tmp_path: Path, task: str) -> None:
    metric, good, bad = WRITERS[task]
    before = good(tmp_path / "a/run", finished_at=datetime(2026, 1, 1, tzinfo=UTC))
    now = bad(tmp_path / "b/run", finished_at=datetime(2026, 1, 2, tzinfo=UTC))
    tested = compare_images(pair_of(before.parent, now.parent))
    (row,) = [row for row in compare_cells(now, before).rows if row.metric == metric]
    assert tested and tested.difference == row.difference and tested.difference.mean < 0
    assert {*TASKS[task].module("paired").compare([now], [before], metric).differences} == {metric}


def test_of_a_detector_the_boxes_alone_are_read(tmp_path: Path) -> None:
    before = write_detection(tmp_path / "a/run", 0.03, finished_at=datetime(2026, 1, 1, tzinfo=UTC))
    now = write_detection(tmp_path / "b/run", 0.12, finished_at=datetime(2026, 1, 2, tzinfo=UTC))
    (now / "matches_AP_mask.npz").write_text("damaged")
    tested = compare_images(pair_of(before.parent, now.parent))
    assert tested and tested.images == 40


def test_the_latest_run_of_each_seed_counts_with_its_like(tmp_path: Path) -> None:
    nights, tonight = tmp_path / "nights", tmp_path / "2026-01-09"
    for day, seed in ((1, 0), (2, 1), (3, 0), (4, 7)):
        put(nights / f"2026-01-0{day}", 0.9, seed, day)
    for seed, day in ((0, 8), (1, 9), (5, 9)):
        put(tonight, 0.7, seed, day)
    tested = compare_images(pair_of(nights, tonight))
    assert tested and tested.seeds == tested.baseline_seeds == (0, 1)
    now, before = (
        np.mean([answers(accuracy, seed=day)["top1"].mean() for day in days])
        for accuracy, days in ((0.7, (8, 9)), (0.9, (3, 2)))
    )
    assert tested.difference.mean == pytest.approx(now - before)


def test_time_and_memory_are_bounded(tmp_path: Path) -> None:
    for seed in range(MOST_SEEDS + 2):
        put(tmp_path / "a", 0.9, seed, 1)
        put(tmp_path / "b", 0.7, seed, 2)
    tested = compare_images(pair_of(tmp_path / "a", tmp_path / "b"))
    assert tested and tested.seeds == tested.baseline_seeds == tuple(range(MOST_SEEDS))


def test_without_a_common_seed_the_last_runs_are_tested(tmp_path: Path) -> None:
    for day in (1, 2):
        put(tmp_path / f"nights/2026-01-0{day}", 0.9, 10 - day, day)
    put(tmp_path / "tonight", 0.7, 3, 5)
    tested = compare_images(pair_of(tmp_path / "nights", tmp_path / "tonight"))
    assert tested and (tested.seeds, tested.baseline_seeds) == ((3,), (8,))
    expected = answers(0.7, seed=5)["top1"].mean() - answers(0.9, seed=2)["top1"].mean()
    assert tested.difference.mean == pytest.approx(expected)


def test_a_baseline_has_them_if_it_was_promoted_with_images(tmp_path: Path) -> None:
    put(tmp_path / "2026-01-01", 0.9)
    put(tmp_path / "2026-01-02", 0.7, day=2)
    promote(tmp_path / "baseline", tmp_path / "2026-01-01", who="Ann")
    pair = pair_of(tmp_path / "baseline/2026-01-01", tmp_path / "2026-01-02")
    with pytest.raises(NotKeptError, match="the baseline has kept no results of images; `backbench baseline promote "):
        compare_images(pair)
    with pytest.raises(NotKeptError, match="tonight's runs have kept no results of images"):
        compare_images(Pair(pair.cell, pair.current, pair.baseline))
    assert compare_images(Pair(pair.cell, pair.baseline, pair.baseline)) is None
    promote(tmp_path / "baseline", tmp_path / "2026-01-01", who="Ann", with_images=True)
    assert compare_images(pair)


def test_a_pre_training_has_no_images(tmp_path: Path) -> None:
    put(tmp_path / "a", 0.9, task="pretraining")
    put(tmp_path / "b", 0.7, day=2, task="pretraining")
    pair = pair_of(tmp_path / "a", tmp_path / "b")
    assert compare_images(pair) is None


def test_a_table_older_than_its_folders_does_not_vouch_for_them(tmp_path: Path) -> None:
    """The baseline's row is of a run that was made anew in its place: its images would be compared with themselves."""
    put(tmp_path / "a", 0.9, day=1)
    before = to_runs(read_side([tmp_path / "a"]))
    put(tmp_path / "a", 0.7, day=2)
    ((pair,), _) = join(before, to_runs(read_side([tmp_path / "a"])))
    with pytest.raises(NotKeptError):
        compare_images(pair)
    shutil.rmtree(tmp_path / "a")
    assert compare_images(pair) is None


@pytest.mark.parametrize("task", WRITERS)
def test_a_damaged_or_missing_file_is_an_error_that_names_it(tmp_path: Path, task: str) -> None:
    _, good, bad = WRITERS[task]
    before = good(tmp_path / "a/run", finished_at=datetime(2026, 1, 1, tzinfo=UTC))
    now = bad(tmp_path / "b/run", finished_at=datetime(2026, 1, 2, tzinfo=UTC))
    pair = pair_of(before.parent, now.parent)
    name = next(name for name in IMAGES if (now / name).is_file() and name != "matches_AP_mask.npz")
    whole = (now / name).read_bytes()
    random = np.random.default_rng(0)
    cut = [whole[: int(len(whole) * share)] for share in (0, 0.1, 0.5, 0.9)]
    zeroed = [whole[:at] + bytes(200) + whole[at + 200 :] for at in random.integers(0, len(whole) - 200, 20)]
    for content in (*cut, *zeroed, b"\xff\xfe\x00", b"image,top1\n"):
        (now / name).write_bytes(content)
        with pytest.raises(ResultsError, match=r"b/run"):
            compare_images(pair)
    (now / name).unlink()
    with pytest.raises(ResultsError, match=r"no such file" if task == "detection" else r"tonight's runs have kept no"):
        compare_images(pair)


def test_other_images_are_no_pair(tmp_path: Path) -> None:
    put(tmp_path / "a", 0.9)
    now = put(tmp_path / "b", 0.7, day=2)
    pair = pair_of(tmp_path / "a", tmp_path / "b")
    answers(0.7).assign(image=[f"other/{n}.png" for n in range(NUMBER)]).to_csv(now / "per_image.csv", index=False)
    with pytest.raises(ResultsError, match="not evaluated on the same images"):
        compare_images(pair)
