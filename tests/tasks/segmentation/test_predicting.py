"""What `backbench predict` says of pixels is what the run's own evaluation said."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.segmentation.areas import load_areas
from tests.support.commands import run_directory
from tests.support.in_process import success
from tests.support.segmentation_runs import FOLDERS, segmentation


@pytest.fixture(scope="module")
def run(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's directory."""
    out = tmp_path_factory.mktemp("runs")
    success(*segmentation(few, out))
    return run_directory(out)


def test_label_maps_are_those_of_the_evaluation(run: Path, few: Path, tmp_path: Path) -> None:
    success("predict", run, few / "images" / FOLDERS["val"], "--out", tmp_path)
    document = json.loads((tmp_path / "predictions.json").read_text())
    areas = load_areas(run / "areas.npz")
    assert [Path(each["image"]).name for each in document["images"]] == areas.image_names
    for number, image in enumerate(document["images"]):
        with Image.open(tmp_path / image["labels"]) as opened:
            labels, colours = np.asarray(opened), opened.getpalette()
        assert labels.shape == (image["height"], image["width"]) and colours
        truth = Image.open(few / "annotations" / FOLDERS["val"] / f"{Path(image['image']).stem}.png")
        annotated = np.asarray(truth) > 0
        counts = np.bincount(labels[annotated], minlength=len(document["classes"]))
        assert counts.tolist() == areas.predicted[number].tolist()
        shares = {each["number"]: each["share"] for each in image["classes"]}
        assert shares == {each: (labels == each).mean() for each in np.unique(labels).tolist()}
        assert all(document["classes"][each["number"]] == each["class"] for each in image["classes"])
        assert [*shares.values()] == sorted(shares.values(), reverse=True)
        assert max(Image.open(tmp_path / image["picture"]).size) > 512


@pytest.mark.parametrize("views", [(), ("--set", "inference.scales=[1.0,1.5]", "--set", "inference.flip=true")])
def test_rows_by_themselves_get_the_same_labels(
    run: Path, few: Path, tmp_path: Path, views: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = sorted((few / "images" / FOLDERS["val"]).iterdir())[1]
    maps = []
    for out, numbers in (("whole", 1 << 29), ("rows", 8 * 400)):
        monkeypatch.setattr("tasks.segmentation.predicting.AT_ONCE", numbers)
        success("predict", run, image, "--out", tmp_path / out, *views)
        maps.append(np.asarray(Image.open(tmp_path / out / f"labels/{image.stem}.png")))
    assert len(np.unique(maps[0])) > 1
    assert (maps[0] == maps[1]).all()


def test_other_settings_of_inference_are_taken(run: Path, few: Path, tmp_path: Path) -> None:
    image = next((few / "images" / FOLDERS["val"]).iterdir())
    whole = ("--set", "inference.mode=whole", "--set", "inference.stride=null")
    success("predict", run, image, "--out", tmp_path, *whole)
    assert json.loads((tmp_path / "predictions.json").read_text())["inference"]["mode"] == "whole"
