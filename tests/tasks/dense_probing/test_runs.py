"""`backbench run` of dense probes: what they leave, in one process and in two, killed or not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.normalising import normalisation_of
from backbones.registry import find_backbone
from tasks.registry import TASKS
from tasks.segmentation.areas import load_areas
from tests.support.commands import (
    Moment,
    backbench,
    checkpoint_tensors,
    metric_values,
    read_record,
    run_directory,
    torchrun,
)
from tests.support.dense_probing_runs import dense_probe
from tests.support.in_process import refusal, success
from tests.support.resuming import LOG, WRITE_RECORD, assert_same_result, finish, finish_killed

NAMES = ["linear_mIoU", "linear_mAcc", "linear_aAcc"]


@pytest.fixture(scope="module")
def runs(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of two probes, of one block and of four."""
    out = tmp_path_factory.mktemp("probes") / "runs"
    success(*dense_probe(few, out))
    success(*dense_probe(few, out, seed=1, features__layers=4))
    return out


def test_a_probe_leaves_its_metrics_with_intervals_and_no_weights(runs: Path) -> None:
    run, record = run_directory(runs, 0), read_record(runs, 0)
    assert [metric["name"] for metric in record["metrics"]] == NAMES
    for metric in record["metrics"]:
        assert 0 <= metric["ci_low"] <= metric["value"] <= metric["ci_high"] <= 100
        assert metric["n_eval"] == 4
    areas = load_areas(run / "areas.npz")
    weights = torch.ones(1, 4).numpy()
    assert metric_values(record)["linear_mIoU"] == pytest.approx(areas.mean_iou(weights)[0])
    assert record["table"] == "probes-dense" and record["task"] == "dense_probing"
    assert (record["batch_norm_images"], record["images_per_step"]) == (2, 2)
    assert record["gflops"] > 0 and record["parameters"] > 0
    assert not (run / "weights.safetensors").exists()
    assert (run / "pictures/segmentations_4.png").exists()


def test_the_table_is_its_own(runs: Path) -> None:
    shown = success("table", runs, "--layout", "probes-dense").output
    assert "mini-ade20k: mIoU in % of what is trained on frozen features" in shown
    assert "features.layers=4 (reference 1)" in shown
    assert 'no run belongs to layout "ade20k"' in refusal("table", runs, "--layout", "ade20k")


def test_two_probes_are_compared_image_by_image(runs: Path) -> None:
    directories = [run_directory(runs, seed) for seed in (0, 1)]
    found = TASKS["dense_probing"].module("paired").compare(directories[:1], directories[1:])
    assert found.images == 4 and [*found.differences] == NAMES
    only = TASKS["dense_probing"].module("paired").compare(directories[:1], directories[1:], "linear_aAcc")
    assert [*only.differences] == ["linear_aAcc"]
    values = [metric_values(read_record(runs, seed))["linear_mIoU"] for seed in (0, 1)]
    assert found.differences["linear_mIoU"].mean == pytest.approx(values[0] - values[1])


def test_what_it_leaves_is_not_evaluated(few: Path, runs: Path) -> None:
    message = refusal("evaluate", "--data", few, "--weights", run_directory(runs, 0), "--out", runs)
    assert "dense_probing" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backbone": "resnet18", "features__layers": 4}, 'key "features.layers": 4: ResNet is probed on its last map'),
        ({"features__layers": 2}, 'key "features.layers"'),
        ({"backbone": "tests.tasks.dense_probing.test_runs:pooled"}, "looks like pooled features"),
        ({"inference__stride": 40}, "pixels between them would not be looked at"),
        ({"model__arch": "vit_mini_patch8_48"}, "model.arch"),
    ],
)
def test_what_does_not_fit_is_refused(few: Path, tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in refusal(*dense_probe(few, tmp_path, **changes))


class Pooled(torch.nn.Module):
    """Features without places."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = torch.nn.Conv2d(3, 24, 16, 16)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images).mean((2, 3))


def pooled(image_size: int | None, drop_path: float) -> torch.nn.Module:
    return Pooled()


def test_beits_pixels_are_normalised_as_in_segmentation() -> None:
    entry = find_backbone("beit_vit_base")
    normalisations = {task: normalisation_of(entry, task=task) for task in ("segmentation", "dense_probing", "knn")}
    assert normalisations["dense_probing"] == normalisations["segmentation"] != normalisations["knn"]


EVALUATE = "tasks.segmentation.metric.SegmentationMetric.process"


def test_killed_over_and_over_it_ends_the_same(few: Path, tmp_path: Path) -> None:
    """In training, in both evaluations and before the record; with augmentation, four blocks and a second epoch."""
    settings = {
        "schedule__iterations": 6,
        "evaluation__every_iterations": 4,
        "augment__ratio": "[0.5, 2.0]",
        "augment__photometric_distortion": "true",
        "features__layers": 4,
    }
    reference = finish(dense_probe(few, tmp_path / "whole/runs", **settings), tmp_path / "whole/runs")
    cut = tmp_path / "cut/runs"
    moments = [Moment(LOG, 3), Moment(EVALUATE, 2), Moment(LOG, 2), WRITE_RECORD]
    finish_killed(dense_probe(few, cut, **settings), cut, moments)
    assert_same_result(cut, reference, "areas.npz")


@pytest.mark.slow
def test_two_processes_normalise_over_both_and_end_as_one_does(few: Path, tmp_path: Path) -> None:
    changes: dict[str, object] = {"optimizer__batch_size": 4, "schedule__iterations": 2}
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert backbench(dense_probe(few, alone, **changes), tmp_path / "log") == 0
    torchrun(dense_probe(few, together, **changes))
    expected, found = checkpoint_tensors(alone), checkpoint_tensors(together)
    assert found.keys() == expected.keys()
    # Of two steps' variances PyTorch keeps n / (n - 1) times what detectron2 does, over 4 images of 4 × 4 cells.
    variance = ".model.decode_head.bn.running_var"
    expected[variance] = 0.9**2 + (expected[variance] - 0.9**2) * 63 / 64
    for name in expected:
        if "decode_head" in name and not name.endswith("num_batches_tracked"):  # detectron2 counts none
            torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5, msg=name)
    record = read_record(together)
    assert (record["world_size"], record["batch_norm_images"]) == (2, 4)
    for name, value in metric_values(read_record(alone)).items():
        assert metric_values(record)[name] == pytest.approx(value, abs=1.0)
