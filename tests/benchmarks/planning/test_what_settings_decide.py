"""Every setting of every packaged recipe that can move a number moves the key, the protocol and the deviations."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from backbones.training.settings import READING, UNDECIDING, deciding_settings, protocol
from benchmarks.planning.recipe import list_recipes, load_recipe
from results import cell_key
from tasks.registry import RECIPES, settings_kind

# By setting, the overrides that change it to something else that is valid in every recipe; more than one where it
# cannot change alone.
CHANGES: dict[str, tuple[str, ...]] = {
    "dataset": ("dataset=mine",),
    "model.mean": ("model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]"),
    "model.std": ("model.mean=[0.5,0.5,0.5]", "model.std=[0.5,0.5,0.5]"),
    "precision": ("precision=bf16",),
    "model.arch": ("model.arch=resnet18",),
    "model.image_size": ("model.image_size=672",),
    "model.mask_ratio": ("model.mask_ratio=0.6",),
    "model.norm_pix_loss": (),
    "model.mask_sampling": ("model.mask_sampling=block",),
    "model.mask_tokens_in_encoder": ("model.mask_tokens_in_encoder=true",),
    "model.decoder_depth": ("model.decoder_depth=3",),
    "model.decoder_width": ("model.decoder_width=96",),
    "model.decoder_heads": ("model.decoder_heads=2",),
    "model.drop_path": ("model.drop_path=0.27",),
    "model.pool": (),
    "model.trained_blocks": ("model.trained_blocks=3",),
    "model.relative_position": (),
    "model.taps": ("model.taps=[0,1,2,3]",),
    "model.layer_scale": ("model.layer_scale=0.5",),
    "model.patch_resampling": ("model.patch_resampling=bicubic",),
    "model.channels": ("model.channels=24",),
    "model.auxiliary_channels": ("model.auxiliary_channels=24",),
    "model.adapter": (),
    "model.position_embeddings": (),
    "model.window": ("model.window=8",),
    "model.anchor_sizes": ("model.anchor_sizes=[8,16,32,64,128]",),
    "model.box_features": ("model.box_features=512",),
    "model.regions": ("model.regions=64",),
    "model.proposals": ("model.proposals=100",),
    "optimizer.batch_size": ("optimizer.batch_size=12",),
    "optimizer.base_lr": ("optimizer.base_lr=0.002",),
    "optimizer.lr": ("optimizer.lr=0.0005",),
    "optimizer.betas": ("optimizer.betas=[0.8,0.9]",),
    "optimizer.weight_decay": ("optimizer.weight_decay=0.3",),
    "optimizer.clip_grad_norm": ("optimizer.clip_grad_norm=3",),
    "optimizer.layer_decay": ("optimizer.layer_decay=0.6",),
    "optimizer.no_weight_decay": (),
    "optimizer.momentum": ("optimizer.momentum=0.8",),
    "optimizer.trust_coefficient": ("optimizer.trust_coefficient=0.01",),
    "schedule.epochs": ("schedule.epochs=63",),
    "schedule.warmup_epochs": ("schedule.warmup_epochs=0.5",),
    "schedule.min_lr": ("schedule.min_lr=1e-5",),
    "schedule.iterations": ("schedule.iterations=200000",),
    "schedule.warmup_iterations": ("schedule.warmup_iterations=7",),
    "schedule.warmup_factor": ("schedule.warmup_factor=0.1",),
    "schedule.shape": (),
    "schedule.milestones": ("schedule.shape=step", "schedule.milestones=[100]"),
    "augment.crop": ("augment.crop=none",),
    "augment.colour_jitter": ("augment.colour_jitter=[0.4,0.4,0.4,0.1]",),
    "augment.crop_scale": ("augment.crop_scale=[0.1,0.9]",),
    "augment.crop_tries": ("augment.crop_tries=3",),
    "augment.flip": ("augment.flip=0.1",),
    "augment.rand_augment": ("augment.rand_augment=rand-m3",),
    "augment.mixup": ("augment.mixup=0.3",),
    "augment.cutmix": ("augment.cutmix=0.3",),
    "augment.label_smoothing": ("augment.label_smoothing=0.2",),
    "augment.random_erasing": ("augment.random_erasing=0.4",),
    "augment.scale": ("augment.scale=[0.3,1.5]",),
    "augment.resize": ("augment.resize=[1000,500]",),
    "augment.ratio": ("augment.ratio=[0.7,1.5]",),
    "augment.cat_max_ratio": ("augment.cat_max_ratio=0.9",),
    "augment.photometric_distortion": (),
    "inference.crop_ratio": ("inference.crop_ratio=0.9",),
    "inference.resized": ("inference.resized=472", "inference.crop_ratio=null"),
    "inference.shape": ("inference.shape=square",),
    "inference.interpolation": ("inference.interpolation=bilinear",),
    "data.decoder": ("data.decoder=pillow",),
    "inference.mode": ("inference.mode=whole", "inference.stride=null"),
    "inference.stride": ("inference.stride=48",),
    "inference.resize": ("inference.resize=[1000,500]",),
    "inference.scales": ("inference.scales=[0.75]",),
    "inference.flip": ("inference.flip=true",),
    "inference.padding": ("inference.padding=grey",),
    "inference.score_threshold": ("inference.score_threshold=0.1",),
    "inference.nms_threshold": ("inference.nms_threshold=0.6",),
    "inference.detections": ("inference.detections=50",),
    "features.pool": ("features.pool=avg",),
    "features.layers": ("features.layers=4",),
    "knn.neighbours": ("knn.neighbours=[10]",),
    "knn.temperature": ("knn.temperature=0.1",),
    "grid.rates": ("grid.rates=[0.1]",),
    "grid.pools": ("grid.pools=[avg]",),
    "grid.layers": ("grid.layers=[2]",),
    "grid.iterations": ("grid.iterations=77",),
    "grid.batch_size": ("grid.batch_size=12",),
    "grid.views": ("grid.views=3",),
    "held_out.share": ("held_out.share=0.2",),
    "regression.least_exponent": ("regression.least_exponent=-3",),
    "regression.most_exponent": ("regression.most_exponent=3",),
    "regression.steps": ("regression.steps=9",),
    "few_labels.per_class": ("few_labels.per_class=[2]",),
    "few_labels.draws": ("few_labels.draws=3",),
    "few_labels.strength": ("few_labels.strength=2",),
}
# By setting, what it changes to where that depends on what it is.
OTHERWISE: dict[str, dict[Any, tuple[str, ...]]] = {
    "model.norm_pix_loss": {
        True: ("model.norm_pix_loss=false",),
        False: ("model.norm_pix_loss=true",),
    },
    "model.relative_position": {
        True: ("model.relative_position=false",),
        False: ("model.relative_position=true",),
    },
    "model.pool": {
        "avg": ("model.pool=token",),
        "token": ("model.pool=avg",),
    },
    "model.adapter": {
        "fpn": ("model.adapter=simple",),
        **dict.fromkeys(("simple", "beit"), ("model.adapter=fpn",)),
    },
    "model.position_embeddings": {
        "loaded": ("model.position_embeddings=sincos",),
        "sincos": ("model.position_embeddings=loaded",),
    },
    "optimizer.no_weight_decay": {
        "nothing": ("optimizer.no_weight_decay=one_dimensional",),
        **dict.fromkeys(
            ("one_dimensional", "detectron2", "norms_and_positions"), ("optimizer.no_weight_decay=nothing",)
        ),
    },
    "schedule.shape": {
        "step": ("schedule.shape=cosine", "schedule.milestones=[]"),
        "cosine": ("schedule.shape=poly",),
        "poly": ("schedule.shape=cosine",),
    },
    "augment.photometric_distortion": {
        True: ("augment.photometric_distortion=false",),
        False: ("augment.photometric_distortion=true",),
    },
}
# They have one value only.
FIXED = {"task", "optimizer.name"}


def leaves(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def deciding(name: str) -> dict[str, Any]:
    settings = load_recipe(name, [], RECIPES).recipe.model_dump(mode="json")
    reading = {name: value for name, value in settings.get("data", {}).items() if name in READING}
    return leaves(
        {section: value for section, value in settings.items() if section not in UNDECIDING} | {"data": reading}
    )


@cache
def told(name: str, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a run of the recipe says of itself."""
    loaded = load_recipe(name, list(overrides), RECIPES)
    return {
        "key": cell_key({"recipe": deciding_settings(loaded.recipe)}),
        "protocol": protocol(deciding_settings(loaded.recipe)),
        "deviations": loaded.deviations(loaded.recipe),
    }


