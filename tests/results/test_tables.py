import csv
import io
import random
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from results import Metric, Record, build_table, reference_rows, render, seed_interval
from results.measurements import Number, simplified
from results.tables import Block
from tests.support.results_examples import DEVIATION, make_random, make_record, read_markdown

LAYOUT_RECORDS = {
    "imagenet": [make_record()],
    "coco": [make_record(50.0, task="detection", dataset="coco2017", table="coco", metric="AP_box")],
    "ade20k": [make_record(48.0, task="semantic_segmentation", dataset="ade20k", table="ade20k", metric="mIoU")],
    "transfer": [make_record(80.0, dataset="inat2019", table="transfer")],
}


def numbers(block: Block, model: str = "ViT-B") -> dict[str, list[Number]]:
    """Our numbers of one model by method, in the order of the rows."""
    found: dict[str, list[Number]] = {}
    for row in block.rows:
        for column, cell in zip(block.columns, row.cells, strict=True):
            if isinstance(cell, Number) and column.model == model:
                found.setdefault(row.labels[-2], []).append(cell)
    return found


def only_block(records: Sequence[Record], layout: str = "imagenet") -> Block:
    (block,) = build_table(records, layout).blocks
    return block


@pytest.mark.parametrize("layout", LAYOUT_RECORDS)
def test_the_papers_numbers_are_those_of_the_file(layout: str) -> None:
    """The CSV names each number in full, so the file itself is the expectation."""
    lines = csv.DictReader(io.StringIO(render(build_table(LAYOUT_RECORDS[layout], layout), "csv")))
    shown = sorted(
        (line["dataset"], line["metric"], line["method"], line["pretrain_data"], line["model"], float(line["value"]))
        for line in lines
        if line["published"] == "true"
    )
    expected = sorted(
        (row.dataset, row.metric, row.method, row.pretrain_data, row.model, row.value) for row in reference_rows(layout)
    )
    assert shown == expected
    assert len(expected) in (12, 16, 8, 25)


def test_imagenet_reads_as_in_the_paper() -> None:
    (grid,) = read_markdown(render(build_table([make_record(83.44, ci_low=83.1, ci_high=83.75)], "imagenet")))
    assert grid == [
        ["method", "pre-train data", "ViT-B", "ViT-B (paper)", "ViT-L (paper)", "ViT-H (paper)", "ViT-H-448 (paper)"],
        ["scratch", "none", "–", "82.3", "82.6", "83.1", "–"],
        ["DINO", "IN1K", "–", "82.8", "–", "–", "–"],
        ["MoCo v3", "IN1K", "–", "83.2", "84.1", "–", "–"],
        ["BEiT", "IN1K+DALLE", "–", "83.2", "85.2", "–", "–"],
        ["MAE", "IN1K", "83.4 [83.1, 83.8]", "83.6", "85.9", "86.9", "87.8"],
    ]


def test_coco_has_boxes_and_masks() -> None:
    metrics = [Metric(name="AP_box", value=48.1, split="val"), Metric(name="AP_mask", value=43.2, split="val")]
    record = make_record(task="detection", dataset="coco2017", table="coco", metrics=metrics)
    (grid,) = read_markdown(render(build_table([record], "coco")))
    assert grid[0][2:] == [
        "AP box ViT-B",
        "AP box ViT-B (paper)",
        "AP box ViT-L (paper)",
        "AP mask ViT-B",
        "AP mask ViT-B (paper)",
        "AP mask ViT-L (paper)",
    ]
    assert grid[4] == ["MAE", "IN1K", "48.1", "50.3", "53.3", "43.2", "44.9", "47.2"]


def test_transfer_has_data_sets_as_rows_and_the_previous_best_last() -> None:
    records = [
        make_record(75.1, dataset="inat2018", table="transfer"),
        make_random(60.2, dataset="inat2018", table="transfer"),
        make_record(57.7, dataset="places365", table="transfer"),
        make_record(50.0, dataset="places365", table="transfer", model="zebra", backbone="zebra"),
    ]
    (grid,) = read_markdown(render(build_table(records, "transfer")))
    assert grid[0][0] == "data set"
    assert grid[0][-1] == "prev best (paper)"
    assert [line[:2] for line in grid[1:]] == [
        ["iNat 2017", "MAE"],
        ["iNat 2018", "MAE"],
        ["iNat 2018", "random"],
        ["iNat 2019", "MAE"],
        ["Places205", "MAE"],
        ["Places365", "MAE"],
    ]
    assert grid[2][3:] == ["**75.1**", "75.4", "80.1", "83.0", "86.8", "–", "81.2"]
    assert grid[3][3:] == ["60.2", "–", "–", "–", "–", "–", "–"]
    assert grid[6][3:] == ["57.7", "57.9", "59.4", "59.8", "60.3", "50.0", "58.0"]


