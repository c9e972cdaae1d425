"""Classifiers of other makes: what only their own package builds is refused, with the reason."""

from pathlib import Path
from typing import Any

import pytest
import timm

from backbones.images.normalisation import HALF
from benchmarks.planning.recipe import load_recipe
from tasks.classification.task import create_classifier
from tests.support.in_process import refusal, success
from tests.support.trained_files import leave_weights

CLASSES = ["ant", "bee"]


def trained(run: Path, backbone: str, image_size: int) -> Any:
    settings = [f"model.image_size={image_size}"]
    recipe: Any = load_recipe("mini_classification", settings, {"classification"}).recipe
    step, _, _ = create_classifier(recipe, backbone, None, len(CLASSES), 0, HALF)
    leave_weights(run, step.network, recipe, backbone, CLASSES)
    return step.network


@pytest.mark.parametrize("target", ["timm", "transformers", "mae"])
def test_a_strangers_classifier_is_refused(tmp_path: Path, target: str) -> None:
    network = trained(tmp_path / "run", "tests.support.strangers:one_map", 64)
    message = refusal("export", tmp_path / "run", "--to", target, "--out", tmp_path / "out")
    name = type(network.backbone).__name__
    assert message.startswith(
        f"A classifier on {name} cannot be handed on to {target}: it is not made as timm's models are"
    )


def test_a_resnet_is_described_with_the_images_that_it_saw(tmp_path: Path) -> None:
    trained(tmp_path / "run", "test_resnet", 48)
    success("export", tmp_path / "run", "--to", "timm", "--out", tmp_path / "out")
    config = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).pretrained_cfg
    assert tuple(config["input_size"]) == (3, 48, 48)
    message = refusal("export", tmp_path / "run", "--to", "transformers", "--out", tmp_path / "vit")
    assert message.startswith(
        "ResNet cannot be handed on to transformers: ResNet is no plain ViT. --to timm takes every model"
    )
