"""What a finished segmentation run leaves behind, and what the commands that read it say."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mmseg.evaluation.metrics import IoUMetric
from PIL import Image

from backbones import create_backbone
from backbones.adapters import build_pyramid
from benchmarks.running.writing import write_record
from tasks.datasets.label_maps.layout import SegmentationDataSettings, open_segmentation
from tasks.segmentation.areas import load_areas
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.samples import EvaluationSamples
from tasks.segmentation.segmentor import build_segmentor
from tests.support.commands import last_checkpoint, metric_values, overrides, read_record, run_directory
from tests.support.finished_runs import (
    assert_compared,
    assert_in_results_csv,
    assert_in_table,
    assert_pictures_and_curves,
    assert_record_was_written_last,
    assert_skipped,
    read_log,
)
from tests.support.in_process import call, refusal, success
from tests.support.results_examples import make_record
from tests.support.segmentation_runs import segmentation

IMAGES = 12
METRICS = ["mIoU", "mAcc", "aAcc"]

PLUGGED = """
import timm

def swin(image_size, drop_path):
    sizes = {"img_size": 64, "window_size": 4, "embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, **sizes)

def beit(image_size, drop_path):
    return timm.create_model("beit_base_patch16_224", num_classes=0, img_size=64, embed_dim=24, depth=4, num_heads=2)
"""
"""A module of somebody else's, with models too small to be in timm."""


@pytest.fixture(scope="module")
def runs(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of two finished runs that differ in their seed, one after the other in one process."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    for seed in (0, 1):
        success(*segmentation(mini / "ade20k", out, seed=seed))
    return out


@pytest.fixture(scope="module")
def run(runs: Path) -> Path:
    """The directory of one of them."""
    (directory,) = runs.glob("segmentation/mini-ade20k/random_vit_mini/seed0-*")
    return directory


@pytest.fixture(scope="module")
def record(runs: Path) -> dict[str, Any]:
    """The record of the same."""
    return read_record(runs, 0)


@torch.no_grad()
def scored_anew(run: Path, data: Path) -> dict[str, np.ndarray]:
    """mmsegmentation's opinion of the run's last checkpoint, its parts put together by hand; shares, not percent."""
    recipe = SegmentationRecipe.model_validate(yaml.safe_load((run / "recipe.yaml").read_text()))
    _, val = open_segmentation(data, recipe.data)
    size = recipe.model.image_size
    pyramid = build_pyramid(
        create_backbone("random_vit_mini"), "beit", image_size=size, window=None, relative_position=False
    )
    model = build_segmentor(pyramid, recipe.model, recipe.inference, len(val.classes)).eval()
    model.load_state_dict(torch.load(last_checkpoint(run.parents[3]), weights_only=True)["model"])
    areas = []
    for number, sample in enumerate(EvaluationSamples(val, recipe.inference)):
        views = [view[None] for view in sample["views"]]
        prediction = model(mode="predict", labels=sample["labels"][None], views=views)[0]["predictions"][0]
        labels = torch.from_numpy(val.labels(val.images[number])).long()
        areas.append(IoUMetric.intersect_and_union(prediction, labels, len(val.classes), 255))
    totals = [torch.stack(part).sum(0) for part in zip(*areas, strict=True)]
    scores: dict[str, np.ndarray] = IoUMetric.total_area_to_metrics(*totals, metrics=["mIoU"])
    return scores


class TestDirectory:
    def test_the_records_numbers_are_mmsegmentations_of_the_last_checkpoint(self, few: Path, tmp_path: Path) -> None:
        success(*segmentation(few, tmp_path / "out"))
        scores = scored_anew(run_directory(tmp_path / "out"), few)
        record = read_record(tmp_path / "out")
        expected = {
            "mIoU": 100 * np.nanmean(scores["IoU"]),
            "mAcc": 100 * np.nanmean(scores["Acc"]),
            "aAcc": 100 * float(scores["aAcc"]),
        }
        assert metric_values(record) == pytest.approx(expected, abs=1e-4)
        classes = open_segmentation(few, SegmentationDataSettings())[1].classes
        per_class = {
            name: 100 * iou for name, iou in zip(classes, scores["IoU"].tolist(), strict=True) if not np.isnan(iou)
        }
        assert record["per_class"] == pytest.approx(per_class, abs=1e-4)
        assert max(per_class.values()) > 1

    def test_all_three_have_intervals(self, record: dict[str, Any]) -> None:
        assert [metric["name"] for metric in record["metrics"]] == METRICS
        for metric in record["metrics"]:
            assert (metric["split"], metric["n_eval"]) == ("val", IMAGES)
            assert 0 <= metric["ci_low"] < metric["ci_high"] <= 100
            assert metric["ci_low"] <= metric["value"] <= metric["ci_high"]

    def test_the_areas_give_the_records_numbers(self, mini: Path, run: Path, record: dict[str, Any]) -> None:
        areas = load_areas(run / "areas.npz")
        once = np.ones((1, IMAGES))
        assert {name: float(metric(once)[0]) for name, metric in areas.weighted.items()} == pytest.approx(
            metric_values(record), abs=1e-9
        )
        assert areas.image_names == sorted(path.name for path in (mini / "ade20k/images/validation").iterdir())
        assert np.mean(list(record["per_class"].values())) == pytest.approx(metric_values(record)["mIoU"], abs=1e-9)
        pixels = [np.asarray(Image.open(path)) for path in sorted((mini / "ade20k/annotations/validation").iterdir())]
        assert areas.annotated.sum(axis=1).tolist() == [int((labels > 0).sum()) for labels in pixels]

    def test_the_recipe_and_the_log_tell_what_happened(self, run: Path, record: dict[str, Any]) -> None:
        recipe = yaml.safe_load((run / "recipe.yaml").read_text())
        assert recipe == record["recipe_settings"]
        assert recipe["model"]["image_size"] == 32
        assert "model.image_size=32 (reference 96)" in record["deviations"]
        assert record["notes"] == record["corrupt_images"] == []
        assert (record["method"], record["model"], record["arch"]) == ("random", "ViT-mini", "vit_mini_patch8_48")
        assert record["parameters"] == 822_912  # the encoder's own, as tests/backbones/test_registry.py counts them
        lines = read_log(run)
        assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
        assert record["train_loss"] == pytest.approx(sum(line["loss"] for line in lines) / 4, rel=1e-5)
        for line in lines:
            assert line["loss"] == pytest.approx(line["decode.loss_ce"] + line["aux.loss_ce"], rel=1e-4)

    def test_pictures_and_curves_are_there(self, run: Path) -> None:
        assert_pictures_and_curves(run, "segmentations_4.png", METRICS)
        assert_record_was_written_last(run, "pictures/*.png", "areas.npz")


def test_the_screen_shows_progress_and_results_and_nothing_else(few: Path, tmp_path: Path) -> None:
    """Of a command as it is typed, with all that is said while libraries are imported and models built."""
    command = [sys.executable, "-m", "benchmarks", *segmentation(few, tmp_path / "out")]
    nothing_known = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=nothing_known)
    began = [line.partition(":")[0] for line in finished.stderr.splitlines()]
    expected = ["starts", "checking annotations", "checking evaluation images"]
    assert began == [*expected, "training UPerNet on random_vit_mini", "evaluating"], finished.stderr
    headline, place, *lines = finished.stdout.splitlines()
    assert headline == "random_vit_mini on mini-ade20k, recipe mini_segmentation, seed 0"
    expected_place = "method random, pre-training data none, column ViT-mini; an encoder of 822,912 parameters"
    assert place.strip().startswith(f"{expected_place}; ") and place.endswith(" GFLOPs a forward pass at 32 pixels")
    directory = run_directory(tmp_path / "out")
    assert [line.split()[0] for line in lines[:3]] == METRICS
    assert [line.strip() for line in lines if not line.startswith("  deviates: ")][3:] == [
        "normalisation mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (ImageNet's)",
        str(directory / "record.json"),
        str(directory / "weights.safetensors"),
        str(directory / "pictures/segmentations_4.png"),
    ]


class TestReaders:
    def test_a_finished_run_is_skipped(self, mini: Path, runs: Path, run: Path) -> None:
        assert_skipped(segmentation(mini / "ade20k", runs), run, "tasks.segmentation.task.run_job", "mIoU")

    def test_results_csv_holds_both(self, runs: Path) -> None:
        assert_in_results_csv(runs, (0, 1), "segmentation", "mini-ade20k")

    def test_the_table_has_their_row(self, runs: Path) -> None:
        assert_in_table(runs, "ade20k", "mini-ade20k: mIoU in %", {"mIoU": "ViT-mini"})

    def test_two_seeds_are_compared_on_the_same_images(self, runs: Path) -> None:
        assert_compared(runs, "mini-ade20k", IMAGES, METRICS)

    def test_a_classification_is_no_match_for_a_segmentation(self, run: Path, tmp_path: Path) -> None:
        write_record(tmp_path / "other", make_record(dataset="mini-ade20k"))
        message = refusal("compare", tmp_path / "other", run)
        assert "they differ in task, classification against segmentation." in message


class TestInference:
    """How an image is looked at is a setting of its own; what is trained stays the same."""

    @staticmethod
    def finished(few: Path, out: Path, **changes: object) -> tuple[dict[str, Any], np.ndarray]:
        """The record, and the pixels that were given to each class."""
        success(*segmentation(few, out, **changes))
        return read_record(out), load_areas(run_directory(out) / "areas.npz").predicted

    def test_one_window_is_the_whole_image(self, few: Path, tmp_path: Path) -> None:
        """At a scale at which it covers every image."""
        whole = {"inference__mode": "whole", "inference__stride": "null"}
        record, predicted = self.finished(few, tmp_path / "slide", inference__resize="[32, 32]")
        other, others = self.finished(few, tmp_path / "whole", inference__resize="[32, 32]", **whole)
        assert record["key"] != other["key"]
        assert record["train_loss"] == other["train_loss"]
        assert np.array_equal(predicted, others)
        larger, found = self.finished(few, tmp_path / "larger", inference__resize="[160, 40]", **whole)
        assert larger["train_loss"] == other["train_loss"]
        assert not np.array_equal(found, others)

    @pytest.mark.slow
    def test_several_scales_and_mirror_images(self, few: Path, tmp_path: Path) -> None:
        record, predicted = self.finished(few, tmp_path / "single")
        views = {"inference__scales": "[0.5, 1.0, 1.75]", "inference__flip": "true"}
        other, others = self.finished(few, tmp_path / "several", **views)
        assert record["train_loss"] == other["train_loss"]
        assert "inference.scales=[0.5, 1.0, 1.75] (reference [1.0])" in other["deviations"]
        assert "inference.flip=True (reference False)" in other["deviations"]
        assert predicted.sum() == others.sum()
        assert not np.array_equal(predicted, others)


class TestOtherBackbones:
    def test_a_hierarchical_one_has_stages_for_taps(self, few: Path, tmp_path: Path) -> None:
        """The recipe's taps are those of a plain ViT."""
        records = []
        for taps in ("null", "[0, 1, 2, 3]"):
            out = tmp_path / taps
            success(*segmentation(few, out, "test_resnet", model__taps=taps))
            records.append(read_record(out))
        assert records[0]["metrics"] == records[1]["metrics"]
        assert "model=test_resnet (reference ViT-mini)" in records[0]["deviations"]

    @pytest.mark.parametrize("name", ["swin", "beit"])
    def test_somebody_elses(self, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        (tmp_path / "plugged.py").write_text(PLUGGED)
        monkeypatch.syspath_prepend(tmp_path)
        transfer = {"model__relative_position": "true", "model__layer_scale": 1.0}
        success(*segmentation(few, tmp_path / "out", f"plugged:{name}", **transfer))
        record = read_record(tmp_path / "out")
        assert record["backbone"] == f"plugged:{name}"
        assert [metric["name"] for metric in record["metrics"]] == METRICS
        state = torch.load(last_checkpoint(tmp_path / "out"), weights_only=True)["optimizer"]
        assert len(state["state"]) > 20


OWN_PLACES = {
    "data__train_images": "photos/learn",
    "data__train_annotations": "maps/learn",
    "data__val_images": "photos/judge",
    "data__val_annotations": "maps/judge",
    "data__classes": "names.txt",
    "data__reduce_zero_label": "false",
}


class TestOwnClasses:
    """A pair of folders with names, classes and places of its own, whose labels count from 0."""

    @pytest.fixture
    def aerial(self, tmp_path: Path) -> Path:
        root = tmp_path / "aerial"
        generator = np.random.default_rng(0)
        for split, names in (("learn", ("a/1", "a/2", "b/1", "c")), ("judge", ("x", "deep/y"))):
            for name in names:
                image, annotation = root / "photos" / split / f"{name}.png", root / "maps" / split / f"{name}.png"
                labels = np.zeros((40, 60), np.uint8)
                labels[:, 20:40], labels[30:] = 1, 255
                labels[:10, :10] = 2 if split == "learn" else 0
                for path, pixels in ((image, generator.integers(0, 255, (40, 60, 3), np.uint8)), (annotation, labels)):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
        (root / "names.txt").write_text("roof\nroad\nswimming pool\n")
        return root

    def test_are_trained_on_and_scored(self, aerial: Path, tmp_path: Path) -> None:
        success(*segmentation(aerial, tmp_path / "out", **OWN_PLACES))
        (run,) = tmp_path.glob("out/segmentation/aerial/random_vit_mini/seed0-*")
        record = read_record(tmp_path / "out")
        assert record["dataset"] == "aerial"
        assert any(
            "recorded as data set aerial (4 training images and 2 to evaluate on in 3 classes)" in note
            for note in record["notes"]
        )
        assert {"roof", "road"} <= set(record["per_class"]) <= {"roof", "road", "swimming pool"}
        areas = load_areas(run / "areas.npz")
        assert areas.image_names == ["deep/y.png", "x.png"]
        assert areas.annotated.tolist() == [[30 * 40, 30 * 20, 0]] * 2

    def test_are_checked(self, aerial: Path) -> None:
        result = call("data", "check", "ade20k", "--data", aerial, *overrides(**OWN_PLACES))
        assert result.exit_code == 0, result.output
        lines = [line.strip() for line in result.output.splitlines()]
        assert {"train: 4 images", "val: 2 images"} <= set(lines)
        (aerial / "names.txt").write_text("roof\nroad\n")
        spoilt = call("data", "check", "ade20k", "--data", aerial, *overrides(**OWN_PLACES))
        assert spoilt.exit_code == 1
        assert f"{aerial}/maps/learn/c.png: label 2 out of range: expected, for 2 classes, 0 to 1" in spoilt.output
