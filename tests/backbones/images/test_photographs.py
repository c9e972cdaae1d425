"""Photographs of one's own, as they come: any folders, names, sizes, formats; and backbones of one's own."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from backbones.errors import InputError
from benchmarks.running.cells import run_pretraining, run_task
from benchmarks.running.preparing import FinishedCell
from tests.support.image_examples import PHOTOGRAPH
from tests.support.in_process import call

QUICK = ["schedule.epochs=1", "schedule.warmup_epochs=0", "runtime.workers=0"]

SIZES = ((32, 32), (512, 600), (6000, 32), (33, 2000), (6000, 4000))
KINDS = ("cmyk", "grey", "grey16", "palette", "transparent palette", "rgba", "one bit", "animation", "webp", "rotated")


def save_as(kind: str, photograph: Image.Image, stem: Path) -> Path:
    """Store a photograph in one of the ways in which photographs are stored, and return where."""
    small = photograph.resize((96, 112))
    palette = small.quantize(64)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise to view
    match kind:
        case "cmyk":
            small.convert("CMYK").save(path := stem.with_suffix(".jpg"))
        case "grey":
            small.convert("L").save(path := stem.with_suffix(".jpg"))
        case "grey16":
            grey = small.convert("L")
            wide = Image.frombytes("I;16", grey.size, bytes(byte for value in grey.tobytes() for byte in (0, value)))
            wide.save(path := stem.with_suffix(".png"))
        case "palette":
            palette.save(path := stem.with_suffix(".png"))
        case "transparent palette":
            palette.save(path := stem.with_suffix(".png"), transparency=3)
        case "rgba":
            small.putalpha(small.convert("L"))
            small.save(path := stem.with_suffix(".png"))
        case "one bit":
            small.convert("1").save(path := stem.with_suffix(".png"))
        case "animation":
            frames = [small.rotate(angle).quantize(32) for angle in (90, 180)]
            palette.save(path := stem.with_suffix(".gif"), save_all=True, append_images=frames)
        case "webp":
            small.save(path := stem.with_suffix(".webp"))
        case _:
            small.save(path := stem.with_suffix(".jpg"), exif=exif)
    return path


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two undivided classes, whose names no programmer would choose, of one photograph at every size and format."""
    root = tmp_path_factory.mktemp("pictures") / "Großmutters Album 1984"
    with Image.open(PHOTOGRAPH) as photograph:
        for folder, turned in (("am Meer, im Juli", 0), ("家族 & friends", 180)):
            nested = root / folder / "from the old computer"
            nested.mkdir(parents=True)
            view = photograph.rotate(turned)
            for width, height in SIZES:
                view.resize((width, height)).save(root / folder / f"DSC {width}x{height}.JPG", "JPEG")
            for kind in KINDS:
                save_as(kind, view, nested / kind)
    shutil.copy(PHOTOGRAPH, root / "am Meer, im Juli" / "Grace Hopper.JPEG")
    (root / "am Meer, im Juli" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / "am Meer, im Juli" / "._Grace Hopper.JPEG").write_bytes(b"\0\5\x16\7")
    return root


def fine_tune(data: Path, out: Path, backbone: str = "random_vit_mini", *overrides: str) -> FinishedCell:
    settings = [*QUICK, "optimizer.batch_size=8", *overrides]
    return run_task("mini_classification", data, backbone, out, seed=0, overrides=settings)


