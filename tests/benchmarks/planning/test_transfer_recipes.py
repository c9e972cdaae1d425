"""The recipes of the third table: settings of ImageNet's, the paper's numbers, and what they say of what was chosen."""

from itertools import product

import pytest

from backbones.training.settings import deciding_settings
from benchmarks.planning.recipe import FOLDER, list_recipes
from results.reference import reference_value
from tasks.registry import TASKS
from tests.support.recipes import classification

COLUMNS = {"base": "ViT-B", "large": "ViT-L", "huge": "ViT-H", "huge_448": "ViT-H-448"}
# Training images as published (visipedia/inat_comp's and Places' pages).
TRAINING_IMAGES = {
    "inat2017": 579_184,
    "inat2018": 437_513,
    "inat2019": 265_213,
    "places205": 2_448_873,
    "places365": 1_803_460,
}
RECIPES = [*product(TRAINING_IMAGES, COLUMNS)]


@pytest.mark.parametrize(("dataset", "size"), RECIPES)
def test_it_is_imagenets_recipe_but_for_data_and_epochs(dataset: str, size: str) -> None:
    ours = deciding_settings(classification(f"{dataset}_vit_{size}"))
    imagenet = deciding_settings(classification(f"imagenet_vit_{size}"))
    schedule = imagenet["schedule"] | {"epochs": ours["schedule"]["epochs"]}
    assert ours == imagenet | {"dataset": dataset, "schedule": schedule}


@pytest.mark.parametrize(("dataset", "size"), RECIPES)
def test_it_shows_about_as_many_images_as_imagenets(dataset: str, size: str) -> None:
    """But for the smallest set, where ViT-B's would be more epochs than anybody published."""
    epochs = classification(f"{dataset}_vit_{size}").schedule.epochs
    as_many = classification(f"imagenet_vit_{size}").schedule.epochs * 1_281_167 / TRAINING_IMAGES[dataset]
    assert epochs == pytest.approx(min(as_many, 360), rel=0.05)


@pytest.mark.parametrize(("dataset", "size"), RECIPES)
def test_it_expects_the_number_of_its_cell(dataset: str, size: str) -> None:
    recipe = classification(f"{dataset}_vit_{size}")
    published = reference_value("transfer", dataset, "top1", "MAE", "IN1K", COLUMNS[size])
    assert recipe.expect == {"top1": published}
    assert (recipe.expect_of.method, recipe.expect_of.pretrain_data) == ("MAE", "IN1K")
    assert f"{published} top-1 from MAE" in list_recipes()[f"{dataset}_vit_{size}"]
    task = TASKS["classification"]
    assert task.table_of(dataset) == "transfer"
    assert task.column_of(COLUMNS[size].removesuffix("-448"), recipe.model.image_size) == COLUMNS[size]


@pytest.mark.parametrize(("dataset", "size"), RECIPES)
def test_it_says_what_was_chosen_and_what_is_published_nearest(dataset: str, size: str) -> None:
    text = (FOLDER / f"{dataset}_vit_{size}.yaml").read_text()
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    epochs = classification(f"{dataset}_vit_{size}").schedule.epochs
    assert f"Chosen: {epochs} epochs" in comment
    assert f"--recipe {dataset}_vit_{size} " in comment
    assert "facebookresearch/mae issues 44, 107" in comment
    assert "facebookresearch/deit issue" in comment and "facebookresearch/dino issue 171" in comment
    assert ("rate 7.5e-5" in comment) == ("batch 128 a GPU" in comment) == dataset.startswith("inat")
    source = "imagenet_vit_huge_448" if size == "huge_448" else "table 9 and facebookresearch/mae FINETUNE.md"
    assert f"{source}{'' if size == 'huge_448' else ' for the settings'} but epochs, which are chosen" in text