def test_names_are_matched_without_case_and_punctuation_and_shown_as_in_the_paper() -> None:
    block = only_block([make_record(83.1, method="mocov3", model="vit_b")])
    assert list(numbers(block)) == ["MoCo v3"]
    assert [row.labels[0] for row in block.rows] == ["scratch", "DINO", "MoCo v3", "BEiT", "MAE"]


def test_a_method_with_a_plus_is_another() -> None:
    """Its number stood in MAE's row, as another backbone of that method."""
    records = [make_record(83.1), make_record(84.2, method="MAE+", backbone="plus"), make_record(70.0, method="mae +")]
    block = only_block(records)
    found = {name: sorted(number.value for number in stack) for name, stack in numbers(block).items()}
    assert found == {"MAE": [83.1], "MAE+": [70.0, 84.2]}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("MoCo v3", "moco-v3", True),
        ("IN1K+DALLE", "in1k dalle", True),
        ("IN1K + DALLE", "IN1K+DALLE", True),
        ("MAE+", "mae +", True),
        ("MAE+", "MAE", False),
        ("MAE++", "MAE+", False),
        ("+", "-", False),
        ("", "none", False),
    ],
)
def test_names_are_the_same_but_for_a_plus_at_the_end(one: str, other: str, same: bool) -> None:
    assert (simplified(one) == simplified(other)) is same


@pytest.mark.parametrize(
    ("values", "shown"), [((1.0, 2.0, 30.0), "[0.0, "), ((99.0, 98.0, 70.0), ", 100.0] (3 seeds)")]
)
def test_an_interval_of_percentages_over_seeds_ends_at_0_and_100(values: tuple[float, ...], shown: str) -> None:
    low, high = seed_interval(values)
    assert low < 0 or high > 100
    records = [make_record(value, seed) for seed, value in enumerate(values)]
    (number,) = numbers(only_block(records))["MAE"]
    assert (number.low, number.high) == (max(low, 0), min(high, 100))
    assert shown in render(build_table(records, "imagenet"))


def test_seeds_are_averaged_with_students_interval() -> None:
    values = [83.63, 83.66, 83.52, 83.46]
    records = [make_record(value, seed, ci_low=80, ci_high=90) for seed, value in enumerate(values)]
    (number,) = numbers(only_block(records))["MAE"]
    assert number.value == pytest.approx(83.5675)
    assert (number.low, number.high) == seed_interval(values)
    assert (number.interval, number.seeds) == ("seeds", (0, 1, 2, 3))
    assert "83.6 [83.4, 83.7] (4 seeds)" in render(build_table(records, "imagenet"))


def test_one_seed_has_the_interval_of_its_record_or_none() -> None:
    (with_interval,) = numbers(only_block([make_record(83.0, ci_low=82.5, ci_high=83.5)]))["MAE"]
    assert (with_interval.low, with_interval.high, with_interval.interval) == (82.5, 83.5, "images")
    (without,) = numbers(only_block([make_record(83.0)]))["MAE"]
    assert (without.low, without.high, without.interval) == (None, None, "")


def test_a_seed_that_was_run_twice_counts_once_and_the_later_run_counts() -> None:
    again = make_record(70.0, 0, finished_at=datetime(2026, 1, 2, tzinfo=UTC))
    records = [again, make_record(83.0, 0), make_record(72.0, 1)]
    (number,) = numbers(only_block(records))["MAE"]
    assert (number.value, number.seeds) == (71.0, (0, 1))


def test_the_best_of_one_protocol_is_bold() -> None:
    records = [make_record(83.4), make_random(78.0)]
    text = render(build_table(records, "imagenet"))
    assert "**83.4**" in text
    assert text.count("**") == 2
    assert "not ranked" not in text


def test_published_numbers_take_no_part_in_the_ranking() -> None:
    text = render(build_table([make_record(10.0), make_random(5.0)], "imagenet"))
    assert re.findall(r"\*\*(.*?)\*\*", text) == ["10.0"]


def test_numbers_that_read_the_same_are_both_best() -> None:
    text = render(build_table([make_record(83.41), make_random(83.38)], "imagenet"))
    assert re.findall(r"\*\*(.*?)\*\*", text) == ["83.4", "83.4"]


