"""The recipe of MAE's ablations against the paper's table 1 and figure 5, and keys of before there were any."""

import re

import pytest
import torch

from backbones.pretraining.settings import MaskedAutoencoderRecipe
from backbones.pretraining.steps import create_step
from backbones.training.settings import deciding_settings, deviations
from benchmarks.planning.recipe import FOLDER, load_recipe
from results import cell_key

NAME = "mae_vit_large_800ep"

# What changes, and fine-tuned and linear accuracy: He et al., table 1a to 1f and figure 5.
PAPER: dict[str, tuple[float, float]] = {
    "model.decoder_depth=1": (84.8, 65.5),
    "model.decoder_depth=2": (84.9, 70.0),
    "model.decoder_depth=4": (84.9, 71.9),
    "model.decoder_depth=12": (84.4, 73.3),
    "model.decoder_width=128": (84.9, 69.1),
    "model.decoder_width=256": (84.8, 71.3),
    "model.decoder_width=768": (84.4, 73.1),
    "model.decoder_width=1024": (84.3, 73.1),
    "model.mask_tokens_in_encoder=true": (84.2, 59.6),
    "model.norm_pix_loss=true": (85.4, 73.9),
    "augment.crop=none augment.flip=0": (84.0, 65.7),
    "augment.crop=fixed": (84.7, 73.1),
    "augment.colour_jitter=[0.4,0.4,0.4,0.1]": (84.3, 71.9),
    "model.mask_sampling=block model.mask_ratio=0.5": (83.9, 72.3),
    "model.mask_sampling=block": (82.8, 63.9),
    "model.mask_sampling=grid": (84.0, 66.0),
    "model.mask_ratio=0.1": (83.2, 54.6),
    "model.mask_ratio=0.2": (83.4, 58.9),
    "model.mask_ratio=0.3": (83.4, 61.7),
    "model.mask_ratio=0.4": (84.7, 67.0),
    "model.mask_ratio=0.5": (84.9, 69.9),
    "model.mask_ratio=0.6": (85.0, 71.8),
    "model.mask_ratio=0.7": (84.9, 73.2),
    "model.mask_ratio=0.8": (84.5, 71.8),
    "model.mask_ratio=0.9": (83.0, 66.1),
}


def test_the_recipe_lists_every_ablation_with_the_papers_numbers() -> None:
    text = (FOLDER / f"{NAME}.yaml").read_text()
    rows = re.findall(r"^#   (\d\d\.\d) +(\d\d\.\d)   (\S.*)$", text, re.MULTILINE)
    listed = {what: (float(fine_tuned), float(linear)) for fine_tuned, linear, what in rows}
    assert {what: numbers for what, numbers in listed.items() if not what.startswith("as it stands")} == PAPER
    as_it_stands = [(ft, lin) for ft, lin, what in rows if what.startswith("as it stands")]
    assert as_it_stands == [("84.9", "73.5")] * 7


def test_it_departs_from_what_the_tables_start_from() -> None:
    departures = ("model.norm_pix_loss=False (reference True)", "schedule.epochs=800 (reference 1600)")
    assert load_recipe(NAME, [], {"pretraining"}).own_deviations == departures


@pytest.mark.parametrize("overrides", PAPER)
def test_an_ablation_builds_and_departs_in_itself_alone(overrides: str) -> None:
    loaded = load_recipe(NAME, overrides.split(), {"pretraining"})
    assert isinstance(loaded.recipe, MaskedAutoencoderRecipe)
    assert len(deviations(loaded.recipe, loaded.as_it_stands)) == len(overrides.split())
    with torch.device("meta"):
        network = create_step(loaded.recipe, 0).network
    decoder = loaded.recipe.model
    assert len(network.decoder_blocks) == (decoder.decoder_depth or 8)
    assert network.decoder_norm.normalized_shape == (decoder.decoder_width or 512,)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.mask_sampling=grid", "model.mask_ratio=0.5"], "mask_sampling grid keeps one of every four patches"),
        (["model.decoder_width=100"], "decoder_width=100 with decoder_heads=16"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], expected: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=expected):
        create_step(load_recipe(NAME, overrides, {"pretraining"}).recipe, 0)


# As version 0.1.0 made them before there were ablations.
KEYS = {
    "mae_vit_base": "eedf6e35ed1a",
    "mae_vit_large": "623189424654",
    "mae_vit_large_800ep": "88a0e12a6f54",
    "mae_vit_huge": "6893dadce46a",
    "mae_vit_mini": "8757c2c84f15",
}


@pytest.mark.parametrize("name", KEYS)
def test_no_key_of_before_has_moved(name: str) -> None:
    then = ["schedule.epochs=15"] if name == "mae_vit_mini" else []  # which is shorter today
    assert cell_key({"recipe": deciding_settings(load_recipe(name, then, {"pretraining"}).recipe)}) == KEYS[name]
