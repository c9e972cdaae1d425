"""The packaged recipes against the protocol's tables."""

import json
import re
from typing import Any

import pytest

from backbones.pretraining.settings import PretrainingRecipe
from backbones.training.settings import deciding_settings
from benchmarks.planning.recipe import FOLDER, list_recipes, load_recipe
from tasks.registry import RECIPES
from tests.support.recipes import classification, refusal


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_packaged_recipes_are_valid_and_say_where_they_come_from(name: str) -> None:
    loaded = load_recipe(name, [], RECIPES)
    text = (FOLDER / f"{name}.yaml").read_text()
    assert loaded.recipe.source
    assert bool(loaded.deviations(loaded.recipe)) == ("\nextends: " in text)
    head = text[: re.search(r"^\w", text, re.MULTILINE).start()]
    assert all(line.startswith("#") for line in head.splitlines())
    assert "backbench" in head or "-m benchmarks" in head
    assert list_recipes()[name]


# MAE, table 9: epochs, base lr, layer decay, drop path, image size, top-1 (table 3; 448 pixels included)
FINE_TUNING = {
    "imagenet_vit_base": (100, 5e-4, 0.65, 0.1, 224, 83.6, "vit_base_patch16_224"),
    "imagenet_vit_large": (50, 1e-3, 0.75, 0.2, 224, 85.9, "vit_large_patch16_224"),
    "imagenet_vit_huge": (50, 1e-3, 0.75, 0.3, 224, 86.9, "vit_huge_patch14_224"),
    "imagenet_vit_huge_448": (50, 1e-3, 0.75, 0.3, 448, 87.8, "vit_huge_patch14_224"),
}


# Box and mask AP with their sources: MAE, table 4, and its authors' issue 43 for `fpn`; ViTDet's README for `simple`.
DETECTION = {
    "coco_fpn_vit_base": (184_375, 0.1, 50.3, 44.9),
    "coco_fpn_vit_base_50ep": (92_187, 0.1, 50.1, 44.6),
    "coco_fpn_vit_base_25ep": (46_093, 0.1, 48.1, 43.2),
    "coco_fpn_vit_large": (184_375, 0.2, 53.3, 47.2),
    "coco_simple_vit_base": (184_375, 0.1, 51.6, 45.9),
    "coco_simple_vit_large": (184_375, 0.4, 55.5, 49.2),
    "coco_simple_vit_huge": (138_281, 0.5, 56.7, 50.2),
}


@pytest.mark.parametrize("name", DETECTION)
def test_detection_has_the_protocols_numbers(name: str) -> None:
    iterations, drop_path, box, mask = DETECTION[name]
    recipe: Any = load_recipe(name, [], {"detection"}).recipe
    assert recipe.expect == {"AP_box": box, "AP_mask": mask}
    assert (recipe.schedule.iterations, recipe.model.drop_path) == (iterations, drop_path)
    assert (recipe.optimizer.batch_size, recipe.optimizer.weight_decay, recipe.model.image_size) == (64, 0.1, 1024)
    assert (recipe.augment.scale, recipe.augment.flip, recipe.schedule.warmup_factor) == ((0.1, 2.0), 0.5, 0.001)
    assert (recipe.model.channels, recipe.model.regions, recipe.model.proposals) == (256, 512, 1000)
    if "simple" in name:
        decay = {"base": 0.7, "large": 0.8, "huge": 0.9}[name.split("_")[3]]
        assert (recipe.optimizer.lr, recipe.optimizer.layer_decay, recipe.model.window) == (1e-4, decay, 14)
        shares = [milestone / iterations for milestone in recipe.schedule.milestones]
        assert shares == pytest.approx([163_889 / 184_375, 177_546 / 184_375], abs=1e-5)
        # The share that mask_rcnn_vitdet_b_100ep.py, line 33, gives and mask_rcnn_vitdet_h_75ep.py keeps.
        assert recipe.schedule.warmup_iterations / iterations == pytest.approx(250 / 184_375, rel=1e-5)
        assert recipe.schedule.warmup_iterations == (187.5 if "huge" in name else 250)
        assert recipe.optimizer.no_weight_decay == ("nothing" if "huge" in name else "detectron2")
        assert recipe.model.position_embeddings == "loaded"
    else:
        assert (recipe.optimizer.lr, recipe.optimizer.layer_decay, recipe.model.window) == (8e-5, None, 16)
        assert (recipe.schedule.shape, recipe.schedule.warmup_iterations) == ("cosine", 0.25 / 100 * 184_375)
        assert recipe.optimizer.no_weight_decay == "norms_and_positions"
        assert recipe.model.position_embeddings == "sincos"