def test_a_single_number_is_not_the_best_of_anything() -> None:
    assert "**" not in render(build_table([make_record()], "imagenet"))


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"recipe": "mine"}, "recipe"),
        ({"deviations": [DEVIATION]}, "deviations"),
        ({"split": "test"}, "split"),
        ({"n_eval": 100}, "evaluated images"),
        ({"data_fingerprint": "ab" * 8}, "data fingerprint"),
        ({"protocol": {"optimizer.base_lr": "0.1"}}, "setting optimizer.base_lr"),
    ],
)
def test_different_protocols_are_neither_averaged_nor_ranked(fields: dict[str, Any], difference: str) -> None:
    same_backbone = [make_record(83.0, 0), make_record(85.0, 1, **fields)]
    shown = numbers(only_block(same_backbone))["MAE"]
    assert sorted(number.value for number in shown) == [83.0, 85.0]
    assert not any(number.best for number in shown)

    block = only_block([make_record(83.0), make_random(85.0, **fields)])
    assert block.remarks == (f"ViT-B: not ranked, protocols differ ({difference}).",)
    assert not any(number.best for stack in numbers(block).values() for number in stack)
    assert numbers(block)["random"][0].note != numbers(block)["MAE"][0].note


def test_a_footnote_says_what_sets_a_protocol_apart() -> None:
    records = [make_record(data_fingerprint="ab" * 32), make_random(n_eval=100, recipe="mine")]
    block = only_block(records)
    assert [numbers(block)[method][0].note for method in ("MAE", "random")] == [
        "recipe imagenet_vit_base; evaluated images 50000; data fingerprint abababababab",
        "recipe mine; evaluated images 100; data fingerprint unknown",
    ]


def test_settings_that_decide_nothing_do_not_part_protocols() -> None:
    deciding = {"schedule.epochs": "100"}
    records = [
        make_record(83.0, protocol=deciding, recipe_settings={"schedule": {"epochs": 100}, "runtime": {"workers": 1}}),
        make_random(78.0, protocol=deciding, recipe_settings={"schedule": {"epochs": 100}, "source": "elsewhere"}),
    ]
    block = only_block(records)
    assert block.remarks == ()
    assert numbers(block)["MAE"][0].best


def test_settings_that_differ_are_named_in_order() -> None:
    records = [
        make_record(83.0, n_eval=10, protocol={"schedule.epochs": "100", "model.drop_path": "0.1", "arch": '"a"'}),
        make_random(78.0, n_eval=20, protocol={"schedule.epochs": "25", "model.drop_path": "0.2", "arch": '"a"'}),
    ]
    settings = "evaluated images, setting model.drop_path, setting schedule.epochs"
    assert only_block(records).remarks == (f"ViT-B: not ranked, protocols differ ({settings}).",)


def test_records_without_a_protocol_are_alike_only_if_all_their_settings_are() -> None:
    """Settings in another order are the same; a record that says what decides is not like one that doesn't."""
    old = make_record(83.0, recipe_settings={"schedule": {"epochs": 100}, "model": {"arch": "a"}})
    same = make_random(78.0, recipe_settings={"model": {"arch": "a"}, "schedule": {"epochs": 100}})
    assert only_block([old, same]).remarks == ()
    unlike = make_random(78.0, recipe_settings={"schedule": {"epochs": 25}, "model": {"arch": "a"}})
    assert only_block([old, unlike]).remarks == ("ViT-B: not ranked, protocols differ (setting recipe).",)
    newer = make_random(78.0, recipe_settings=old.recipe_settings, protocol={"schedule.epochs": "100"})
    assert only_block([old, newer]).remarks == (
        "ViT-B: not ranked, protocols differ (setting recipe, setting schedule.epochs).",
    )


def test_sizes_of_a_model_that_the_paper_lacks_stand_from_small_to_large() -> None:
    models = ["mini-H-96", "mini-L", "Base", "mini-B", "mini-H", "ViT-mini", "ViT-g/14", "ViT-S/14", "ViT-L"]
    block = only_block([make_record(model=model) for model in models])
    found = [column.model for column in block.columns if not column.published]
    assert found == ["ViT-L", "Base", "ViT-S/14", "ViT-g/14", "ViT-mini", "mini-B", "mini-L", "mini-H", "mini-H-96"]


def test_different_models_are_different_columns_and_need_no_common_protocol() -> None:
    records = [make_record(83.0), make_record(28.0, model="ViT-mini", backbone="mae_vit_mini", recipe="small")]
    block = only_block(records)
    assert [column.label for column in block.columns if not column.published] == ["ViT-B", "ViT-mini"]
    assert block.columns[-1].label == "ViT-mini"
    assert block.remarks == ()


