"""What a finished detection run leaves behind, and what the commands that read it say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.running.writing import write_record
from tasks.detection.matches import load_matches
from tests.support.commands import metric_values, overrides, read_record
from tests.support.detection_runs import annotation_file, detection
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

STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IMAGES = 12


@pytest.fixture(scope="module")
def runs(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of two finished runs that differ in their seed."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    for seed in (0, 1):
        success(*detection(mini / "coco", out, seed=seed))
    return out


@pytest.fixture(scope="module")
def run(runs: Path) -> Path:
    """The directory of one of them."""
    (directory,) = runs.glob("detection/mini-coco/random_vit_mini/seed0-*")
    return directory


@pytest.fixture(scope="module")
def record(runs: Path) -> dict[str, Any]:
    """The record of the same."""
    return read_record(runs, 0)


def scored(file: Path, path: Path, kind: str) -> COCOeval:
    """pycocotools' opinion of a file of detections; without their boxes for masks, whose size these would decide."""
    truth, detections = COCO(str(file)), json.loads(path.read_text())
    if kind == "mask":
        detections = [{name: value for name, value in one.items() if name != "bbox"} for one in detections]
    for annotation in truth.dataset["annotations"]:
        annotation.setdefault("iscrowd", 0)  # which we take for granted, and pycocotools does not
    evaluation = COCOeval(truth, truth.loadRes(detections), {"box": "bbox", "mask": "segm"}[kind])
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


class TestDirectory:
    @pytest.mark.parametrize("kind", ["box", "mask"])
    def test_the_records_numbers_are_those_of_its_detections(
        self, mini: Path, run: Path, kind: str, record: dict[str, Any]
    ) -> None:
        evaluation = scored(annotation_file(mini / "coco", "val"), run / "detections.json", kind)
        found = {name: value for name, value in metric_values(record).items() if name.endswith(kind)}
        undefined = [note.split()[0] for note in record["notes"] if f"_{kind} is undefined" in note]
        expected = {
            f"{name}_{kind}": 100 * value for name, value in zip(STATISTICS, evaluation.stats.tolist(), strict=True)
        }
        assert [name for name, value in expected.items() if value < 0] == undefined
        assert found == {name: value for name, value in expected.items() if name not in undefined}

    def test_only_the_two_average_precisions_have_intervals(self, record: dict[str, Any]) -> None:
        assert {metric["n_eval"] for metric in record["metrics"]} == {IMAGES}
        with_interval = {metric["name"]: metric for metric in record["metrics"] if metric["ci_low"] is not None}
        assert with_interval.keys() == {"AP_box", "AP_mask"}
        for metric in with_interval.values():
            assert 0 <= metric["ci_low"] <= metric["value"] <= metric["ci_high"] <= 100
        assert with_interval["AP_box"]["ci_low"] < with_interval["AP_box"]["ci_high"]

    def test_every_category_has_its_own_average_precision(self, mini: Path, run: Path, record: dict[str, Any]) -> None:
        evaluation = scored(annotation_file(mini / "coco", "val"), run / "detections.json", "box")
        precision = evaluation.eval["precision"][:, :, :, 0, 2]
        names = [evaluation.cocoGt.cats[identity]["name"] for identity in evaluation.params.catIds]
        expected = {f"AP_box/{name}": 100 * precision[:, :, place].mean() for place, name in enumerate(names)}
        found = {name: value for name, value in record["per_class"].items() if name.startswith("AP_box/")}
        assert found == pytest.approx(expected, abs=1e-12)
        assert max(found.values()) > 0

    def test_the_matches_give_the_records_average_precision(self, run: Path, record: dict[str, Any]) -> None:
        for name in ("AP_box", "AP_mask"):
            matches = load_matches(run / f"matches_{name}.npz")
            (value,) = matches.average_precision(np.ones((1, IMAGES)))
            assert value == pytest.approx(metric_values(record)[name], abs=1e-9)

    def test_the_recipe_and_the_log_tell_what_happened(self, run: Path, record: dict[str, Any]) -> None:
        assert yaml.safe_load((run / "recipe.yaml").read_text()) == record["recipe_settings"]
        assert record["parameters"] == 822_912  # the encoder's own, as tests/backbones/test_registry.py counts them
        assert any(text.startswith("schedule.iterations=4 (reference ") for text in record["deviations"])
        lines = read_log(run)
        assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
        assert record["train_loss"] == pytest.approx(sum(line["loss"] for line in lines) / 4, rel=1e-5)
        parts = ("loss_box_reg", "loss_cls", "loss_mask", "loss_rpn_cls", "loss_rpn_loc")
        for line in lines:
            assert line["loss"] == pytest.approx(sum(line[name] for name in parts), rel=1e-4)

    def test_pictures_and_curves_are_there(self, run: Path) -> None:
        assert_pictures_and_curves(run, "detections_4.png", ["AP_box"])
        assert_record_was_written_last(run, "pictures/*.png", "detections.json", "matches_*.npz")