def test_a_warm_up_of_whole_iterations_is_an_integer_however_it_is_written() -> None:
    """So that the keys of runs do not depend on it."""
    recipes = [
        load_recipe("coco_simple_vit_base", [f"schedule.warmup_iterations={text}"], {"detection"}).recipe
        for text in ("250", "250.0", "2.5e+2")
    ]
    assert [json.dumps(deciding_settings(recipe)["schedule"]["warmup_iterations"]) for recipe in recipes] == ["250"] * 3


@pytest.mark.parametrize("name", ["coco_simple_vit_huge_25ep", "coco_simple_vit_huge_50ep"])
def test_a_shortened_recipe_warms_up_for_as_long(name: str) -> None:
    """As MIMDet's do, whose shorter configurations multiply the share by what they divide the length by."""
    assert load_recipe(name, [], {"detection"}).recipe.model_dump()["schedule"]["warmup_iterations"] == 187.5


def test_a_shortened_recipe_expects_only_its_own_numbers() -> None:
    recipe = load_recipe("coco_fpn_vit_large_25ep", [], {"detection"})
    assert recipe.recipe.expect == {}
    assert recipe.deviations(recipe.recipe) == ["schedule.iterations=46093 (reference 184375)"]


def test_the_simple_pyramid_is_measured_against_the_papers_protocol() -> None:
    recipe = load_recipe("coco_simple_vit_base_25ep", [], {"detection"})
    assert "model.adapter=simple (reference fpn)" in recipe.deviations(recipe.recipe)
    assert "schedule.iterations=46093 (reference 184375)" in recipe.deviations(recipe.recipe)


# ViT-B: MAE, appendix A.4, and mae_segmentation. ViT-L and ViT-H: layer decay and drop path of FINE_TUNING, which no
# source gives for ADE20K. The layer decay, drop path, taps, width, and the mIoU of MAE's table 5.
SEGMENTATION = {
    "ade20k_vit_base": ("vit_base_patch16_224", 0.65, 0.1, [3, 5, 7, 11], 768, {"mIoU": 48.1}),
    "ade20k_vit_large": ("vit_large_patch16_224", 0.75, 0.2, [7, 11, 15, 23], 1024, {"mIoU": 53.6}),
    "ade20k_vit_huge": ("vit_huge_patch14_224", 0.75, 0.3, [10, 15, 20, 31], 1280, {}),
}


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation_has_the_protocols_numbers(name: str) -> None:
    arch, layer_decay, drop_path, taps, width, expected = SEGMENTATION[name]
    recipe = load_recipe(name, [], {"segmentation"}).recipe
    assert deciding_settings(recipe) == {
        "task": "segmentation",
        "dataset": "ade20k",
        "model": {
            "arch": arch,
            "adapter": "beit",
            "image_size": 512,
            "drop_path": drop_path,
            "taps": taps,
            "relative_position": True,
            "layer_scale": 1.0,
            "channels": width,
            "auxiliary_channels": 256,
        },
        "optimizer": {
            "name": "adamw",
            "lr": 1e-4,
            "batch_size": 16,
            "betas": [0.9, 0.999],
            "weight_decay": 0.05,
            "clip_grad_norm": None,
            "layer_decay": layer_decay,
            "no_weight_decay": "one_dimensional",
        },
        "schedule": {
            "iterations": 160_000,
            "warmup_iterations": 1500,
            "warmup_factor": 1e-6,
            "shape": "poly",
            "milestones": [],
        },
        "augment": {
            "resize": [2048, 512],
            "ratio": [0.5, 2.0],
            "cat_max_ratio": 0.75,
            "flip": 0.5,
            "photometric_distortion": True,
        },
        "inference": {"mode": "slide", "stride": 341, "resize": [2048, 512], "scales": [1.0], "flip": False},
        "precision": "auto",
    }
    assert recipe.expect == expected
    assert arch == load_recipe(name.replace("ade20k", "imagenet"), [], {"classification"}).recipe.model.arch


