"""Linear probing from the command line: what a run leaves, that a killed one goes on, and two processes."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from benchmarks.planning.recipe import load_recipe
from results import Record, build_table
from tasks.linear_probing.recipe import LinearProbingRecipe
from tests.support.commands import (
    Moment,
    checkpoint_tensors,
    metric_values,
    read_record,
    run_arguments,
    run_directory,
    torchrun,
)
from tests.support.in_process import call, refusal, success
from tests.support.resuming import LOG, WRITE, WRITE_RECORD, assert_same_result, finish, finish_killed

SETTINGS: dict[str, Any] = {
    "schedule__epochs": 3,
    "schedule__warmup_epochs": 1,
    "optimizer__batch_size": 16,
    "evaluation__every_epochs": 2,
    "precision": "fp32",
    "runtime__workers": 0,
    "runtime__log_every": 1,
}
"""Twelve updates, with an evaluation on the way."""

EVALUATE = "tasks.classification.metric.ClassificationMetric.process"


def probing(data: Path, out: Path, **changes: object) -> list[str]:
    return run_arguments(data, out, recipe="mini_linear_probing", **SETTINGS | changes)


@pytest.fixture(scope="module")
def finished(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a run that was never killed."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    return finish(probing(mini, out), out)


def test_what_it_leaves(finished: Path) -> None:
    directory, record = run_directory(finished), read_record(finished)
    values = metric_values(record)
    assert {"linear_probe_top1", "top5", "loss", "mean_class_accuracy", "ECE"} == values.keys()
    assert (record["task"], record["table"], record["model"]) == ("linear_probing", "probes", "ViT-mini")
    assert (record["batch_norm_images"], record["mixup_images"], record["images_per_step"]) == (16, None, 16)
    assert not [each for each in record["deviations"] if "batch norm" in each]
    assert not any("frozen" in note for note in record["notes"])  # which is what the task is
    found = pd.read_csv(directory / "per_image.csv")
    assert found["linear_probe_top1"].mean() == pytest.approx(values["linear_probe_top1"])
    assert len((directory / "log.jsonl").read_text().splitlines()) == 12
    assert not (directory / "weights.safetensors").exists()
    row = record["metrics"][0]
    assert row["name"] == "linear_probe_top1" and row["ci_low"] < row["value"] < row["ci_high"]


def test_tables_and_comparisons_know_it(finished: Path) -> None:
    assert "linear probe ViT-mini" in success("table", finished, "--layout", "probes").output
    directory = run_directory(finished)
    assert "linear_probe_top1" in success("compare", directory, directory).output


@pytest.mark.slow
def test_killed_over_and_over_it_ends_the_same(mini: Path, finished: Path, tmp_path: Path) -> None:
    """In training, writing a checkpoint, in both evaluations, and before the record is written."""
    out = tmp_path / "runs"
    moments = [Moment(LOG, 2), Moment(WRITE, 2), Moment(EVALUATE, 2), Moment(EVALUATE, 4), WRITE_RECORD]
    finish_killed(probing(mini, out), out, moments)
    assert_same_result(out, finished, "per_image.csv")


def test_killed_within_an_epoch_it_ends_the_same(mini: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    finish_killed(probing(mini, out, runtime__checkpoint_every=3), out, [Moment(LOG, 7)])
    reference, found = checkpoint_tensors(finished), checkpoint_tensors(out)
    assert found.keys() == reference.keys()
    assert all(torch.equal(found[name], reference[name]) for name in reference)
    assert metric_values(read_record(out)) == metric_values(read_record(finished))


@pytest.mark.slow
def test_two_processes_train_the_same_head(mini: Path, tmp_path: Path) -> None:
    """Batch norm is each process's own, as it is each step's of one process that accumulates."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    finish(probing(mini, alone, runtime__batch_per_device=8), alone)
    torchrun(probing(mini, together))
    records = [read_record(out) for out in (alone, together)]
    assert [each["batch_norm_images"] for each in records] == [8, 8]
    assert [each["world_size"] for each in records] == [1, 2]
    expected, found = checkpoint_tensors(alone), checkpoint_tensors(together)
    (name,) = (each for each in expected if each.endswith("network.head.weight"))
    torch.testing.assert_close(found[name], expected[name], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "epochs", "top1"),
    [("base", 90, 67.8), ("large", 50, 76.0), ("huge", 50, 77.2)],
    ids=["base", "large", "huge"],
)
def test_packaged_recipes_are_maes(size: str, epochs: int, top1: float) -> None:
    """facebookresearch/mae, FINETUNE.md, "Linear Probing", and the defaults of main_linprobe.py."""
    recipe = load_recipe(f"imagenet_linear_vit_{size}", [], {"linear_probing"}).recipe
    assert isinstance(recipe, LinearProbingRecipe)
    assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs, recipe.schedule.min_lr) == (epochs, 10, 0)
    assert recipe.expect == {"linear_probe_top1": top1}
    assert recipe.optimizer.peak_lr == pytest.approx(0.1 * 16384 / 256)
    assert (recipe.optimizer.momentum, recipe.optimizer.trust_coefficient) == (0.9, 0.001)
    assert recipe.reference_batch_norm == recipe.runtime.batch_per_device == 512
    assert recipe.model.pool == "token" and recipe.model.normalisation is None
    assert recipe.augment.model_dump() == {"crop_scale": (0.08, 1.0), "crop_tries": 1, "flip": 0.5}


def test_the_published_number_is_expected_of_mae_alone(finished: Path) -> None:
    from results.expectation import expected_value

    settings = load_recipe("imagenet_linear_vit_base", [], {"linear_probing"}).recipe.model_dump(mode="json")
    record = json.loads((run_directory(finished) / "record.json").read_text())
    record |= {"recipe_settings": settings, "dataset": "imagenet1k", "deviations": [], "evaluation_images": 80}
    for method, expected in (("MAE", 67.8), ("DINO", None)):
        found = Record(**record | {"method": method, "pretrain_data": "IN1K", "model": "ViT-B"})
        assert expected_value(found, found.metrics[0]) == expected
    assert build_table([found], "probes").blocks[0].title.startswith("ImageNet-1K")


def test_a_wrong_setting_is_explained(mini: Path, tmp_path: Path) -> None:
    message = refusal(*probing(mini, tmp_path, optimizer__weight_decay=0.1))
    assert 'key "optimizer.weight_decay": no such setting' in message
    assert call(*probing(mini, tmp_path, optimizer__trust_coefficient=0)).exit_code == 2