@pytest.fixture(scope="module")
def pretrained(album: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedCell:
    out = tmp_path_factory.mktemp("pretrained")
    settings = [*QUICK, "optimizer.batch_size=8", "model.image_size=96"]
    return run_pretraining("mae_vit_mini", album, out, seed=0, overrides=settings)


def test_the_photograph_is_a_real_one() -> None:
    with Image.open(PHOTOGRAPH) as photograph:
        assert (photograph.format, photograph.size) == ("JPEG", (512, 600))


def test_pretraining_takes_every_photograph(album: Path, pretrained: FinishedCell) -> None:
    record = pretrained.record
    assert record.dataset == record.pretrain_data == "Großmutters Album 1984"
    assert record.corrupt_images == []
    images = 2 * len(SIZES) + 2 * len(KINDS) + 1
    assert record.notes == [f"recorded as data set Großmutters Album 1984 ({images} training images), not mini"]
    content = torch.load(pretrained.directory / "checkpoints/encoder.pth", weights_only=True)
    assert content["pretrain_data"] == "Großmutters Album 1984"
    assert content["model"]["pos_embed"].shape == (1, (96 // 8) ** 2 + 1, 128)
    (picture,) = (pretrained.directory / "pictures").glob("*.png")
    Image.open(picture).load()


def test_that_encoder_is_fine_tuned_on_the_same_photographs(
    album: Path, pretrained: FinishedCell, tmp_path: Path
) -> None:
    encoder = pretrained.directory / "checkpoints/encoder.pth"
    cell = fine_tune(album, tmp_path, f"mae_vit_mini={encoder}", "model.image_size=96")
    record = cell.record
    assert record.dataset == record.pretrain_data == "Großmutters Album 1984"
    assert record.method == "MAE" and record.checkpoint_sha256 == pretrained.record.checkpoint_sha256
    assert record.corrupt_images == []
    assert {metric.split for metric in record.metrics} == {"holdout"}
    assert set(record.per_class) <= {"am Meer, im Juli", "家族 & friends"}
    assert any("held out for validation" in note for note in record.notes)
    assert any("not mini" in note for note in record.notes)
    evaluated = pd.read_csv(cell.directory / "per_image.csv")["image"]
    assert len(evaluated) == record.metrics[0].n_eval == 6
    assert all((album / name).is_file() for name in evaluated)


def test_the_check_finds_nothing_wrong(album: Path) -> None:
    result = call("data", "check", "folders", "--data", album)
    assert result.exit_code == 0, result.output
    assert "class folders, undivided, 2 classes" in result.output
    assert "every image can be read" in result.output


def test_divided_folders_are_evaluated_in_full(album: Path, tmp_path: Path) -> None:
    root = tmp_path / "divided"
    for split in ("train", "val"):
        for name in ("am Meer, im Juli", "家族 & friends"):
            shutil.copytree(album / name / "from the old computer", root / split / name)
    record = fine_tune(root, tmp_path / "out").record
    assert record.metrics[0].n_eval == 2 * len(KINDS)
    assert {metric.split for metric in record.metrics} == {"val"}
    assert record.dataset == "divided"


def test_file_names_in_an_encoding_of_the_past(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas is to leave them alone: where pyarrow is installed, it makes UTF-8 of what it takes for text."""
    kinds = set()
    to_csv = pd.DataFrame.to_csv

    def watched(frame: pd.DataFrame, *arguments: Any, **options: Any) -> Any:
        if "image" in frame:
            kinds.add(frame["image"].dtype)
        return to_csv(frame, *arguments, **options)

    monkeypatch.setattr(pd.DataFrame, "to_csv", watched)
    root = tmp_path / os.fsdecode(b"\xe4lter")
    for source, name in zip(sorted(path for path in album.iterdir()), (b"caf\xe9", b"stra\xdfe"), strict=True):
        shutil.copytree(source / "from the old computer", root / os.fsdecode(name))
    (root / os.fsdecode(b"caf\xe9") / "broken.jpg").write_text("not an image")
    split = ["--set", "evaluation.allow_unreadable=true"]
    overrides = [part for setting in [*QUICK, "optimizer.batch_size=8"] for part in ("--set", setting)]
    arguments = ["--recipe", "mini_classification", "--backbone", "random_vit_mini", "--data", root]
    result = call("run", *arguments, "--out", tmp_path / "out", *overrides, *split)
    assert result.exit_code == 0, result.output
    (file,) = (tmp_path / "out").glob("classification/*/*/*/record.json")
    record = json.loads(file.read_text())
    assert record["dataset"] == r"\xe4lter"
    assert set(record["per_class"]) == {r"caf\xe9", r"stra\xdfe"}
    (corrupt,) = record["corrupt_images"]
    assert corrupt == rf"{tmp_path}/\xe4lter/caf\xe9/broken.jpg: text, not an image"
    assert len(pd.read_csv(file.with_name("per_image.csv"))) == record["metrics"][0]["n_eval"]
    assert kinds == {np.dtype(object)}
    assert call("table", tmp_path / "out", "--layout", "transfer").exit_code == 0
    assert call("data", "check", "folders", "--data", root).exit_code == 1


@pytest.fixture
def pair(album: Path, tmp_path: Path) -> Path:
    """A smaller album, for runs whose data do not matter."""
    root = tmp_path / "pair"
    for number, name in enumerate(("am Meer, im Juli", "家族 & friends")):
        shutil.copytree(album / name / "from the old computer", root / f"class {number}")
    return root


def test_a_card_names_the_data(pair: Path, tmp_path: Path) -> None:
    (pair / "dataset.json").write_text(json.dumps({"name": "navy"}))
    assert fine_tune(pair, tmp_path / "out").record.dataset == "navy"
    assert (tmp_path / "out/classification/navy").is_dir()


@pytest.mark.parametrize("claimed", ["mini", "imagenet1k"])
def test_photographs_do_not_pass_for_a_data_set_of_the_literature(pair: Path, tmp_path: Path, claimed: str) -> None:
    record = fine_tune(pair, tmp_path / "out", "random_vit_mini", f"dataset={claimed}").record
    assert record.dataset == "pair"


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto"])
def test_convolutional_networks_of_timm(pair: Path, tmp_path: Path, backbone: str) -> None:
    record = fine_tune(pair, tmp_path / "out", backbone).record
    assert (record.backbone, record.arch, record.method) == (backbone, backbone, "random")
    assert record.checkpoint_sha256 is None


def test_a_function_of_ones_own(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_backbones.py").write_text(
        "import timm\n\n"
        "def small(image_size, drop_path):\n"
        "    return timm.create_model('vit_tiny_patch16_224', img_size=image_size, depth=2, num_classes=0,\n"
        "                             drop_path_rate=drop_path)\n\n"
        "def broken(image_size, drop_path):\n"
        "    raise KeyError('depth')\n\n"
        "def unsuitable(image_size, drop_path):\n"
        "    return object()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    record = fine_tune(pair, tmp_path / "out", "my_backbones:small").record
    assert record.backbone == "my_backbones:small"
    with pytest.raises(InputError, match="my_backbones:broken: building it failed with KeyError: 'depth'"):
        fine_tune(pair, tmp_path / "out", "my_backbones:broken")
    with pytest.raises(InputError, match="my_backbones:unsuitable"):
        fine_tune(pair, tmp_path / "out", "my_backbones:unsuitable")


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_alone(kind: str, tmp_path: Path) -> None:
    with Image.open(PHOTOGRAPH) as photograph:
        for name, turned in (("up", 0), ("down", 180)):
            (tmp_path / "data" / name).mkdir(parents=True)
            for copy in range(2):
                save_as(kind, photograph.rotate(turned), tmp_path / "data" / name / f"{copy}")
    record = fine_tune(tmp_path / "data", tmp_path / "out", "random_vit_mini", "optimizer.batch_size=2").record
    assert record.corrupt_images == []
    values: dict[str, Any] = {metric.name: metric for metric in record.metrics}
    assert values["top1"].n_eval == 2
