"""`backbench compare` of several seeds: a test over images and one over seeds, and both have to tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from benchmarks.running.comparison import compare_cells
from results import paired_difference, paired_statistic_difference
from tests.support.paired_runs import (
    answers,
    compare,
    draw_areas,
    write_classification,
    write_detection,
    write_segmentation,
)


def write_seeds(folder: Path, accuracies: dict[int, float], **fields: Any) -> dict[int, pd.DataFrame]:
    """A run of each seed below `folder`, as `backbench run --seed` leaves them there; what each said of the images."""
    frames = {seed: answers(accuracy, seed=10 * len(folder.name) + seed) for seed, accuracy in accuracies.items()}
    for seed, frame in frames.items():
        write_classification(folder / f"seed{seed}-abc", frame, seed=seed, **fields)
    return frames


def test_seeds_are_paired_and_averaged_and_tested_over_images_and_over_seeds(tmp_path: Path) -> None:
    ours = write_seeds(tmp_path / "mae", {0: 0.90, 1: 0.93, 2: 0.91})
    theirs = write_seeds(tmp_path / "random", {0: 0.62, 1: 0.63, 2: 0.65}, backbone="random_vit_base")
    comparison = compare_cells(tmp_path / "mae", tmp_path / "random")
    assert list(comparison.a.runs) == list(comparison.b.runs) == [0, 1, 2]
    assert comparison.remarks == comparison.protocol_differences == []
    for row in comparison.rows:
        a, b = ([side[seed][row.metric].to_numpy() for seed in range(3)] for side in (ours, theirs))
        assert row.difference == paired_difference(np.mean(a, axis=0), np.mean(b, axis=0))
        assert row.a - row.b == pytest.approx(row.difference.mean)
        if row.metric == "top5":  # 100 everywhere
            continue
        student = ttest_rel([run.mean() for run in a], [run.mean() for run in b])
        assert row.over_seeds is not None
        assert row.over_seeds.mean == pytest.approx(row.difference.mean)
        assert row.over_seeds.p_value == pytest.approx(student.pvalue)
        low, high = student.confidence_interval()
        assert (row.over_seeds.low, row.over_seeds.high) == (pytest.approx(low), pytest.approx(high))
    assert comparison.rows[0].verdict == "top1: A is better on these images, 3 seeds each"
    assert comparison.rows[1].verdict == "top5: no difference that these images and 3 seeds could tell"


def test_the_command_shows_all_seeds_and_both_tests(tmp_path: Path) -> None:
    write_seeds(tmp_path / "mae", {0: 0.9, 1: 0.93})
    write_seeds(tmp_path / "random", {0: 0.6, 1: 0.65}, backbone="random_vit_base")
    status, output = compare(tmp_path / "mae", tmp_path / "random")
    assert status == 0
    assert "A  mae_vit_base, recipe imagenet_vit_base, seeds 0, 1\n" in output
    for directory in ("mae/seed0-abc", "mae/seed1-abc", "random/seed0-abc", "random/seed1-abc"):
        assert f"   {tmp_path / directory}\n" in output
    assert "mini: both on the same 200 images, 2 seeds each\n" in output
    row = compare_cells(tmp_path / "mae", tmp_path / "random").rows[0]
    first = next(number for number, line in enumerate(output.splitlines()) if line.startswith("top1\t"))
    images, seeds = (line.split() for line in output.splitlines()[first : first + 2])
    assert row.over_seeds is not None
    assert images[4:] == [f"{row.difference.low:+.2f}", "to", f"{row.difference.high:+.2f}", "0.0001", "images"]
    interval = [f"{row.over_seeds.low:+.2f}", "to", f"{row.over_seeds.high:+.2f}"]
    assert seeds[4:] == [*interval, f"{row.over_seeds.p_value:.4f}", "seeds"]
    assert "A verdict needs both." in output


def test_what_the_seeds_cannot_tell_is_no_difference_however_sure_the_images_are(tmp_path: Path) -> None:
    write_seeds(tmp_path / "a", {0: 0.99, 1: 0.70})
    write_seeds(tmp_path / "b", {0: 0.50, 1: 0.60})
    (row, *_) = compare_cells(tmp_path / "a", tmp_path / "b").rows
    assert row.difference.low > 0 and row.difference.p_value < 0.001
    assert row.over_seeds is not None and row.over_seeds.low < 0 < row.over_seeds.high
    assert row.better is None
    assert row.verdict == "top1: no difference that these images and 2 seeds could tell"
    assert row.over_seeds.low >= -100 and row.over_seeds.high == 100  # Student's t reaches beyond


def test_a_value_of_p_that_is_too_small_to_print_is_not_nought(tmp_path: Path) -> None:
    for seed in range(4):
        write_classification(tmp_path / f"a/seed{seed}", answers(0.9, seed=1), seed=seed)
        write_classification(tmp_path / f"b/seed{seed}", answers(0.5, seed=2), seed=seed)
    assert "< 0.0001\tseeds" in compare(tmp_path / "a", tmp_path / "b")[1]


def test_detections_of_several_seeds_are_averaged(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_detection(tmp_path / f"good/seed{seed}", 0.03 + seed / 1000, seed=seed)
        write_detection(tmp_path / f"bad/seed{seed}", 0.12 + seed / 1000, seed=seed)
    good, bad = tmp_path / "good", tmp_path / "bad"
    rows = compare_cells(good, bad).rows
    singles = [compare_cells(good / f"seed{seed}", bad / f"seed{seed}").rows for seed in (0, 1)]
    for row, first, second in zip(rows, *singles, strict=True):
        assert row.difference.mean == pytest.approx((first.difference.mean + second.difference.mean) / 2)
        assert row.a == pytest.approx((first.a + second.a) / 2)
        assert first.over_seeds is None and row.over_seeds is not None
        assert row.over_seeds.mean == pytest.approx(row.difference.mean)


def test_segmentations_of_several_seeds_are_resampled_together(tmp_path: Path) -> None:
    areas = {name: [draw_areas(share + seed / 50) for seed in (0, 1)] for name, share in (("a", 0.8), ("b", 0.7))}
    for name, of_seeds in areas.items():
        for seed, each in enumerate(of_seeds):
            write_segmentation(tmp_path / name / f"seed{seed}", each, seed=seed)
    for row in compare_cells(tmp_path / "a", tmp_path / "b").rows:
        a, b = ([each.weighted[row.metric] for each in areas[name]] for name in "ab")
        expected = paired_statistic_difference(
            lambda weights, a=a: (a[0](weights) + a[1](weights)) / 2,
            lambda weights, b=b: (b[0](weights) + b[1](weights)) / 2,
            80,
        )
        for field in ("mean", "low", "high", "p_value"):
            assert getattr(row.difference, field) == pytest.approx(getattr(expected, field))


def test_seeds_without_a_counterpart_are_left_out_and_told(tmp_path: Path) -> None:
    write_seeds(tmp_path / "a", {0: 0.9, 1: 0.9, 2: 0.9})
    write_seeds(tmp_path / "b", {1: 0.6, 2: 0.6, 5: 0.6, 7: 0.6})
    comparison = compare_cells(tmp_path / "a", tmp_path / "b")
    assert list(comparison.a.runs) == list(comparison.b.runs) == [1, 2]
    assert comparison.remarks == [
        "left out: seed 0 of A, which B has not",
        "left out: seeds 5, 7 of B, which A has not",
    ]
    assert "left out: seeds 5, 7 of B" in compare(tmp_path / "a", tmp_path / "b")[1]
    one = compare_cells(tmp_path / "a/seed1-abc", tmp_path / "b")
    assert list(one.b.runs) == [1] and one.rows[0].over_seeds is None


def test_several_seeds_with_none_in_common_are_refused(tmp_path: Path) -> None:
    write_seeds(tmp_path / "a", {0: 0.9, 1: 0.9})
    write_seeds(tmp_path / "b", {3: 0.6})
    status, output = compare(tmp_path / "a", tmp_path / "b")
    assert status == 2
    assert "they have seeds 0, 1 and seed 3, none in common. Several runs are paired by their seed: run the" in output
    write_seeds(tmp_path / "c", {2: 0.9})
    assert compare(tmp_path / "c", tmp_path / "b")[0] == 0  # one run each: only the images are tested


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"backbone": "random_vit_base"}, "backbone (mae_vit_base, random_vit_base)"),
        ({"checkpoint_sha256": "a" * 64}, "checkpoint (aaaaaaaa, none)"),
        ({"recipe": "mine"}, "recipe"),
        ({"deviations": ["schedule.epochs=25 (reference 100)"]}, "deviations"),
        ({"protocol": {"drop_path": "0.2"}}, "setting drop_path"),
        ({"data_fingerprint": "e" * 64}, "data fingerprint"),
        ({"backbone": "b", "task": "detection"}, "task (classification, detection); backbone (b, mae_vit_base)"),
    ],
)
def test_a_folder_of_runs_that_are_no_seeds_of_one_is_refused(
    fields: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    write_seeds(tmp_path / "runs/a", {0: 0.9})
    write_seeds(tmp_path / "runs/b", {1: 0.9}, **fields)
    status, output = compare(tmp_path / "runs", tmp_path / "runs/a/seed0-abc")
    assert status == 2
    start = (
        f"backbench: {tmp_path}/runs: holds 2 finished runs that differ in {expected}. Name one of them, for example "
    )
    assert output.startswith(start) and output.count("\n") == 1
    assert output.endswith("or a folder whose runs differ in the seed alone\n")


def test_of_a_seed_that_was_run_twice_the_later_counts(tmp_path: Path) -> None:
    write_seeds(tmp_path / "a", {0: 0.5, 1: 0.9}, finished_at="2026-01-01T00:00:00Z")
    again = write_classification(tmp_path / "a/seed0-abc.2", answers(0.9), finished_at="2026-01-02T00:00:00Z")
    write_seeds(tmp_path / "b", {0: 0.6, 1: 0.6})
    comparison = compare_cells(tmp_path / "a", tmp_path / "b")
    assert comparison.a.directories[0] == again.resolve()


def test_seeds_that_were_made_differently_are_told(tmp_path: Path) -> None:
    write_seeds(tmp_path / "a", {0: 0.9}, device="cpu")
    write_seeds(tmp_path / "a", {1: 0.9}, device="NVIDIA H100")
    write_seeds(tmp_path / "b", {0: 0.6, 1: 0.6})
    status, output = compare(tmp_path / "a", tmp_path / "b")
    assert status == 0
    assert "A's seeds differ in device (NVIDIA H100, cpu)\n" in output
