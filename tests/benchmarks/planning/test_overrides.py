"""Recipes of one's own and overrides: what reaches the settings, and mistakes that have to be explained."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from backbones.training.settings import Recipe
from benchmarks.planning.recipe import FOLDER, LoadedRecipe, list_recipes, load_recipe
from tasks.classification.recipe import ClassificationRecipe
from tests.support.recipes import VIT_B, classification, refusal, write


def test_overrides_reach_the_recipe_and_are_named_as_deviations() -> None:
    loaded = load_recipe(
        VIT_B,
        ["schedule.epochs=25", "augment.rand_augment=null", "optimizer.base_lr=1e-3", "optimizer.betas=[0.9, 0.95]"],
        {"classification"},
    )
    recipe = loaded.recipe
    assert isinstance(recipe, ClassificationRecipe)
    assert (recipe.schedule.epochs, recipe.augment.rand_augment, recipe.optimizer.base_lr) == (25, None, 1e-3)
    assert loaded.deviations(recipe) == [
        "augment.rand_augment=None (reference rand-m9-mstd0.5-inc1)",
        "optimizer.base_lr=0.001 (reference 0.0005)",
        "optimizer.betas=[0.9, 0.95] (reference [0.9, 0.999])",
        "schedule.epochs=25 (reference 100)",
    ]


@pytest.mark.parametrize("override", ["schedule.min_lr=-0.0", "augment.mixup=-0.0", "optimizer.betas=[-0.0,0.9]"])
def test_zero_has_no_sign(override: str) -> None:
    """Two keys for one run."""
    plain, signed = (classification(VIT_B, text).model_dump_json() for text in (override.replace("-", ""), override))
    assert signed == plain


@pytest.mark.parametrize(
    "override", ["runtime.workers=0", "evaluation.allow_unreadable=true", "runtime.batch_per_device=32"]
)
def test_what_does_not_decide_numbers_is_no_deviation(override: str) -> None:
    loaded = load_recipe(VIT_B, [override], {"classification"})
    assert loaded.recipe != loaded.reference
    assert loaded.deviations(loaded.recipe) == []


@pytest.mark.parametrize(
    "override, expected",
    [
        ("expect.topp=80", 'key "expect": metric "topp": no such metric. Did you mean'),
        ("optimizer.layer_deacy=0.7", 'key "optimizer.layer_deacy": no such setting. Did you mean "layer_decay"?'),
        ("optimiser.base_lr=1", 'key "optimiser": no such setting. Did you mean "optimizer"?'),
        ("schedule.xyz=1", 'key "schedule.xyz": no such setting. There are: epochs, warmup_epochs, min_lr'),
        ("schedule.epochs=many", "key \"schedule.epochs\": Input should be a valid integer; found 'many' (str)"),
        ("schedule.epochs=2.5", 'key "schedule.epochs"'),
        ("schedule.epochs=0", 'key "schedule.epochs": Input should be greater than 0; found 0 (int)'),
        ("schedule.epochs=null", 'key "schedule.epochs"'),
        (
            "schedule.epochs=2",
            'key "schedule": the warm-up (5) must be shorter than the training (2), both in epochs. ',
        ),
        ("schedule.epochs=5", "for example to schedule.warmup_epochs=0.25"),
        ("schedule.warmup_epochs=100.5", "the warm-up (100.5) must be shorter than the training (100)"),
        ("model.drop_path=1.5", 'key "model.drop_path": Input should be less than or equal to 1; found 1.5 (float)'),
        ("optimizer.base_lr=-1.0", 'key "optimizer.base_lr": Input should be greater than 0'),
        ("optimizer.base_lr=.nan", 'key "optimizer.base_lr"'),
        ("optimizer.base_lr=.inf", 'key "optimizer.base_lr"'),
        (
            "optimizer.betas=[0.9]",
            "expected two numbers, for example 'optimizer.betas=[0.9,0.999]'; found [0.9] (list)",
        ),
        ("optimizer.betas=[0.9, 1.0]", 'key "optimizer.betas'),
        ("augment.crop_scale=[1.0, 0.2]", 'key "augment.crop_scale": the smaller number comes first; found'),
        ("augment.crop_scale=[0.0, 1.0]", 'key "augment.crop_scale'),
        ("model.pool=mean", 'key "model.pool"'),
        ("inference.crop_ratio=1.1", 'key "inference.crop_ratio": Input should be less than or equal to 1'),
        ("inference.crop_ratio=0.1", 'key "inference.crop_ratio": Input should be greater than or equal to 0.25'),
        ("inference.resized=0", 'key "inference.resized": Input should be greater than 0'),
        ("inference={crop_ratio: 0.9, resized: 256}", "crop_ratio (0.9) and resized (256) both say how large"),
        ("inference.shape=squashed", 'key "inference.shape"'),
        ("inference.interpolation=nearest", 'key "inference.interpolation"'),
        ("data.decoder=opencv", 'key "data.decoder"'),
        ("evaluation.crop_ratio=0.9", 'key "evaluation.crop_ratio": no such setting'),
        ("runtime.compile=maybe", "key \"runtime.compile\": expected true or false; found 'maybe' (str)"),
        ("runtime.profile=1", 'key "runtime.profile": expected true or false; found 1 (int)'),
        ("runtime.profile='true'", "key \"runtime.profile\": expected true or false; found 'true' (str)"),
        ("optimizer=5", 'key "optimizer"'),
        ("optimizer.name=sgd", 'key "optimizer.name"'),
    ],
)
def test_wrong_settings_are_explained(override: str, expected: str) -> None:
    message = refusal(VIT_B, override, tasks={"classification"})
    assert message.startswith(f"recipe {VIT_B}")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("value", "found"),
    [("0.5", "0.5 (float)"), ("half", "'half' (str)"), ("[0.5]", "[0.5] (list)"), ("[1,1,1,1]", "[1, 1, 1, 1] (list)")],
)
@pytest.mark.parametrize(("name", "other"), [("mean", "std"), ("std", "mean")])
def test_a_setting_of_several_numbers_shows_how_it_is_written(name: str, other: str, value: str, found: str) -> None:
    key = f"model.{name}"
    assert refusal(VIT_B, f"{key}={value}") == (
        f"recipe {VIT_B}, key \"{key}\": expected three numbers, for example '{key}=[0.5,0.5,0.5]', "
        f"together with model.{other}; found {found}"
    )


@pytest.mark.parametrize(
    ("recipe", "override", "expected"),
    [
        ("coco_fpn_vit_base", "schedule.milestones=3", "numbers in brackets, for example 'schedule.milestones=[1,2]'"),
        ("ade20k_vit_base", "inference.scales=1.0", "numbers in brackets, for example 'inference.scales=[1.0]'"),
        ("ade20k_vit_base", "model.taps=3", "four numbers, for example 'model.taps=[1,2,3,4]'"),
    ],
)
def test_so_do_the_dense_tasks(recipe: str, override: str, expected: str) -> None:
    message = refusal(recipe, override, tasks={"detection", "segmentation"})
    assert f"expected {expected}; found " in message


@pytest.mark.parametrize(
    ("recipe", "override", "expected"),
    [
        ("mini_knn", "knn.neighbours=[5]", 'key "knn.neighbours.0": Input should be 10, 20, 100 or 200; found 5 (int)'),
        (
            "mini_knn",
            "knn.neighbours=[]",
            "key \"knn.neighbours\": expected numbers in brackets, for example 'knn.neighbours=[10,20,100,200]'; "
            "found [] (list)",
        ),
        ("mini_linear_grid", "grid.rates=[0]", 'key "grid.rates.0": Input should be greater than 0; found 0 (int)'),
        (
            "ade20k_vit_base",
            "inference.scales=[0]",
            'key "inference.scales.0": Input should be greater than 0; found 0 (int)',
        ),
    ],
)
def test_a_wrong_entry_of_a_list_is_told_once(recipe: str, override: str, expected: str) -> None:
    message = refusal(recipe, override, tasks={"knn", "linear_grid", "segmentation"})
    assert message == f"recipe {recipe}, {expected}"


@pytest.mark.parametrize("override", ["schedule.epochs", "=5", " =5", ""])
def test_an_override_needs_a_key_and_an_equals_sign(override: str) -> None:
    assert f'--set {override}: expected KEY=VALUE, for example "schedule.epochs=25"' in refusal(VIT_B, override)


@pytest.mark.parametrize("override", ["schedule.epochs=[1", "a[=3", "schedule.epochs=${nothing}", "schedule..epochs=3"])
def test_an_override_that_cannot_be_parsed_is_refused(override: str) -> None:
    message = refusal(VIT_B, override)
    assert "\n" not in message and message


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    settings: dict[str, Any] = yaml.safe_load((FOLDER / f"{VIT_B}.yaml").read_text())
    del settings["optimizer"]["base_lr"]
    message = refusal(write(tmp_path / "mine.yaml", yaml.safe_dump(settings)))
    assert 'key "optimizer.base_lr": required, but missing' in message


def test_a_file_extends_a_packaged_recipe(tmp_path: Path) -> None:
    name = write(tmp_path / "short.yaml", f"extends: {VIT_B}\nschedule: {{epochs: 9}}\n")
    loaded = load_recipe(name, ["optimizer.batch_size=512"], {"classification"})
    assert (loaded.name, loaded.recipe.schedule.epochs, loaded.recipe.schedule.warmup_epochs) == ("short", 9, 5)
    assert loaded.deviations(loaded.recipe) == [
        "optimizer.batch_size=512 (reference 1024)",
        "schedule.epochs=9 (reference 100)",
    ]


@pytest.mark.parametrize("name", [VIT_B, "short.yaml"])
def test_only_a_file_extends_a_recipe(name: str, tmp_path: Path) -> None:
    """Beside --set it was passed over without a word."""
    if name != VIT_B:
        name = write(tmp_path / name, f"extends: {VIT_B}\n")
    assert 'key "extends"' in refusal(name, "extends=imagenet_vit_large")


def test_a_file_that_extends_nothing_is_no_recipe_of_the_literature(tmp_path: Path) -> None:
    name = write(tmp_path / "mine.yaml", (FOLDER / f"{VIT_B}.yaml").read_text())
    loaded = load_recipe(name, [], {"classification"})
    assert loaded.reference is None
    assert loaded.recipe == classification()
    assert loaded.deviations(loaded.recipe) == ["recipe mine is not one of the literature's"]


def test_an_empty_value_is_not_a_section(tmp_path: Path) -> None:
    name = write(tmp_path / "mine.yaml", f"extends: {VIT_B}\noptimizer:\n")
    assert 'key "optimizer"' in refusal(name)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("task: [unclosed", "cannot be read as YAML"),
        ("task: a: b", "cannot be read as YAML"),
        ("- task\n- model\n", "expected a mapping of settings"),
        ("just words\n", 'key "task": missing'),
        ("", 'key "task": missing'),
        ("task: classification\ntask: pretraining\n", "cannot be read as YAML"),
        ("task: detection\n", 'its task is "detection", expected classification or pretraining'),
        ("extends: imagenet_vit_bas\n", "Nearest: imagenet_vit_base"),
        ("extends: [a]\n", "no such recipe"),
        ("\x00", "cannot be read as YAML"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(write(tmp_path / "mine.yaml", text))
    assert expected in message
    assert message.startswith("recipe")
    assert "\n" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"task: \xff\xfe\xfa")
    assert str(path) in refusal(str(path))


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.yaml'}: No such file or directory" in refusal(str(tmp_path / "none.yaml"))
    (tmp_path / "folder.yaml").mkdir()
    assert "Is a directory" in refusal(str(tmp_path / "folder.yaml"))


def test_an_unknown_name_lists_the_nearest() -> None:
    message = refusal("imagenet_vit_bse")
    assert message.startswith("recipe imagenet_vit_bse: no such recipe. Nearest: imagenet_vit_base")
    assert all(name in refusal("zzzz") for name in list_recipes())


def test_a_recipe_of_the_other_command_is_refused() -> None:
    message = refusal("mae_vit_base", tasks={"classification"})
    assert 'its task is "pretraining", expected classification' in message
    assert "backbench pretrain" in message
    assert "backbench run" in refusal(VIT_B, tasks={"pretraining"})


def test_settings_do_not_change_afterwards() -> None:
    recipe: Recipe = classification()
    with pytest.raises(ValueError, match="frozen"):
        recipe.precision = "fp32"
    assert isinstance(load_recipe(VIT_B, [], {"classification"}), LoadedRecipe)