def what_moves(name: str, overrides: tuple[str, ...]) -> dict[str, bool]:
    """Whether key, protocol and deviations change with the overrides."""
    plain, changed = told(name), told(name, overrides)
    return {what: plain[what] != changed[what] for what in plain}


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_a_setting_that_decides_moves_key_protocol_and_deviations(name: str) -> None:
    for setting, value in deciding(name).items():
        if setting in FIXED:
            continue
        overrides = OTHERWISE[setting][value] if setting in OTHERWISE else CHANGES[setting]
        moved = what_moves(name, overrides)
        if setting in settings_kind(load_recipe(name, [], RECIPES).recipe.task).varied:
            assert not moved.pop("deviations")
        assert all(moved.values()), f"{setting}: {overrides} moves {moved}"


RUNTIME = (
    *("batch_per_device=4", "workers=1", "compile=true", "log_every=7", "checkpoint_every=7", "keep_checkpoints=3"),
    "shared_directory_seconds=5",
    "device=cpu",
)


@pytest.mark.parametrize("name", sorted(list_recipes()))
def test_what_decides_no_number_moves_nothing(name: str) -> None:
    overrides = [f"runtime.{each}" for each in RUNTIME]
    settings = load_recipe(name, [], RECIPES).recipe.model_dump(mode="json")
    for section in ("evaluation", "data"):
        assert section in UNDECIDING
        for key, value in settings.get(section, {}).items():
            if (section, key) in {("data", name) for name in READING}:
                continue
            if key.startswith("every_"):
                overrides.append(f"{section}.{key}=5")
            elif isinstance(value, str):
                overrides.append(f"{section}.{key}=elsewhere")
    for override in (*overrides, "source=elsewhere"):
        assert not any(what_moves(name, (override,)).values()), override
