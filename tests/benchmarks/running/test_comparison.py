import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.running.comparison import Row, compare_cells
from results import Metric, PairedDifference, ResultsError, paired_difference, paired_statistic_difference
from tasks.segmentation.areas import Areas
from tests.support.paired_runs import (
    IMAGES,
    answers,
    compare,
    draw_areas,
    write_classification,
    write_detection,
    write_segmentation,
)


def test_classifications_are_paired_by_the_images_names(tmp_path: Path) -> None:
    a, b = answers(0.9, seed=1), answers(0.7, seed=2)
    shuffled = b.sample(frac=1, random_state=0)
    comparison = compare_cells(
        write_classification(tmp_path / "a", a), write_classification(tmp_path / "b", shuffled, seed=1)
    )
    assert comparison.images == IMAGES
    assert comparison.protocol_differences == []
    assert [row.metric for row in comparison.rows] == ["top1", "top5", "loss"]
    for row in comparison.rows:
        assert row.difference == paired_difference(a[row.metric], b[row.metric])
        assert (row.a, row.b) == (a[row.metric].mean(), b[row.metric].mean())
    assert [row.better for row in comparison.rows] == [True, None, True]
    assert [row.verdict for row in comparison.rows] == [
        "top1: A is better on these images, one seed each",
        "top5: no difference that these images could tell",
        "loss: A is better on these images, one seed each (lower is better)",
    ]


def test_detections_are_tested_from_the_run_directories_alone(tmp_path: Path) -> None:
    good, bad = write_detection(tmp_path / "good", 0.03), write_detection(tmp_path / "bad", 0.12)
    comparison, other = compare_cells(good, bad), compare_cells(bad, good)
    assert comparison.images == 40
    assert [row.metric for row in comparison.rows] == ["AP_box", "AP_mask"]
    for row, reverse in zip(comparison.rows, other.rows, strict=True):
        assert row.difference.mean == pytest.approx(row.a - row.b, abs=1e-9)
        assert 0 < row.difference.low < row.difference.mean < row.difference.high
        assert row.difference.p_value == reverse.difference.p_value == pytest.approx(1 / 1001)
        assert (row.better, reverse.better) == (True, False)
        assert reverse.difference.low == pytest.approx(-row.difference.high)


def test_segmentations_are_tested_from_the_run_directories_alone(tmp_path: Path) -> None:
    good, bad = draw_areas(0.8), draw_areas(0.7)
    a, b = write_segmentation(tmp_path / "good", good), write_segmentation(tmp_path / "bad", bad, seed=1)
    comparison, other = compare_cells(a, b), compare_cells(b, a)
    assert comparison.images == 80
    assert comparison.protocol_differences == []
    assert [row.metric for row in comparison.rows] == ["mIoU", "mAcc", "aAcc"]
    for row, reverse in zip(comparison.rows, other.rows, strict=True):
        assert row.difference == paired_statistic_difference(good.weighted[row.metric], bad.weighted[row.metric], 80)
        assert row.difference.mean == pytest.approx(row.a - row.b, abs=1e-9)
        assert 0 < row.difference.low < row.difference.mean < row.difference.high
        assert (row.better, reverse.better) == (True, False)
    status, output = compare(a, b)
    assert status == 0
    assert "mIoU: A is better on these images, one seed each" in output
    assert "ade20k: both on the same 80 of 2,000 images" in output