class TestReaders:
    def test_a_finished_run_is_skipped(self, mini: Path, runs: Path, run: Path) -> None:
        assert_skipped(detection(mini / "coco", runs), run, "tasks.detection.task.run_job", "AP_box")

    def test_results_csv_holds_both(self, runs: Path) -> None:
        assert_in_results_csv(runs, (0, 1), "detection", "mini-coco")

    def test_the_table_has_their_row(self, runs: Path) -> None:
        columns = {"AP_box": "AP box ViT-mini", "AP_mask": "AP mask ViT-mini"}
        assert_in_table(runs, "coco", "mini-coco: AP of boxes and of masks in %", columns)

    def test_two_seeds_are_compared_on_the_same_images(self, runs: Path) -> None:
        assert_compared(runs, "mini-coco", IMAGES, ["AP_box", "AP_mask"])

    def test_a_classification_is_no_match_for_a_detection(self, run: Path, tmp_path: Path) -> None:
        write_record(tmp_path / "other", make_record(dataset="mini-coco"))
        message = refusal("compare", tmp_path / "other", run)
        assert "they differ in task, classification against detection." in message


class TestOwnCategories:
    """A set in COCO's format with folders, files and ids of its own."""

    @pytest.fixture
    def aerial(self, tmp_path: Path) -> Path:
        root = tmp_path / "aerial"
        generator = np.random.default_rng(0)
        for split, identities in (("learn", (5, 80, 81, 3_000_000_000)), ("judge", (2, 900))):
            images, annotations = [], []
            for number, identity in enumerate(identities):
                name = f"{split}/{identity}.png"
                (root / "pictures" / split).mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, 255, (40, 60, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "pictures" / name)
                images.append({"id": identity, "file_name": name, "height": 40, "width": 60})
                for category in (7, 300):
                    left, top, size = (1 if category == 7 else 31), 6, 28
                    annotations.append(
                        {
                            "id": 10 * number + category,
                            "image_id": identity,
                            "category_id": category,
                            "bbox": [left, top, size, size],
                            "area": size * size,
                            "segmentation": [[left, top, left + size, top, left + size, top + size, left, top + size]],
                        }
                    )
            categories = [{"id": 300, "name": "swimming pool"}, {"id": 7, "name": "roof"}]
            content = {"images": images, "annotations": annotations, "categories": categories}
            (root / f"{split}.json").write_text(json.dumps(content))
        return root

    def test_are_trained_on_and_scored(self, aerial: Path, tmp_path: Path) -> None:
        places = {
            "data__train_images": "pictures",
            "data__train_json": "learn.json",
            "data__val_images": str(aerial / "pictures"),
            "data__val_json": str(aerial / "judge.json"),
        }
        success(*detection(aerial, tmp_path / "out", **places))
        (run,) = tmp_path.glob("out/detection/aerial/random_vit_mini/seed0-*")
        record = read_record(tmp_path / "out")
        assert record["dataset"] == "aerial"
        assert any(
            "recorded as data set aerial (4 training images and 2 to evaluate on in 2 classes)" in note
            for note in record["notes"]
        )
        assert set(record["per_class"]) == {
            f"{metric}/{name}" for metric in ("AP_box", "AP_mask") for name in ("roof", "swimming pool")
        }
        found = json.loads((run / "detections.json").read_text())
        assert {one["image_id"] for one in found} == {2, 900}
        assert {one["category_id"] for one in found} <= {7, 300}
        evaluation = scored(aerial / "judge.json", run / "detections.json", "box")
        assert metric_values(record)["AP_box"] == 100 * evaluation.stats[0]
        assert metric_values(record)["AR100_box"] == 100 * evaluation.stats[8] > 0

    def test_are_checked(self, aerial: Path) -> None:
        images = {"data__train_images": "pictures", "data__val_images": "pictures"}
        sets = overrides(**images, data__train_json="learn.json", data__val_json="judge.json")
        result = call("data", "check", "coco", "--data", aerial, *sets)
        assert result.exit_code == 0
        lines = [line.strip() for line in result.output.splitlines()]
        assert f"{aerial}: objects in COCO's format, 2 categories" in lines
        assert {"train: 4 images, 8 annotations", "val: 2 images, 4 annotations"} <= set(lines)
        image = aerial / "pictures/judge/900.png"
        image.write_text("not an image")
        spoilt = call("data", "check", "coco", "--data", aerial, *sets)
        assert spoilt.exit_code == 1 and f"{image}: unreadable image: text, not an image" in spoilt.output
        message = refusal("data", "check", "coco", "--data", aerial, *overrides(data__train_jsn="learn.json"))
        assert 'key "data.train_jsn": no such setting. Did you mean "train_json"?' in message
