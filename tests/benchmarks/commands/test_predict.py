"""`backbench predict`: images of all kinds, what is written, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.support.commands import run_directory
from tests.support.image_examples import save_tagged
from tests.support.in_process import FullDisk, call, refusal, run, success


@pytest.fixture(scope="module")
def finished(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished classification."""
    out = tmp_path_factory.mktemp("runs")
    success(*run(mini, out, precision="fp32"))
    return run_directory(out)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small image in colour."""
    pixels = np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    path = tmp_path / "photos/photo.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    return path


def read(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "predictions.json").read_text())
    return document


def test_predictions_are_those_of_the_evaluation(finished: Path, mini: Path, tmp_path: Path) -> None:
    classes = sorted(path.name for path in (mini / "val").iterdir())
    folders = [mini / "val" / classes[number] for number in (1, 4)]
    success("predict", finished, *folders, "--out", tmp_path, "--top", 100)
    document = read(tmp_path)
    frame = pd.read_csv(finished / "per_image.csv")
    frame = frame[frame["labels"].isin((1, 4))]
    best = [image["classes"][0] for image in document["images"]]
    assert [each["number"] for each in best] == frame["predictions"].tolist()
    assert [each["probability"] for each in best] == pytest.approx(frame["confidences"].tolist(), abs=1e-5)
    for image in document["images"]:
        assert sum(each["probability"] for each in image["classes"]) == pytest.approx(1, abs=1e-5)
        assert [classes[each["number"]] for each in image["classes"]] == [each["class"] for each in image["classes"]]
        assert Image.open(tmp_path / image["picture"]).height > 500
    assert len({image["picture"] for image in document["images"]}) == len(frame) == 20
    assert document["run"]["key"] == finished.name.split("-")[1]


def test_the_document_alone_is_on_standard_output(finished: Path, photo: Path, tmp_path: Path) -> None:
    result = success("predict", finished / "weights.safetensors", photo, "--out", tmp_path / "out", "--json")
    assert result.stdout == (tmp_path / "out/predictions.json").read_text()
    (image,) = json.loads(result.stdout)["images"]
    assert (image["image"], image["height"], image["width"]) == (str(photo), 37, 61)
    assert len(image["classes"]) == 5


def test_images_of_all_kinds(finished: Path, photo: Path, tmp_path: Path) -> None:
    image, folder = Image.open(photo), photo.parent
    image.convert("L").save(folder / "grey.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.quantize(16).save(folder / "palette.gif")
    Image.fromarray(np.full((30, 40), 30_000, np.uint16)).save(folder / "deep.png")
    save_tagged(image, folder / "turned.jpg", 6)
    image.resize((1, 1)).save(folder / "tiny.png")
    image.resize((3000, 8)).save(folder / "strip.png")
    success("predict", finished, folder, "--out", tmp_path / "out")
    assert len(read(tmp_path / "out")["images"]) == 8
    assert len([*(tmp_path / "out/pictures").iterdir()]) == 8


def test_broken_images_are_named_after_the_others(finished: Path, photo: Path, tmp_path: Path) -> None:
    (photo.parent / "a.jpg").write_bytes(b"\xff\xd8\xff half an image")
    (photo.parent / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (photo.parent / "c.png").write_bytes(photo.read_bytes()[:-40])
    result = call("predict", finished, photo.parent, "--out", tmp_path / "out")
    assert result.exit_code == 3
    lines = [line for line in result.stderr.splitlines() if line.startswith("backbench: ")]
    broken = [str(photo.parent / name) for name in ("a.jpg", "b.heic", "c.png")]
    assert [line.split(": ")[1] for line in lines] == broken
    assert "HEIC, as telephones write it, which is not read. Convert it to JPEG" in lines[1]
    document = read(tmp_path / "out")
    assert [image["image"] for image in document["images"]] == [str(photo)]
    assert [*document["unreadable"]] == broken


def test_equal_names_do_not_replace_each_other(finished: Path, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "others" / photo.name
    other.parent.mkdir()
    Image.open(photo).rotate(180).save(other)
    success("predict", finished, photo, other, "--out", tmp_path / "out")
    first, second = (tmp_path / "out" / image["picture"] for image in read(tmp_path / "out")["images"])
    assert first != second and first.read_bytes() != second.read_bytes()


def test_pictures_are_no_images_the_next_time(finished: Path, photo: Path) -> None:
    for _ in range(2):
        success("predict", finished, photo.parent, "--out", photo.parent)
        assert len(read(photo.parent)["images"]) == 1


def test_no_image_is_replaced_by_its_picture(finished: Path, photo: Path, tmp_path: Path) -> None:
    image = tmp_path / "out/pictures/photo.png"
    image.parent.mkdir(parents=True)
    shutil.copy(photo, image)
    assert "one of the images" in refusal("predict", finished, image, "--out", tmp_path / "out")
    assert image.read_bytes() == photo.read_bytes()


def test_nothing_is_replaced_that_no_prediction_wrote(finished: Path, photo: Path) -> None:
    folder = photo.parent
    theirs = folder / "pictures/photo.png"
    theirs.parent.mkdir()
    Image.new("RGB", (8, 8), "green").save(theirs)
    before = theirs.read_bytes()
    for given, whose in ((folder, "one of the images"), (photo, "which no prediction drew")):
        message = refusal("predict", finished, given, "--out", folder)
        assert f"{photo}: its picture would replace {theirs}, {whose}" in message
        assert theirs.read_bytes() == before
    theirs.unlink()
    (folder / "predictions.json").write_text('{"mine": 1}')
    assert "not written by a prediction" in refusal("predict", finished, photo, "--out", folder)
    assert (folder / "predictions.json").read_text() == '{"mine": 1}'


def test_pictures_of_others_are_images_wherever_they_lie(finished: Path, photo: Path) -> None:
    folder = photo.parent
    for name in ("pictures/other.png", "labels/photo.png"):
        (folder / name).parent.mkdir()
        shutil.copy(photo, folder / name)
    for _ in range(2):
        success("predict", finished, folder, "--out", folder)
        images = [Path(image["image"]).relative_to(folder).as_posix() for image in read(folder)["images"]]
        assert images == ["labels/photo.png", "photo.png", "pictures/other.png"]
        assert (folder / "labels/photo.png").read_bytes() == photo.read_bytes()


def test_a_full_disk_leaves_no_half_document(finished: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, written in (("predictions.json", ["photo.png"]), ("photo.png", [])):
        with FullDisk(out, name):
            result = call("predict", finished, photo, "--out", out)
        assert result.exit_code == 75
        place = out / name if name == "predictions.json" else out / "pictures" / name
        assert f"backbench: {place}: cannot be written (No space left on device). Make room" in result.output
        assert [path.name for path in out.rglob("*") if path.is_file()] == written
        shutil.rmtree(out)


def test_a_run_is_asked_for(finished: Path, photo: Path, tmp_path: Path) -> None:
    store, unfinished = finished.parents[3], tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.yaml").touch()
    assert f"a folder of runs. Name one of them: {finished}" in refusal("predict", store, photo)
    assert "this run has not finished" in refusal("predict", unfinished, photo)
    assert "no such file or folder" in refusal("predict", tmp_path / "nowhere", photo)
    assert "not written by a run" in refusal("predict", photo, photo)


def test_options_of_other_tasks_are_refused(finished: Path, photo: Path) -> None:
    message = refusal("predict", finished, photo, "--score", 0.5)
    assert message.startswith("--score belongs to detection, and ") and "is of classification" in message
    assert "was decided when" in refusal("predict", finished, photo, "--set", "model.pool=token")


def test_a_precision_without_effect_is_refused(pretrained: Path, photo: Path) -> None:
    message = refusal("predict", run_directory(pretrained), photo, "--set", "precision=bf16")
    assert message == "--set precision=bf16: networks of pretraining compute in fp32 here always. Leave it out"


def test_weights_of_a_gpus_half_precision_are_used_without_one(finished: Path, photo: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(finished / "weights.safetensors", "pt") as file:
        header = file.metadata()
    header["recipe"] = json.dumps(json.loads(header["recipe"]) | {"precision": "fp16"})
    save_file(load_file(finished / "weights.safetensors"), tmp_path / "half.safetensors", header)
    success("predict", tmp_path / "half.safetensors", photo, "--out", tmp_path / "out")