@pytest.mark.parametrize(
    "override, expected",
    [
        ("model.image_size=224", "inference.stride 341 is larger than the windows of model.image_size 224"),
        ("inference.mode=whole", 'key "inference": mode "slide" needs a stride, and mode "whole" has none'),
        ("inference.stride=null", 'key "inference": mode "slide" needs a stride'),
        ("inference.resize=[512,2048]", 'key "inference.resize": the longest side comes first, then the shorter'),
        ("augment.ratio=[2.0,0.5]", 'key "augment.ratio": the smaller number comes first'),
        ("inference.scales=[]", 'key "inference.scales": expected numbers in brackets'),
        ("schedule.warmup_iterations=160000", 'key "schedule": the warm-up (160000) must be shorter'),
    ],
)
def test_settings_that_do_not_fit_together_are_explained(override: str, expected: str) -> None:
    message = refusal("ade20k_vit_base", override, tasks={"segmentation"})
    assert message.startswith("recipe ade20k_vit_base")
    assert expected in message
    assert len(message) < 250


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_has_the_numbers_of_table_9(name: str) -> None:
    epochs, base_lr, layer_decay, drop_path, size, top1, arch = FINE_TUNING[name]
    recipe = classification(name)
    assert deciding_settings(recipe) == {
        "task": "classification",
        "dataset": "imagenet1k",
        "model": {"arch": arch, "image_size": size, "drop_path": drop_path, "pool": "avg"},
        "optimizer": {
            "name": "adamw",
            "base_lr": base_lr,
            "batch_size": 1024,
            "betas": [0.9, 0.999],
            "weight_decay": 0.05,
            "clip_grad_norm": None,
            "layer_decay": layer_decay,
        },
        "schedule": {"epochs": epochs, "warmup_epochs": 5.0, "min_lr": 1e-6},
        "augment": {
            "crop_scale": [0.08, 1.0],
            "flip": 0.5,
            "rand_augment": "rand-m9-mstd0.5-inc1",
            "mixup": 0.8,
            "cutmix": 1.0,
            "label_smoothing": 0.1,
            "random_erasing": 0.25,
        },
        "precision": "auto",
    }
    assert recipe.expect == {"top1": top1}
    assert recipe.optimizer.peak_lr == pytest.approx(4 * base_lr)
    assert str(top1) in list_recipes()[name]


def test_the_margin_of_448_pixels_says_whose_it_follows() -> None:
    text = (FOLDER / "imagenet_vit_huge_448.yaml").read_text()
    assert "inference: {crop_ratio: null}" in text
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert "Evaluation follows MAE's own code, which takes no margin above 224 pixels. mmpretrain" in comment
    loaded = load_recipe("imagenet_vit_huge_448", ["inference.crop_ratio=0.875"], {"classification"})
    assert loaded.deviations(loaded.recipe) == ["inference.crop_ratio=0.875 (reference None)"]


@pytest.mark.parametrize(
    "name, arch",
    [
        ("mae_vit_base", "mae_vit_base_patch16"),
        ("mae_vit_large", "mae_vit_large_patch16"),
        ("mae_vit_huge", "mae_vit_huge_patch14"),
    ],
)
def test_pretraining_has_the_numbers_of_table_8(name: str, arch: str) -> None:
    recipe = load_recipe(name, [], {"pretraining"}).recipe
    assert isinstance(recipe, PretrainingRecipe)
    assert deciding_settings(recipe) == {
        "task": "pretraining",
        "dataset": "imagenet1k",
        "model": {"arch": arch, "image_size": 224, "mask_ratio": 0.75, "norm_pix_loss": True},
        "optimizer": {
            "name": "adamw",
            "base_lr": 1.5e-4,
            "batch_size": 4096,
            "betas": [0.9, 0.95],
            "weight_decay": 0.05,
            "clip_grad_norm": None,
        },
        "schedule": {"epochs": 1600, "warmup_epochs": 40.0, "min_lr": 0.0},
        "augment": {"crop_scale": [0.2, 1.0], "crop_tries": 10, "flip": 0.5},
        "precision": "auto",
    }
    assert recipe.optimizer.peak_lr == pytest.approx(2.4e-3)
