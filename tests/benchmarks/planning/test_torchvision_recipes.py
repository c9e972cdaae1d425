"""The recipes for the sets that torchvision reads: one set of settings, and what they say of what was chosen."""

import pytest

from backbones.training.settings import deciding_settings
from benchmarks.planning.recipe import FOLDER, list_recipes
from tasks.datasets.torchvision_layouts import sets
from tasks.datasets.torchvision_layouts.counts import COUNTS
from tests.support.recipes import classification


@pytest.mark.parametrize("name", COUNTS)
def test_it_is_imagenets_recipe_but_for_what_it_says(name: str) -> None:
    ours, imagenet = (deciding_settings(classification(f"{each}_vit_base")) for each in (name, "imagenet"))
    epochs = 100 if COUNTS[name].train_images >= 50_000 else 300
    assert ours == imagenet | {
        "dataset": name,
        "optimizer": imagenet["optimizer"] | {"batch_size": 256},
        "schedule": imagenet["schedule"] | {"epochs": epochs},
        "augment": imagenet["augment"] | {"random_erasing": 0.0},
    }
    text = (FOLDER / f"{name}_vit_base.yaml").read_text()
    folder = getattr(sets, name.upper()).folder
    for part in (f"--recipe {name}_vit_base ", f"{epochs} epochs and no erasing", f"ROOT holds {folder}/", "chosen"):
        assert part in text
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert "facebookresearch/deit issue 45" in comment
    assert f"facebookresearch/dino issue {81 if name == 'cifar10' else 144}" in comment
    assert "source: MAE (arXiv 2111.06377) table 9 and facebookresearch/mae FINETUNE.md but" in text
    assert "no number of MAE's is published" in list_recipes()[f"{name}_vit_base"]
