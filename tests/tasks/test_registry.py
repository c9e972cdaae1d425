"""Every task and data set is complete, and what else names them holds to the registry."""

import pkgutil
from collections.abc import Iterable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from backbones.adapters.layer_decay import NoWeightDecay
from backbones.errors import InputError
from backbones.training.settings import Recipe, Settings
from benchmarks.commands.listing import LISTS
from benchmarks.planning.recipe import list_recipes, load_recipe
from results.metrics import METRICS
from results.paper_tables import FORMATS, PAPER_TABLES
from tasks.datasets.identity import Contents
from tasks.dense_settings import DenseOptimizer
from tasks.registry import (
    DATA_SETS,
    IMAGE_SIZES,
    PRETRAINING,
    RECIPES,
    TASKS,
    Task,
    find_data_set,
    name_data_set,
    settings_kind,
)
from tests.support.in_process import call, usage_refusal


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
class TestTasks:
    def test_has_all_its_modules(self, task: Task) -> None:
        assert callable(task.module("task").identify_data) and callable(task.module("task").fine_tune)
        assert callable(task.module("paired").compare)
        for name in ("recipe", "samples", "metric"):
            assert task.module(name).__doc__

    def test_has_a_recipe_that_calls_it_by_its_name(self, task: Task) -> None:
        kind = settings_kind(task.name)
        assert issubclass(kind, Recipe)
        assert get_args(kind.model_fields["task"].annotation) == (task.name,)

    def test_is_shown_by_tables_of_the_paper(self, task: Task) -> None:
        assert task.tables and set(task.tables) <= PAPER_TABLES.keys()
        for table in task.tables:
            for dataset in PAPER_TABLES[table].datasets:
                assert task.table_of(dataset) == table
        assert task.table_of("somebody's own") == task.tables[0]

    def test_runs_on_known_data_sets(self, task: Task) -> None:
        assert task.data_sets and set(task.data_sets) <= DATA_SETS.keys()


def test_every_table_belongs_to_one_task() -> None:
    assert sorted(table for task in TASKS.values() for table in task.tables) == sorted(PAPER_TABLES)
    assert {metric for table in PAPER_TABLES.values() for metric in table.metrics} <= METRICS.keys()


def test_every_data_set_is_some_tasks() -> None:
    assert {name for task in TASKS.values() for name in task.data_sets} == DATA_SETS.keys()


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_can_be_checked(name: str, tmp_path: Path) -> None:
    data_set = find_data_set(name)
    assert callable(data_set.check())
    if data_set.settings:
        assert issubclass(pkgutil.resolve_name(data_set.settings), Settings)
    with pytest.raises(InputError, match="Did you mean"):
        find_data_set(f"{name}x")


@pytest.mark.parametrize("recipe", list_recipes())
def test_packaged_recipes_are_of_known_tasks(recipe: str) -> None:
    assert load_recipe(recipe, [], RECIPES).recipe.task in {PRETRAINING, *TASKS}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(["table", "DIR", "--layout"], PAPER_TABLES), (["table", "DIR", "--format"], FORMATS), (["list"], LISTS)],
    ids=["layouts", "formats", "lists"],
)
def test_the_command_line_offers_what_the_registries_hold(arguments: list[str], names: Iterable[str]) -> None:
    assert "|".join(names) in call(arguments[0], "--help").output
    assert f"'nothing' is not one of {', '.join(map(repr, names))}" in usage_refusal(*arguments, "nothing")


def test_the_values_of_no_weight_decay_are_those_that_the_groups_know() -> None:
    hint = get_type_hints(DenseOptimizer)["no_weight_decay"]
    assert get_args(hint) == get_args(NoWeightDecay)


def test_the_column_of_another_image_size_has_its_own_name() -> None:
    assert [TASKS["classification"].column_of("ViT-H", size) for size in (224, 448)] == ["ViT-H", "ViT-H-448"]
    assert TASKS["classification"].column_of("ViT-mini", 64) == "ViT-mini"
    assert TASKS["detection"].column_of("ViT-B", 1024) == "ViT-B"
    assert set(IMAGE_SIZES.values()) == {224}


@pytest.mark.parametrize(
    ("name", "images", "classes"),
    [("imagenet1k", 1_281_167, 1_000), ("coco2017", 118_287, 80), ("ade20k", 20_210, 150)],
)
def test_known_data_sets_go_by_their_counts(tmp_path: Path, name: str, images: int, classes: int) -> None:
    def named(claimed: str, train_images: int, classes: int | None) -> str:
        return name_data_set(claimed, tmp_path, Contents(train_images, classes, "f" * 16)).name

    assert named(name, images, classes) == named(name, images, None) == name
    assert named(name, images - 1, classes) == named(name, images, classes + 1) == tmp_path.name
    assert named("other", images, classes) == tmp_path.name


def test_one_image_and_one_class_are_singular(tmp_path: Path) -> None:
    (note,) = name_data_set("ade20k", tmp_path, Contents(1, 1, "f" * 16)).notes
    assert "(1 training image in 1 class)" in note
