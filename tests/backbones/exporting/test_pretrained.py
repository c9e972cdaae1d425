"""What a pre-training of somebody's own leaves goes out too, where its encoder is a model of timm's."""

from pathlib import Path

import pytest
import timm
import torch

from backbones.errors import InputError
from backbones.exporting.encoders import export_encoder
from backbones.exporting.pretrained import pretrained_network
from backbones.exporting.products import About, write_product
from backbones.images.normalisation import IMAGENET
from backbones.objectives import register_pretraining
from backbones.pretraining.settings import ObjectiveRecipe
from backbones.pretraining.steps import create_step
from backbones.weights.checkpoints import read_checkpoint
from benchmarks.planning.recipe import load_recipe
from tests.support import objectives
from tests.support.checkpoint_examples import images, randomised
from tests.support.trained_files import leave_weights


def test_an_encoder_of_another_objective(tmp_path: Path) -> None:
    register_pretraining("denoising_for_export", method="Denoising", arch="vit_mini_patch8_48")(objectives.denoising)
    recipe = load_recipe("mae_vit_mini", ["model.arch=denoising_for_export"], {"pretraining"}).recipe
    assert isinstance(recipe, ObjectiveRecipe)
    network = randomised(create_step(recipe, 0).network)
    checkpoint = read_checkpoint(leave_weights(tmp_path / "run", network, recipe, "none", []))
    encoder = pretrained_network(recipe, checkpoint)
    about = About("Denoising", "mini", "ViT-mini", IMAGENET)
    write_product(export_encoder(encoder, about, "timm"), tmp_path / "timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(theirs.forward_features(images()), network.encoder.forward_features(images()))


def test_an_encoder_of_which_nobody_knows_what_it_is(tmp_path: Path) -> None:
    recipe = load_recipe("mae_vit_mini", ["model.arch=tests.support.objectives:denoising"], {"pretraining"}).recipe
    assert isinstance(recipe, ObjectiveRecipe)
    network = create_step(recipe, 0).network
    checkpoint = read_checkpoint(leave_weights(tmp_path / "run", network, recipe, "none", []))
    with pytest.raises(InputError, match="is no model of timm's, as far as its registration says"):
        pretrained_network(recipe, checkpoint)
