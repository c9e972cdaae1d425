"""What a finished detection run leaves behind, and what the commands that read it say."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from results import write_record
from tasks.detection.matches import load_matches
from tests.support.detection_runs import annotation_file, detection
from tests.support.in_process import call, refusal
from tests.support.results_examples import make_record, read_markdown

STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IMAGES = 12


@pytest.fixture(scope="module")
def runs(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of two finished runs that differ in their seed."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    for seed in (0, 1):
        result = call(*detection(mini / "coco", out, seed=seed))
        assert result.exit_code == 0, result.output
    return out


def run_of(runs: Path, seed: int) -> Path:
    (directory,) = runs.glob(f"detection/mini-coco/random_vit_mini/seed{seed}-*")
    return directory


@pytest.fixture(scope="module")
def run(runs: Path) -> Path:
    """The directory of one of them."""
    return run_of(runs, 0)


def read(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "record.json").read_text())
    return record


def values(record: dict[str, Any]) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in record["metrics"]}


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
    def test_the_records_numbers_are_those_of_its_detections(self, mini: Path, run: Path, kind: str) -> None:
        evaluation = scored(annotation_file(mini / "coco", "val"), run / "detections.json", kind)
        record = read(run)
        found = {name: value for name, value in values(record).items() if name.endswith(kind)}
        undefined = [note.split()[0] for note in record["notes"] if f"_{kind} is undefined" in note]
        expected = {
            f"{name}_{kind}": 100 * value for name, value in zip(STATISTICS, evaluation.stats.tolist(), strict=True)
        }
        assert [name for name, value in expected.items() if value < 0] == undefined
        assert found == {name: value for name, value in expected.items() if name not in undefined}

    def test_only_the_two_average_precisions_have_intervals(self, run: Path) -> None:
        record = read(run)
        assert {metric["n_eval"] for metric in record["metrics"]} == {IMAGES}
        with_interval = {metric["name"]: metric for metric in record["metrics"] if metric["ci_low"] is not None}
        assert with_interval.keys() == {"AP_box", "AP_mask"}
        for metric in with_interval.values():
            assert 0 <= metric["ci_low"] <= metric["value"] <= metric["ci_high"] <= 100
        assert with_interval["AP_box"]["ci_low"] < with_interval["AP_box"]["ci_high"]

    def test_every_category_has_its_own_average_precision(self, mini: Path, run: Path) -> None:
        record = read(run)
        evaluation = scored(annotation_file(mini / "coco", "val"), run / "detections.json", "box")
        precision = evaluation.eval["precision"][:, :, :, 0, 2]
        names = [evaluation.cocoGt.cats[identity]["name"] for identity in evaluation.params.catIds]
        expected = {f"AP_box/{name}": 100 * precision[:, :, place].mean() for place, name in enumerate(names)}
        found = {name: value for name, value in record["per_class"].items() if name.startswith("AP_box/")}
        assert found == pytest.approx(expected, abs=1e-12)
        assert max(found.values()) > 0

    def test_the_matches_give_the_records_average_precision(self, run: Path) -> None:
        for name in ("AP_box", "AP_mask"):
            matches = load_matches(run / f"matches_{name}.npz")
            (value,) = matches.average_precision(np.ones((1, IMAGES)))
            assert value == pytest.approx(values(read(run))[name], abs=1e-9)

    def test_the_recipe_and_the_log_tell_what_happened(self, run: Path) -> None:
        record = read(run)
        assert yaml.safe_load((run / "recipe.yaml").read_text()) == record["recipe_settings"]
        assert any(text.startswith("schedule.iterations=4 (reference ") for text in record["deviations"])
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
        assert record["train_loss"] == pytest.approx(sum(line["loss"] for line in lines) / 4, rel=1e-5)
        parts = ("loss_box_reg", "loss_cls", "loss_mask", "loss_rpn_cls", "loss_rpn_loc")
        for line in lines:
            assert line["loss"] == pytest.approx(sum(line[name] for name in parts), rel=1e-4)

    def test_pictures_and_curves_are_there(self, run: Path) -> None:
        (path,) = (run / "pictures").iterdir()
        assert path.name == "detections_4.png"
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100
        curves = EventAccumulator(str(run / "tensorboard")).Reload()
        assert [event.step for event in curves.Scalars("train/loss")] == [1, 2, 3, 4]
        (event,) = curves.Scalars("val/AP_box")
        assert math.isclose(event.value, values(read(run))["AP_box"], rel_tol=1e-6)


class TestReaders:
    def test_a_finished_run_is_skipped(
        self, mini: Path, runs: Path, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tasks.detection.task.run_job", lambda *arguments, **options: pytest.fail("ran again"))
        before = (run / "record.json").read_bytes()
        result = call(*detection(mini / "coco", runs))
        assert result.exit_code == 0 and "finished before; nothing to do" in result.output
        assert f"AP_box {values(read(run))['AP_box']:.2f} %" in result.output
        assert (run / "record.json").read_bytes() == before

    def test_results_csv_holds_both(self, runs: Path) -> None:
        frame = pd.read_csv(runs / "results.csv", float_precision="round_trip")
        for seed in (0, 1):
            record = read(run_of(runs, seed))
            rows = frame[frame["seed"] == seed]
            assert dict(zip(rows["metric"], rows["value"], strict=True)) == values(record)
            assert set(rows["task"]) == {"detection"} and set(rows["dataset"]) == {"mini-coco"}

    def test_the_table_has_their_row(self, runs: Path) -> None:
        result = call("table", runs, "--layout", "coco")
        assert result.exit_code == 0
        assert result.output.startswith("### mini-coco: AP of boxes and of masks in %")
        ((heading, row),) = read_markdown(result.output)
        assert heading == ["method", "pre-train data", "AP box ViT-mini", "AP mask ViT-mini"]
        assert row[:2] == ["random", "none"]
        for name, cell in zip(("AP_box", "AP_mask"), row[2:], strict=True):
            mean = sum(values(read(run_of(runs, seed)))[name] for seed in (0, 1)) / 2
            assert cell.startswith(f"{mean:.1f} [") and "(2 seeds)" in cell

    def test_two_seeds_are_compared_on_the_same_images(self, runs: Path) -> None:
        a, b = run_of(runs, 0), run_of(runs, 1)
        result = call("compare", a, b)
        assert result.exit_code == 0, result.output
        assert "mini-coco: both on the same 12 images" in result.output
        assert "not the same protocol" not in result.output
        for name in ("AP_box", "AP_mask"):
            ours, theirs = values(read(a))[name], values(read(b))[name]
            (line,) = [line.split() for line in result.output.splitlines() if line.startswith(f"{name} ")]
            assert line[1:4] == [f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:+.2f}"]

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
        result = call(*detection(aerial, tmp_path / "out", **places))
        assert result.exit_code == 0, result.output
        (run,) = tmp_path.glob("out/detection/aerial/random_vit_mini/seed0-*")
        record = read(run)
        assert record["dataset"] == "aerial"
        assert any("recorded as data set aerial (4 training images in 2 classes)" in note for note in record["notes"])
        assert set(record["per_class"]) == {
            f"{metric}/{name}" for metric in ("AP_box", "AP_mask") for name in ("roof", "swimming pool")
        }
        found = json.loads((run / "detections.json").read_text())
        assert {one["image_id"] for one in found} == {2, 900}
        assert {one["category_id"] for one in found} <= {7, 300}
        evaluation = scored(aerial / "judge.json", run / "detections.json", "box")
        assert values(record)["AP_box"] == 100 * evaluation.stats[0]
        assert values(record)["AR100_box"] == 100 * evaluation.stats[8] > 0

    def test_are_checked(self, aerial: Path) -> None:
        places = ["data.train_images=pictures", "data.train_json=learn.json"]
        places += ["data.val_images=pictures", "data.val_json=judge.json"]
        sets = [part for place in places for part in ("--set", place)]
        result = call("data", "check", "coco", "--root", aerial, *sets)
        assert result.exit_code == 0
        lines = [line.strip() for line in result.output.splitlines()]
        assert f"{aerial}: objects in COCO's format, 2 categories" in lines
        assert {"train: 4 images, 8 annotations", "val: 2 images, 4 annotations"} <= set(lines)
        image = aerial / "pictures/judge/900.png"
        image.write_text("not an image")
        spoilt = call("data", "check", "coco", "--root", aerial, *sets)
        assert spoilt.exit_code == 1 and f"{image}: unreadable image: text, not an image" in spoilt.output
        message = refusal("data", "check", "coco", "--root", aerial, "--set", "data.train_jsn=learn.json")
        assert 'key "data.train_jsn": no such setting. Did you mean "train_json"?' in message