def test_segmentations_that_differ_by_chance_are_not_told_apart(tmp_path: Path) -> None:
    """Each image is a little better or worse, as often the one as the other."""
    areas = draw_areas(0.75)
    moved = areas.intersection // 100 * np.where(np.arange(80) % 2, 1, -1)[:, None]
    other = Areas(areas.image_names, areas.intersection + moved, areas.annotated, areas.predicted + moved)
    runs = write_segmentation(tmp_path / "a", areas), write_segmentation(tmp_path / "b", other)
    for row in compare_cells(*runs).rows:
        assert row.difference.low < 0 < row.difference.high
        assert row.better is None


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_run_against_itself_has_no_better_one(task: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if task == "detection":
        write_detection(run, 0.05)
    else:
        write_segmentation(run, draw_areas(0.8))
    for row in compare_cells(run, run).rows:
        assert row.difference == PairedDifference(0, 0, 0, 1)
        assert row.better is None


@pytest.mark.parametrize(
    ("low", "high", "p_value", "metric", "better"),
    [
        (0.1, 2, 0.01, "AP_box", True),
        (-2, -0.1, 0.01, "AP_box", False),
        (0.1, 2, 0.01, "loss", False),
        (-2, -0.1, 0.01, "loss", True),
        (0.1, 2, 0.06, "top1", None),
        (-0.1, 2, 0.04, "top1", None),
        (0, 2, 0.04, "top1", None),
    ],
)
def test_better_needs_the_interval_and_the_test(
    low: float, high: float, p_value: float, metric: str, better: bool | None
) -> None:
    assert Row(metric, 1, 0, PairedDifference((low + high) / 2, low, high, p_value)).better is better


def test_the_command_shows_both_runs_and_every_number(tmp_path: Path) -> None:
    a = write_classification(tmp_path / "runs/mae/seed0", answers(0.9, seed=1))
    write_classification(tmp_path / "random/seed0", answers(0.6, seed=2), backbone="random_vit_base")
    status, output = compare(a, tmp_path / "random")
    assert status == 0
    assert "mae_vit_base" in output
    assert "random_vit_base" in output
    assert str(tmp_path / "random/seed0") in output
    row = compare_cells(a, tmp_path / "random").rows[0]
    (line,) = (line.split() for line in output.splitlines() if line.startswith("top1\t"))
    low, high = f"{row.difference.low:+.2f}", f"{row.difference.high:+.2f}"
    assert line[1:] == [f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference.mean:+.2f}", low, "to", high, "0.0001"]
    assert "top1: A is better on these images, one seed each" in output
    assert "not the same protocol" not in output
    assert "200 images" in output


def test_a_part_of_the_data_set_is_called_that(tmp_path: Path) -> None:
    runs = [
        write_classification(tmp_path / name, answers(0.9), evaluation_images=whole)
        for name, whole in (("part", 203), ("whole", 200))
    ]
    assert "mini: both on the same 200 of 203 images\n" in compare(runs[0], runs[0])[1]
    assert "mini: both on the same 200 images\n" in compare(runs[1], runs[1])[1]


def test_protocols_that_differ_are_named_and_compared_all_the_same(tmp_path: Path) -> None:
    a = write_classification(tmp_path / "a", answers(0.9))
    protocol = {"drop_path": "0.2", "mixup": json.dumps("m" * 99)}
    settings = write_classification(tmp_path / "b", answers(0.9), protocol=protocol)
    status, output = compare(a, settings)
    assert status == 0
    assert "not the same protocol" in output
    assert "setting drop_path: 0.1 against 0.2" in output
    assert 'setting mixup: not set against "mmm' in output
    assert "m" * 60 not in output
    assert "top1: no difference" in output
    deviating = write_classification(tmp_path / "c", answers(0.9), deviations=["schedule.epochs=25 (reference 100)"])
    assert compare_cells(a, deviating).protocol_differences == [
        "deviations: none against schedule.epochs=25 (reference 100)"
    ]


def test_runs_that_cannot_be_compared_are_refused_in_one_message(tmp_path: Path) -> None:
    a = write_classification(tmp_path / "a", answers(0.9))
    other_set = write_classification(tmp_path / "places", answers(0.9), dataset="places")
    other_files = write_classification(tmp_path / "redrawn", answers(0.9), data_fingerprint="e" * 64)
    pretraining = write_classification(tmp_path / "pretraining", answers(0.9), task="pretraining")
    fewer = write_classification(tmp_path / "fewer", answers(0.9).iloc[3:])
    (tmp_path / "unfinished/seed0").mkdir(parents=True)
    (tmp_path / "unfinished/seed0/recipe.yaml").touch()
    (tmp_path / "empty").mkdir()
    for b, expected, ends in (
        (tmp_path / "nowhere", "nowhere: no such directory", 3),
        (tmp_path / "empty", "empty: not a run", 3),
        (tmp_path / "unfinished", "unfinished/seed0: the run has not finished. Repeat its command", 3),
        (tmp_path, "holds 5 finished runs that differ in task (classification, pretraining). Name one of them, for", 2),
        (other_set, "they differ in data set, mini against places", 2),
        (other_files, "they differ in contents of the data set, ffffffffffff against eeeeeeeeeeee", 2),
        (pretraining, "they differ in task, classification against pretraining", 2),
        (fewer, "3 of 200 images are only in the first, 0 of 197 only in the second, for example val/000.png", 2),
    ):
        status, output = compare(a, b)
        assert status == ends
        assert output.startswith("backbench: ")
        assert expected in output
        assert output.count("\n") == 1
    status, output = compare(pretraining, pretraining)
    assert status == 2
    assert "a run of pretraining" in output


def test_detections_on_different_images_are_refused(tmp_path: Path) -> None:
    many, few = write_detection(tmp_path / "many", 0.05), write_detection(tmp_path / "few", 0.05, images=30)
    with pytest.raises(ResultsError, match="10 of 40 images are only in the first, 0 of 30 only in the second"):
        compare_cells(many, few)


def test_segmentations_on_different_images_are_refused(tmp_path: Path) -> None:
    many = write_segmentation(tmp_path / "many", draw_areas(0.8))
    few = write_segmentation(tmp_path / "few", draw_areas(0.8, images=70))
    with pytest.raises(ResultsError, match=r"10 of 80 images are only in the first, .* for example val/070\.png"):
        compare_cells(many, few)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        ("", "not a table"),
        ("image,top1,top5\na,1,2\n", "not a table"),
        ("image,top1,top5,loss\na,1,2,three\n", "not a table"),
        ("image,top1,top5,loss\na,1,2,3\na,1,2,3\n", "found a again"),
    ],
)
def test_a_broken_table_of_images_is_named(content: str | None, expected: str, tmp_path: Path) -> None:
    a, b = (write_classification(tmp_path / name, answers(0.9)) for name in "ab")
    (b / "per_image.csv").unlink()
    if content is not None:
        (b / "per_image.csv").write_text(content)
    status, output = compare(a, b)
    assert status == 3
    assert "b/per_image.csv: " in output
    assert expected in output


