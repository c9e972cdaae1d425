"""Loading recipes in tests, and what the user is told where that fails."""

from pathlib import Path

import pytest

from backbones.errors import InputError
from benchmarks.planning.recipe import load_recipe
from tasks.classification.recipe import ClassificationRecipe

BOTH = {"pretraining", "classification"}
VIT_B = "imagenet_vit_base"


def classification(name: str = VIT_B, *overrides: str) -> ClassificationRecipe:
    recipe = load_recipe(name, list(overrides), {"classification"}).recipe
    assert isinstance(recipe, ClassificationRecipe)
    return recipe


def refusal(name: str, *overrides: str, tasks: set[str] = BOTH) -> str:
    """What the user is told."""
    with pytest.raises(InputError) as caught:
        load_recipe(name, list(overrides), tasks)
    return str(caught.value)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)
