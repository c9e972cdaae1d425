"""The recipes of the small models: the paper's settings at a size where a run takes seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backbones.training.settings import protocol
from benchmarks.planning.cells import find_planned_backbone, plan_task
from benchmarks.planning.recipe import FOLDER, list_more_recipes, list_recipes, load_recipe
from tasks.registry import TASKS
from tests.support.in_process import success
from tests.support.mini_backbones import registered
from tests.support.recipes import refusal

NAMES = list_more_recipes()["mini"]
COLUMNS = {"base": "mini-B", "large": "mini-L", "huge": "mini-H", "huge_96": "mini-H-96"}
CHOSEN = {
    "classification": {"model.arch", "model.image_size", "optimizer.base_lr", "optimizer.batch_size"},
    "detection": {"model.arch", "model.image_size", "model.window", "model.channels", "model.anchor_sizes"}
    | {"model.box_features", "model.regions", "model.proposals", "optimizer.lr", "optimizer.batch_size"},
    "segmentation": {"model.arch", "model.image_size", "model.taps", "model.channels", "model.auxiliary_channels"}
    | {"optimizer.lr", "optimizer.batch_size", "inference.stride", "inference.resize", "augment.resize"},
}
"""By task, what is otherwise than in the paper's recipe, but for the data set and the schedule's length."""


def papers(name: str) -> str:
    """The recipe of which it is a small copy."""
    _, stem, size = name.split("_", 2)
    return f"{'coco_fpn' if stem == 'coco' else stem}_vit_{size.replace('_96', '_448')}"


@pytest.fixture(scope="module")
def mini_backbones() -> Iterator[None]:
    with registered():
        yield


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_papers_but_for_what_makes_it_small(name: str) -> None:
    loaded = load_recipe(name, [], TASKS)
    recipe: Any = loaded.recipe
    ours, theirs = (
        protocol(load_recipe(each, [], TASKS).recipe.model_dump(mode="json")) for each in (name, papers(name))
    )
    differ = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    lengths = {key for key in differ if key.startswith("schedule.")}
    assert lengths <= {"schedule.epochs", "schedule.iterations", "schedule.warmup_epochs", "schedule.warmup_iterations"}
    spared = {"augment.scale"} if recipe.task == "detection" else set()
    assert differ - lengths - {"dataset"} <= CHOSEN[recipe.task] | spared
    assert recipe.expect == {} and loaded.deviations(recipe) == []
    assert papers(name) in recipe.source
    text = (FOLDER / f"mini/{name}.yaml").read_text()
    assert f"--recipe {name} " in text and text.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_its_backbones_deviate_in_nothing(name: str, mini_backbones: None) -> None:
    size = name.split("_", 2)[2]
    entry, plan = find_planned_backbone(
        plan_task(name, Path("data"), f"mae_vit_mini_{size.split('_')[0]}=file.pth", seed=0, overrides=[])
    )
    assert plan.deviations == ()
    settings: Any = plan.recipe
    assert TASKS[settings.task].column_of(entry.model, settings.model.image_size) == COLUMNS[size]


def test_there_is_one_for_every_cell_of_the_papers_tables() -> None:
    sets = ["imagenet", "inat2017", "inat2018", "inat2019", "places205", "places365"]
    cells = [f"mini_{name}_{size}" for name in sets for size in COLUMNS]
    assert sorted(NAMES) == sorted(
        [*cells, *(f"mini_{name}_{size}" for name in ("coco", "ade20k") for size in ("base", "large"))]
    )


def test_recipes_in_folders_are_found_by_name_and_listed_in_short() -> None:
    assert not {*NAMES} & {*list_recipes()}
    assert "mini_coco_base\t" not in success("list", "recipes").output
    assert "Nearest: mini_coco_base" in refusal("mini_coco_bas")
