"""Every task and data set is complete, and what else names them holds to the registry."""

import json
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
from results.reference import reference_rows
from tasks.data_sets import DATA_SETS, find_data_set, name_data_set, pretraining_name
from tasks.datasets.identity import Contents, Counts, NamedData
from tasks.dense_settings import DenseOptimizer
from tasks.registry import IMAGE_SIZES, PRETRAINING, RECIPES, TASKS, Task, settings_kind
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
        assert task.tables[0] != "imagenet"  # images of one's own are no ImageNet

    def test_runs_on_known_data_sets(self, task: Task) -> None:
        assert task.data_sets and set(task.data_sets) <= DATA_SETS.keys()


def test_every_table_belongs_to_one_task() -> None:
    shown = [table for task in TASKS.values() for table in task.tables]
    assert {*shown} == PAPER_TABLES.keys()
    assert {table for table in shown if shown.count(table) > 1} == {"probes"}
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


@pytest.mark.parametrize(
    ("dataset", "table"),
    [("inat2017", "transfer"), ("places365", "transfer"), ("pets", "transfer-more"), ("own-pets", "transfer")],
)
def test_a_classified_data_set_decides_the_table(dataset: str, table: str) -> None:
    assert TASKS["classification"].table_of(dataset) == table


def test_the_column_of_another_image_size_has_its_own_name() -> None:
    assert [TASKS["classification"].column_of("ViT-H", size) for size in (224, 448)] == ["ViT-H", "ViT-H-448"]
    assert TASKS["classification"].column_of("ViT-mini", 64) == "ViT-mini"
    assert TASKS["detection"].column_of("ViT-B", 1024) == "ViT-B"
    assert TASKS["classification"].column_of("mini-H", 96) == "mini-H-96"
    sides = {"ViT": 224, "mini": 48}
    assert {model: sides[model.partition("-")[0]] for model in IMAGE_SIZES} == IMAGE_SIZES


KNOWN = {
    "imagenet1k": (1_281_167, 50_000, 1_000),
    "coco2017": (118_287, 5_000, 80),
    "ade20k": (20_210, 2_000, 150),
    "inat2017": (579_184, 95_986, 5_089),
    "inat2019": (265_213, 3_030, 1_010),
}


def named(claimed: str, root: Path, train: int, val: int | None, classes: int | None) -> NamedData:
    return name_data_set(claimed, root, Contents(train, val, classes, "f" * 16))


@pytest.mark.parametrize("name", KNOWN)
class TestNames:
    def test_known_data_sets_go_by_their_counts(self, name: str, tmp_path: Path) -> None:
        train, val, classes = KNOWN[name]
        assert named(name, tmp_path, train, val, classes).name == named(name, tmp_path, train, None, None).name == name
        for other in ((train - 1, val, classes), (train, val - 1, classes), (train, val, classes + 1)):
            assert named(name, tmp_path, *other).name == tmp_path.name
        assert named("other", tmp_path, train, val, classes).name == tmp_path.name

    @pytest.mark.parametrize("spelling", ["{}", "{}_", "-{}-"])
    def test_a_folders_name_is_no_claim_to_a_known_one(self, name: str, spelling: str, tmp_path: Path) -> None:
        root = tmp_path / spelling.format(name.upper())
        root.mkdir()
        found = named(name, root, 400, 100, 10)
        assert found.name == f"own-{name}"
        (note,) = found.notes
        train, val, classes = KNOWN[name]
        assert "(400 training images and 100 to evaluate on in 10 classes)" in note
        assert f"which has {train:,} training and {val:,} evaluation images in {classes:,} classes" in note
        assert named("something", root, train, val, classes).name == name

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_nor_is_a_card(self, name: str, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "dataset.json").write_text(json.dumps({"name": name}), encoding=encoding)
        assert named(name, tmp_path, 400, 100, 10).name == f"own-{name}"
        assert named(name, tmp_path, *KNOWN[name]).name == name


