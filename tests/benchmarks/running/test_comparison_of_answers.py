"""Comparing classifiers by accuracy by class and by calibration, beside runs that did not measure them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.running.comparison import Row, compare_cells
from benchmarks.running.writing import write_record
from results import Metric, find_metric, paired_difference, paired_statistic_difference
from tasks.classification.answers import Answers
from tests.support.paired_runs import IMAGES, NAMES, answers, compare, write_classification
from tests.support.results_examples import make_record

CLASS_IMAGES = np.array([500, 50, 5])
OLD = ["top1", "top5", "loss"]
NEW = ["mean_class_accuracy", "many_shot", "medium_shot", "few_shot", "ECE"]


def draw(accuracy: float, seed: int = 0) -> Answers:
    labels = np.arange(IMAGES) % 3
    generator = np.random.default_rng(seed)
    right = generator.random(IMAGES) < accuracy
    confidences = np.where(right, 0.95, 0.5) - 0.05 * generator.random(IMAGES)
    return Answers(labels, np.where(right, labels, (labels + 1) % 3), confidences, CLASS_IMAGES[labels])


def write(directory: Path, said: Answers, **fields: Any) -> Path:
    """A finished run of three classes, of which there is no top-5."""
    right = said.labels == said.predictions
    frame = pd.DataFrame({"image": NAMES, **vars(said), "top1": 100.0 * right, "loss": 1.0 - right})
    values = {name: frame[name].mean() for name in ("top1", "loss")}
    values |= said.metrics
    metrics = [Metric(name=name, value=value, split="val", n_eval=IMAGES) for name, value in values.items()]
    settings: dict[str, Any] = {"dataset": "mini", "data_fingerprint": "f" * 64, "protocol": {"drop_path": "0.1"}}
    write_record(directory, make_record(**settings | {"metrics": metrics} | fields))
    frame.to_csv(directory / "per_image.csv", index=False)
    return directory


def rows_of(a: Path, b: Path) -> dict[str, Row]:
    return {row.metric: row for row in compare_cells(a, b).rows}


def test_accuracies_by_class_are_tested_image_by_image_and_calibration_on_the_same_resamples(tmp_path: Path) -> None:
    good, bad = draw(0.9, seed=1), draw(0.6, seed=2)
    rows = rows_of(write(tmp_path / "a", good), write(tmp_path / "b", bad, seed=1))
    assert list(rows) == ["top1", "loss", *NEW]
    for name in NEW:
        if name == "ECE":
            expected = paired_statistic_difference(good.weighted[name], bad.weighted[name], IMAGES)
        else:
            expected = paired_difference(good.shares[name].values, bad.shares[name].values)
        assert rows[name].difference == expected
        assert abs(rows[name].a - rows[name].b - expected.mean) < 1e-9
    assert rows["mean_class_accuracy"].better and rows["few_shot"].better


def test_three_images_of_rare_classes_are_not_significant(tmp_path: Path) -> None:
    """All three right beside all three wrong: by chance that is 1 of 4 (p was 0.001)."""
    labels = np.arange(IMAGES) % 20
    labels[-3:] = [20, 21, 22]
    train_images = np.where(labels < 20, 500, 5)
    wrong = np.where(labels < 20, labels, 0)
    good, bad = (Answers(labels, said, np.full(IMAGES, 0.9), train_images) for said in (labels, wrong))
    row = rows_of(write(tmp_path / "a", good), write(tmp_path / "b", bad, seed=1))["few_shot"]
    assert row.difference.mean == 100 and 0.2 < row.difference.p_value < 0.3 and row.better is None


def test_shots_are_compared_only_where_training_had_as_many_images_of_each_class(tmp_path: Path) -> None:
    full, part = draw(0.9), draw(0.6, seed=2)
    part = Answers(part.labels, part.predictions, part.confidences, part.train_images // 5)
    one, few = write(tmp_path / "full", full), write(tmp_path / "part", part, seed=1)
    uniform = Answers(full.labels, full.predictions, full.confidences, np.full(IMAGES, 50))
    none = write(tmp_path / "none", uniform, seed=2)
    for pair in ((one, few), (few, one), (one, none), (none, one)):
        assert list(rows_of(*pair)) == ["top1", "loss", "mean_class_accuracy", "ECE"]


def test_a_lower_calibration_error_is_better(tmp_path: Path) -> None:
    sure = draw(0.6)
    honest = Answers(sure.labels, sure.predictions, np.full(IMAGES, 0.6), sure.train_images)
    row = rows_of(write(tmp_path / "a", honest), write(tmp_path / "b", sure, seed=1))["ECE"]
    assert (row.a < row.b, row.better) == (True, True)
    assert row.verdict == "ECE: A is better on these images, one seed each (lower is better)"
    assert find_metric("ECE").shown(row.a).endswith(" %")


def test_a_run_of_an_earlier_version_is_compared_in_what_both_have(tmp_path: Path) -> None:
    earlier = write_classification(tmp_path / "earlier", answers(0.9))
    later = write(tmp_path / "later", draw(0.8), seed=1)
    for pair in ((earlier, later), (later, earlier)):
        assert list(rows_of(*pair)) == ["top1", "loss"]
    assert list(rows_of(earlier, earlier)) == OLD


def test_the_command_shows_a_gate_on_them(tmp_path: Path) -> None:
    worse, better = write(tmp_path / "a", draw(0.6)), write(tmp_path / "b", draw(0.9, seed=2), seed=1)
    assert compare(worse, better, "--fail-if-worse", "few_shot=1")[0] == 1
    status, output = compare(better, worse, "--fail-if-worse", "mean_class_accuracy=1")
    assert status == 0
    assert "few_shot: A is better on these images, one seed each" in output