def test_missing_matches_are_named(tmp_path: Path) -> None:
    a, b = (write_detection(tmp_path / name, 0.05) for name in "ab")
    (b / "matches_AP_mask.npz").unlink()
    status, output = compare(a, b)
    assert status == 3
    assert "b/matches_AP_mask.npz: no such file" in output


def test_missing_areas_are_named(tmp_path: Path) -> None:
    a, b = (write_segmentation(tmp_path / name, draw_areas(0.8)) for name in "ab")
    (b / "areas.npz").unlink()
    status, output = compare(a, b)
    assert status == 3
    assert "b/areas.npz: no such file. A finished segmentation run has one" in output
    assert output.count("\n") == 1


def test_a_record_that_cannot_be_read_beside_one_cell_is_named_once(tmp_path: Path) -> None:
    write_classification(tmp_path / "a/vit/seed0-abc", answers(0.9))
    write_classification(tmp_path / "b/vit/seed0-abc", answers(0.9))
    broken = tmp_path / "a/zzz/seed0-abc/record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    for pair in ((tmp_path / "a", tmp_path / "b"), (tmp_path / "a", tmp_path / "b/vit/seed0-abc")):
        status, output = compare(*pair)
        assert status == 0 and output.count(f"passed over: {broken}") == 1
    status, output = compare(broken.parent, tmp_path / "b")
    assert (status, output.count(str(broken))) == (3, 1)


def test_a_record_without_a_metric_of_its_task_is_named(tmp_path: Path) -> None:
    metrics = [Metric(name="top1", value=90.0, split="val", n_eval=200)]
    a = write_classification(tmp_path / "a", answers(0.9))
    b = write_classification(tmp_path / "b", answers(0.9), metrics=metrics)
    status, output = compare(a, b)
    assert status == 3
    assert f"{b}/record.json: has no top5, which is tested of runs of classification. It has top1. Run" in output


def test_finished_runs_are_compared_without_torch(tmp_path: Path) -> None:
    """It took four of five seconds."""
    for name in ("a", "b"):
        write_classification(tmp_path / name / "vit", answers(0.9))
        write_detection(tmp_path / name / "cnn", 0.05, images=10)
        write_segmentation(tmp_path / name / "swin", draw_areas(0.8, images=10))
    program = (
        "import sys; from pathlib import Path; from benchmarks.commands.comparison import show_comparison\n"
        "show_comparison(*map(Path, sys.argv[1:]))\n"
        "print({'torch', 'timm', 'mmengine'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a"), str(tmp_path / "b")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = finished.stdout.splitlines()
    assert lines[-1] == "set()" and sum(line.startswith("3\t") for line in lines) == 3
