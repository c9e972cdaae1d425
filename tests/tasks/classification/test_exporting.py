"""Classifiers of other makes: what only their own package builds is refused, with the reason."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from transformers import AutoImageProcessor

from backbones.images.normalisation import HALF
from backbones.trained.file import read_description
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.statements import read_statement
from benchmarks.planning.evaluations import plan_evaluation
from benchmarks.planning.recipe import load_recipe
from tasks.classification.samples import view_of
from tasks.classification.task import create_classifier
from tests.support.in_process import refusal, success
from tests.support.trained_files import leave_weights

CLASSES = ["ant", "bee"]


def trained(run: Path, backbone: str, image_size: int, *changes: str) -> Any:
    settings = [f"model.image_size={image_size}", *changes]
    recipe: Any = load_recipe("mini_classification", settings, {"classification"}).recipe
    step, _, _ = create_classifier(recipe, backbone, None, len(CLASSES), 0, HALF)
    leave_weights(run, step.network, recipe, backbone, CLASSES)
    return step.network


def evaluation_of(folder: Path) -> Any:
    """The recipe under which what was handed on would be evaluated here."""
    return plan_evaluation("mini_classification", Path("images"), folder, overrides=[]).recipe


@pytest.mark.parametrize("target", ["timm", "transformers", "mae"])
def test_a_strangers_classifier_is_refused(tmp_path: Path, target: str) -> None:
    network = trained(tmp_path / "run", "tests.support.strangers:one_map", 64)
    message = refusal("export", tmp_path / "run", "--to", target, "--out", tmp_path / "out")
    name = type(network.backbone).__name__
    assert message.startswith(
        f"{tmp_path / 'run'}: a classifier on {name} cannot be handed on to {target}: it is not made as timm's"
    )


def test_a_resnet_is_described_with_the_images_that_it_saw(tmp_path: Path) -> None:
    trained(tmp_path / "run", "test_resnet", 48)
    success("export", tmp_path / "run", "--to", "timm", "--out", tmp_path / "out")
    config = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).pretrained_cfg
    assert tuple(config["input_size"]) == (3, 48, 48)
    message = refusal("export", tmp_path / "run", "--to", "transformers", "--out", tmp_path / "vit")
    assert message.startswith(
        f"{tmp_path / 'run'}: ResNet cannot be handed on to transformers: ResNet is no plain ViT. --to timm takes"
    )


SEEN = (
    (("inference.shape=square", "inference.interpolation=bilinear", "inference.resized=64"), "squash", 0.75),
    (("inference.resized=55",), "center", 48 / 55),
    (("inference.crop_ratio=0.9", "inference.interpolation=bilinear"), "center", 0.9),
)


@pytest.mark.parametrize(("changes", "mode", "share"), SEEN)
def test_others_are_told_what_it_saw_of_an_image(
    tmp_path: Path, changes: tuple[str, ...], mode: str, share: float
) -> None:
    """By timm's and transformers' own preparation the pixels are those of its evaluation."""
    trained(tmp_path / "run", "random_vit_mini", 48, *changes)
    recipe: Any = load_recipe("mini_classification", ["model.image_size=48", *changes], {"classification"}).recipe
    view = replace(view_of(recipe), decoder="pillow")
    ramps = np.stack(np.broadcast_arrays(np.arange(97)[None] * 2, np.arange(61)[:, None] * 4, 128), -1)
    Image.fromarray(ramps.astype(np.uint8)).save(tmp_path / "image.png")
    image, expected = Image.open(tmp_path / "image.png"), (view.read(tmp_path / "image.png") / 255 - 0.5) / 0.5
    for target in ("timm", "transformers"):
        success("export", tmp_path / "run", "--to", target, "--out", tmp_path / target)
    told = json.loads((tmp_path / "timm/config.json").read_text())["pretrained_cfg"]
    assert (told["crop_mode"], told["crop_pct"]) == (mode, pytest.approx(share))
    theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True)
    prepared: Any = create_transform(**resolve_data_config(model=theirs))(image)
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-6)
    prepared = AutoImageProcessor.from_pretrained(tmp_path / "transformers")(image, return_tensors="pt")["pixel_values"]
    assert (prepared[0] - expected).abs().max() < 6 * 2 / 255  # it cuts out half a pixel elsewhere where that is odd
    resample = json.loads((tmp_path / "transformers/preprocessor_config.json").read_text())["resample"]
    assert Image.Resampling(resample).name.lower() == view.interpolation
    again: Any = evaluation_of(tmp_path / "timm")
    own = view_of(again)
    assert (own.side, own.shape, own.interpolation) == (view.side, view.shape, view.interpolation)


def test_what_maes_own_evaluation_shows_otherwise_is_remarked(tmp_path: Path) -> None:
    for name, changes in (("usual", ()), ("square", SEEN[0][0])):
        trained(tmp_path / name, "random_vit_mini", 48, *changes)
    out = success("export", tmp_path / "square", "--to", "mae", "--out", tmp_path / "a.pth").output
    assert "resized both sides to 64 pixels (bilinear); mae's own resizes the short side to 54 (bicubic)" in out
    assert "note" not in success("export", tmp_path / "usual", "--to", "mae", "--out", tmp_path / "b.pth").output


@pytest.mark.parametrize("backbone", ["random_vit_mini", "convnext_atto"])
def test_nothing_is_said_of_another_files_origin(tmp_path: Path, backbone: str) -> None:
    """timm's own description of its file of that architecture stays what it was, and is not handed on."""
    trained(tmp_path / "run", backbone, 48)
    success("export", tmp_path / "run", "--to", "timm", "--out", tmp_path / "out")
    text = (tmp_path / "out/config.json").read_text()
    told = json.loads(text)["pretrained_cfg"]
    assert not {"tag", "license", "url", "hf_hub_id", "origin_url", "paper_ids", "test_input_size"} & told.keys()
    assert told["custom_load"] is False and "augreg" not in text
    architecture = json.loads(text)["architecture"]
    assert timm.get_pretrained_cfg(architecture).tag
    statement = read_statement(read_checkpoint(tmp_path / "out"))
    description = read_description(tmp_path / "run/weights.safetensors")
    assert description and (statement.method, statement.pretrain_data) == (
        description.method,
        description.pretrain_data,
    )
    recipe: Any = evaluation_of(tmp_path / "out")
    assert recipe.model.image_size == 48