def test_deviations_are_marked_with_a_letter_per_distinct_set() -> None:
    records = [
        make_record(82.1, deviations=[DEVIATION]),
        make_random(77.0, deviations=[DEVIATION]),
        make_record(84.0, model="ViT-L", recipe="imagenet_vit_large", deviations=["a=1 (reference 2)", DEVIATION]),
        make_random(80.0, model="ViT-L", recipe="imagenet_vit_large", deviations=[DEVIATION, "a=1 (reference 2)"]),
    ]
    text = render(build_table(records, "imagenet"))
    assert "| **82.1** †a" in text
    assert "| 77.0 †a" in text
    assert "| **84.0** †b" in text
    assert "| 80.0 †b" in text
    assert f"- †a: {DEVIATION}\n- †b: a=1 (reference 2); {DEVIATION}\n" in text
    assert "not ranked" not in text


def test_a_deviation_speaks_for_the_setting_behind_it() -> None:
    records = [
        make_record(83.0, protocol={"schedule.epochs": "100"}),
        make_random(78.0, protocol={"schedule.epochs": "25"}, deviations=[DEVIATION]),
    ]
    block = only_block(records)
    assert block.remarks == ("ViT-B: not ranked, protocols differ (deviations).",)
    assert [numbers(block)[method][0].note for method in ("MAE", "random")] == ["", DEVIATION]


def test_a_deviating_run_takes_the_ranking_from_none_that_follow_the_reference() -> None:
    records = [
        make_record(83.0),
        make_random(78.0),
        make_record(85.0, method="BEiT", backbone="beit_vit_base", deviations=[DEVIATION]),
    ]
    block = only_block(records)
    assert block.remarks == (
        "ViT-B: only numbers that follow the reference are ranked, protocols differ (deviations).",
    )
    best = {method: [number.best for number in shown] for method, shown in numbers(block).items()}
    assert best == {"MAE": [True], "random": [False], "BEiT": [False]}


def test_those_that_follow_the_reference_have_to_share_a_protocol_too() -> None:
    records = [make_record(83.0), make_random(78.0, n_eval=100), make_record(85.0, 1, deviations=[DEVIATION])]
    (remark,) = only_block(records).remarks
    assert remark.startswith("ViT-B: not ranked, protocols differ (")


def test_two_backbones_are_never_averaged() -> None:
    shown = numbers(only_block([make_record(80.0, 0, backbone="a"), make_record(90.0, 1, backbone="b")]))["MAE"]
    assert [(number.value, number.note) for number in shown] == [(80.0, "backbone a"), (90.0, "backbone b")]


def test_several_checkpoints_of_one_method_keep_their_own_lines() -> None:
    records = [
        make_record(83.0, 0, checkpoint_sha256="a" * 64),
        make_record(84.0, 1, checkpoint_sha256="a" * 64),
        make_record(85.0, 0, checkpoint_sha256="b" * 64),
        make_record(70.0, 0, backbone="package.module:mae"),
    ]
    block = only_block(records)
    shown = {number.note: (number.value, number.best) for number in numbers(block)["MAE"]}
    assert shown == {
        "backbone mae_vit_base; checkpoint aaaaaaaa": (83.5, False),
        "backbone mae_vit_base; checkpoint bbbbbbbb": (85.0, True),
        "backbone package.module:mae; no checkpoint": (70.0, False),
    }
    paper = [row.cells[1] for row in block.rows if row.labels[0] == "MAE"]
    assert paper == [83.6, None, None]


def test_another_data_set_is_a_block_of_its_own_without_the_papers_numbers() -> None:
    records = [make_record(), make_record(28.2, dataset="photos"), make_random(15.0, dataset="mini", model="ViT-mini")]
    table = build_table(records, "imagenet")
    assert [block.title.split(":")[0] for block in table.blocks] == ["ImageNet-1K", "mini", "photos"]
    assert not any(column.published for block in table.blocks[1:] for column in block.columns)
    assert table.sources == ("MAE (arXiv 2111.06377) table 3", "facebookresearch/mae README")
    assert build_table(records[1:], "imagenet").sources == ()
    text = render(build_table(records[1:], "imagenet"))
    assert "paper" not in text
    assert "83.6" not in text


def test_the_order_of_records_does_not_matter() -> None:
    records = [
        make_record(80 + seed, seed, dataset=dataset, model=model, checkpoint_sha256=sha)
        for seed in range(3)
        for dataset in ("imagenet1k", "mini")
        for model in ("ViT-B", "ViT-mini")
        for sha in ("a" * 64, "b" * 64)
    ]
    expected = build_table(records, "imagenet")
    random.Random(1).shuffle(records)
    assert build_table(records, "imagenet") == expected


def test_a_backbone_without_a_method_stands_under_its_own_name() -> None:
    table = build_table([make_record(method="", pretrain_data="", backbone="package.module:function")], "imagenet")
    assert list(numbers(table.blocks[0])) == ["package.module:function"]
    assert re.search(r"^\| package\.module:function +\| – ", render(table), flags=re.MULTILINE)
