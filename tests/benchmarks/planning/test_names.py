"""The names that a run is recorded under: how they are spelled, and whether its model is the recipe's."""

from pathlib import Path

import pytest

from backbones.weights.origin import Declared
from benchmarks.planning.cells import find_planned_backbone, plan_task
from benchmarks.planning.names import settle_names, spell_declared


@pytest.mark.parametrize(
    ("said", "spelled"),
    [
        (Declared("mae", "in1k", "vit_b"), Declared("MAE", "IN1K", "ViT-B")),
        (Declared("MoCoV3", "imagenet1k", "vit-h-448"), Declared("MoCo v3", "IN1K", "ViT-H-448")),
        (Declared("Supervised", "IN1K W/ labels", "VIT-L"), Declared("supervised", "IN1K w/ labels", "ViT-L")),
        (Declared("deit"), Declared("DeiT")),
        (Declared("dino", "ImageNet-1K"), Declared("DINO", "IN1K")),
        (Declared("beit_v2"), Declared("BEiT v2")),
        (Declared("MAE+", " my photos ", "vit_mini"), Declared("MAE+", "my photos", "ViT-mini")),
        (Declared("prev best", None, "resnet50"), Declared("prev best", None, "resnet50")),
    ],
)
def test_names_of_the_tables_are_spelled_as_there(said: Declared, spelled: Declared) -> None:
    assert spell_declared(said, ["ViT-mini"]) == spelled


@pytest.mark.parametrize(
    ("said", "column"),
    [
        *((name, "ViT-B") for name in ("ViT-B/16", "ViT-B-16", "ViTB16", "vit_base", "ViT-Base", "ViT Base/16")),
        *((name, "ViT-L") for name in ("ViT-L/16", "vit-large", "vit_large_patch16_224", "VIT_L_P16")),
        *((name, "ViT-H") for name in ("ViT-H/14", "ViT-Huge", "vit_huge_patch14")),
        *((name, "ViT-H-448") for name in ("ViT-H/14-448", "ViT-H/14@448", "vit_huge_patch14_448")),
        ("ViT-S/16", "ViT-S"),
        # others than the column's
        *(
            (name, name)
            for name in ("ViT-B/32", "ViT-H/16", "ViT-L/14", "ViT-B-448", "ViT-Ti/16", "ViT-Bx", "BEiT-B/16")
        ),
    ],
)
def test_the_sizes_of_vits_are_known_by_their_usual_names(said: str, column: str) -> None:
    assert spell_declared(Declared(model=said), ["ViT-S"]).model == column


@pytest.mark.parametrize(
    ("recipe", "model", "column", "deviations"),
    [
        ("imagenet_vit_base", "vit_b", "ViT-B", ()),
        ("imagenet_vit_base", None, "timm:create_model", ("model=timm:create_model (reference ViT-B)",)),
        ("imagenet_vit_base", "ViT-L", "ViT-L", ("model=ViT-L (reference ViT-B)",)),
        ("imagenet_vit_huge_448", "ViT-H", "ViT-H-448", ()),
        ("imagenet_vit_huge_448", "vit_h_448", "ViT-H-448", ()),
        ("coco_fpn_vit_base", "vit_b", "ViT-B", ()),
        ("ade20k_vit_large", "ViT-L", "ViT-L", ()),
    ],
)
def test_a_declared_model_agrees_with_the_recipes(
    recipe: str, model: str | None, column: str, deviations: tuple[str, ...]
) -> None:
    """`timm:create_model` stands for any function: nothing is built."""
    declared = Declared(model=model)
    plan = plan_task(recipe, Path("data"), "timm:create_model", seed=0, overrides=[], declared=declared)
    entry, plan = find_planned_backbone(plan)
    assert plan.deviations == deviations
    assert settle_names(plan, entry, None).model == column


def test_a_known_name_is_overruled_in_words() -> None:
    declared = Declared("scratch", "none", "ViT-B")
    plan = plan_task("imagenet_vit_base", Path("data"), "random_vit_base", seed=0, overrides=[], declared=declared)
    entry, plan = find_planned_backbone(plan)
    origin = settle_names(plan, entry, None)
    assert (origin.method, origin.pretrain_data, origin.model) == ("scratch", "none", "ViT-B")
    assert origin.remarks == ("the backbone's name, random_vit_base, stands for method random; scratch as declared",)
