"""What `backbench predict` finds is what the run's own evaluation found."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from backbones.trained.file import read_description
from benchmarks.running.predicting import load_predictor
from tests.support.commands import run_directory
from tests.support.detection_runs import change_annotations, detection, image_file
from tests.support.image_examples import save_tagged
from tests.support.in_process import success


@pytest.fixture(scope="module")
def gapped(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes whose categories have other numbers than their places."""
    root = Path(shutil.copytree(few, tmp_path_factory.mktemp("gapped") / "scenes"))
    for split in ("train", "val"):

        def renumber(content: dict[str, list[dict[str, int]]]) -> None:
            for each in content["categories"]:
                each["id"] *= 10
            for each in content["annotations"]:
                each["category_id"] *= 10

        change_annotations(root, split, renumber)
    return root


@pytest.fixture(scope="module")
def run(gapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's directory."""
    out = tmp_path_factory.mktemp("runs")
    success(*detection(gapped, out))
    return run_directory(out)


def said(run: Path, image: Path, score: float, out: Path) -> dict[str, Any]:
    """What the document has of the image, and the names of categories."""
    success("predict", run, image, "--score", score, "--out", out)
    document = json.loads((out / "predictions.json").read_text())
    (entry,) = document["images"]
    return entry | {"names": {each["id"]: each["name"] for each in document["categories"]}}


def test_detections_are_those_of_the_evaluation(run: Path, gapped: Path, tmp_path: Path) -> None:
    image = image_file(gapped, "val", 3)
    entry = said(run, image, 0, tmp_path / "0")
    every = json.loads((run / "detections.json").read_text())
    expected = [each for each in every if each["image_id"] == 3]
    assert expected and {each["category_id"] % 10 for each in expected} == {0}
    for found, each in zip(entry["detections"], expected, strict=True):
        assert found == each | {"image_id": entry["id"], "category_name": entry["names"][each["category_id"]]}
    assert not said(run, image, 1, tmp_path / "1")["detections"]
    drawn, undrawn = (Image.open(tmp_path / f"{score}/pictures/{image.stem}.png") for score in (0, 1))
    assert drawn.size == undrawn.size and drawn.tobytes() != undrawn.tobytes()


def test_a_turned_image_is_seen_upright(run: Path, gapped: Path, tmp_path: Path) -> None:
    upright = Image.open(image_file(gapped, "val", 3)).convert("RGB")
    upright.save(tmp_path / "upright.png")
    save_tagged(upright, tmp_path / "turned.png", 6)
    weights = run / "weights.safetensors"
    description = read_description(weights)
    assert description
    predictor, _ = load_predictor(weights, description, [], {})
    first, second = (predictor.read(tmp_path / f"{name}.png", 1) for name in ("upright", "turned"))
    assert torch.equal(first.sample["inputs"]["image"], second.sample["inputs"]["image"])
    assert torch.equal(first.image, second.image)