FOREIGN = [
    '{"labels": null}',  # StyleGAN's
    '{"name": "theirs", "version": "1.0", "features": []}',
    '[{"name": "theirs"}]',
    '"theirs"',
    '{"title": "theirs"}',
    "theirs",
    "",
    "\x80",
]


@pytest.mark.parametrize("content", FOREIGN)
def test_another_programs_dataset_json_is_passed_over(content: str, tmp_path: Path) -> None:
    root = tmp_path / "parent/cats"
    root.mkdir(parents=True)
    for folder in (root, root.parent):
        (folder / "dataset.json").write_bytes(content.encode("latin-1"))
        assert named("other", root, 400, 100, 10).name == "cats"


def test_a_card_names_the_folder_and_the_one_below(tmp_path: Path) -> None:
    (tmp_path / "unlabelled").mkdir()
    drawn = {"version": 3, "seed": 0, "level": "smooth", "image_size": 56, "train": 64, "val": 64, "unlabelled": 64}
    for card in ({"name": "été 2024"}, drawn | {"name": "mini"}, drawn | {"name": "mini", "coco_train": 8}):
        (tmp_path / "dataset.json").write_text(json.dumps(card))
        for root in (tmp_path, tmp_path / "unlabelled"):
            assert named("other", root, 400, None, None).name == card["name"]


@pytest.mark.parametrize("name", ["../../x/y", "/x", "a\\b", "..", ".", "", " ", "two\nlines", "\x1b[31mred", 5, None])
def test_a_cards_name_has_to_be_one(name: object, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"name": name}))
    with pytest.raises(InputError, match=r'dataset\.json: its "name" is .* Expected the name of') as caught:
        named("other", tmp_path, 400, 100, 10)
    assert "\n" not in str(caught.value)


def test_where_it_is_not_certain_how_many_train_a_hundredth_may_be_missing() -> None:
    counts = Counts(10_000, 1_000, 10, tolerance=0.01)
    assert counts.fit(Contents(9_900, 1_000, 10, ""))
    for other in ((9_899, 1_000, 10), (10_000, 999, 10), (10_000, 1_000, 9)):
        assert not counts.fit(Contents(*other, ""))


def test_the_record_notes_another_number_than_the_uncertain_one(tmp_path: Path) -> None:
    found = named("places205", tmp_path, 2_448_000, 20_500, 205)
    assert found.name == "places205"
    assert found.notes == (
        "2,448,000 training images of data set places205, where 2,448,873 are published: that number is uncertain",
    )
    assert named("places205", tmp_path, 2_448_873, 20_500, 205).notes == ()


def test_imagenet_is_called_in1k_where_it_was_trained_on() -> None:
    assert pretraining_name("imagenet1k") == "IN1K"
    assert pretraining_name("mini") == "mini"


@pytest.mark.parametrize(
    ("said", "named"),
    [
        *((name, "IN1K") for name in ("ImageNet-1K", "imagenet_1k", "ImageNet", "ILSVRC2012", "in1k", "IN-1K")),
        ("imagenet-1k + DALLE", "IN1K + DALLE"),
        ("ImageNet-1K with labels", "IN1K w/ labels"),
        ("imagenet22k+DALLE, then IN22K w/ labels", "IN22K+DALLE, then IN22K w/ labels"),
        ("ImageNet-Sketch", "ImageNet-Sketch"),
        ("my photos, cropped", "my photos, cropped"),
        ("", ""),
    ],
)
def test_other_names_of_imagenet_are_known_and_what_follows_stays(said: str, named: str) -> None:
    assert pretraining_name(said) == named
    assert "IN1K" in {row.pretrain_data for row in reference_rows("imagenet")}


def test_one_image_and_one_class_are_singular(tmp_path: Path) -> None:
    (note,) = named("ade20k", tmp_path, 1, 1, 1).notes
    assert "(1 training image and 1 to evaluate on in 1 class)" in note
