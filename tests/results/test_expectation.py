"""Which published number is expected of a run."""

from typing import Any

import pytest

from benchmarks.planning.recipe import list_recipes, load_recipe
from results import Metric, Record, reference_rows
from results.expectation import expected_value, with_expected
from results.reference import PREVIOUS_BEST, reference_value
from tasks.registry import RECIPES
from tests.support.results_examples import DEVIATION, make_record

MAE = {"method": "MAE", "pretrain_data": "IN1K"}
BEIT = {"method": "beit", "pretrain_data": "IN1K + DALLE"}


def run(recipe: str, metric: str = "top1", **fields: Any) -> Record:
    """The record of a run under a packaged recipe, with its settings."""
    loaded = load_recipe(recipe, [], RECIPES)
    settings = loaded.recipe.model_dump(mode="json")
    tables = {"classification": "imagenet", "detection": "coco", "segmentation": "ade20k"}
    about = {"task": settings["task"], "dataset": settings["dataset"], "table": tables[settings["task"]]}
    about |= {"recipe": recipe, "recipe_settings": settings, "metric": metric, **MAE}
    about["deviations"] = loaded.deviations(loaded.recipe)
    return make_record(**about | fields)


def expected(record: Record) -> float | None:
    (metric,) = record.metrics
    return expected_value(record, metric, load_recipe(record.recipe, [], RECIPES).own_deviations)


@pytest.mark.parametrize(
    ("recipe", "metric", "fields", "value"),
    [
        ("imagenet_vit_base", "top1", {}, 83.6),
        ("imagenet_vit_base", "top1", {"method": "moco-v3"}, 83.2),
        ("imagenet_vit_base", "top1", BEIT, 83.2),
        ("imagenet_vit_huge_448", "top1", {"model": "ViT-H-448"}, 87.8),
        ("coco_fpn_vit_base", "AP_mask", {}, 44.9),
        ("coco_fpn_vit_base", "AP_mask", BEIT, 44.4),
        ("coco_fpn_vit_base_25ep", "AP_box", {}, 48.1),
        ("coco_simple_vit_large", "AP_box", {"model": "ViT-L"}, 55.5),
        ("ade20k_vit_base", "mIoU", {"method": "supervised", "pretrain_data": "IN1K w/ labels"}, 47.4),
    ],
)
def test_it_is_the_papers_cell_or_the_recipes_own_number(
    recipe: str, metric: str, fields: dict[str, Any], value: float
) -> None:
    assert expected(run(recipe, metric, **fields)) == value


@pytest.mark.parametrize(
    ("recipe", "metric", "fields"),
    [
        ("imagenet_vit_base", "top1", {"method": "random", "pretrain_data": "none"}),
        ("imagenet_vit_base", "top1", {"method": "scratch", "pretrain_data": "none"}),  # by a recipe of its own
        ("imagenet_vit_base", "top1", {"method": "MAE+"}),
        ("imagenet_vit_base", "top1", {"pretrain_data": "photos"}),
        ("imagenet_vit_base", "top1", {"deviations": [DEVIATION]}),
        ("imagenet_vit_base", "top1", {"dataset": "own-imagenet1k", "table": "transfer"}),
        ("imagenet_vit_base", "top1", {"evaluation_images": 50_000, "n_eval": 49_998}),
        ("imagenet_vit_base", "top1", {"recipe_settings": {"dataset": "imagenet1k"}}),
        ("imagenet_vit_base", "top5", {}),
        ("coco_fpn_vit_base_25ep", "AP_box", BEIT),  # the table's cell is of 100 epochs
        ("coco_simple_vit_base", "AP_box", BEIT),  # and of another detector
        ("coco_simple_vit_base_25ep", "AP_box", {}),
        ("coco_fpn_vit_base_25ep", "AP_box", {"deviations": []}),  # --set schedule.iterations=184375
        ("mini_classification", "top1", {"table": "transfer"}),
    ],
)
def test_of_others_nothing_is_expected(recipe: str, metric: str, fields: dict[str, Any]) -> None:
    assert expected(run(recipe, metric, **fields)) is None


@pytest.mark.parametrize("recipe", [name for name in list_recipes() if load_recipe(name, [], RECIPES).recipe.expect])
def test_every_recipe_says_whose_its_number_is(recipe: str) -> None:
    whose = load_recipe(recipe, [], RECIPES).recipe.expect_of
    assert whose is not None and whose.model_dump() == MAE


def test_every_cell_of_the_paper_is_found_by_its_names() -> None:
    for row in reference_rows():
        place = (row.table, row.dataset, row.metric, row.method.lower(), row.pretrain_data, row.model)
        assert reference_value(*place) == (None if row.method == PREVIOUS_BEST else row.value)
    assert reference_value("imagenet", "mini", "top1", "MAE", "IN1K", "ViT-B") is None


def test_a_record_is_given_what_is_expected_of_each_metric() -> None:
    metrics = [Metric(name=name, value=50.0, split="val") for name in ("AP_box", "AP50_box", "AP_mask")]
    record = with_expected(run("coco_fpn_vit_base").model_copy(update={"metrics": metrics}))
    assert [metric.expected for metric in record.metrics] == [50.3, None, 44.9]
    assert Record.from_json(record.to_json()) == record
