import json
from collections.abc import Callable
from typing import Any

import pytest

from results import Metric, Record, ResultsError, build_table, find_metric, render
from results.paper_tables import PAPER_TABLES, PaperTable
from results.tables import Block
from tests.support.results_examples import make_random, make_record, read_markdown


@pytest.mark.parametrize(
    ("table", "dataset"),
    [("imagenet", "imagenet1k"), ("imagenet", "photos"), ("transfer", "inat2017"), ("transfer", "photos")],
)
def test_a_record_belongs_to_the_table_that_it_names(table: str, dataset: str) -> None:
    other = {"imagenet": "transfer", "transfer": "imagenet"}[table]
    record = make_record(table=table, dataset=dataset)
    assert build_table([record], table).blocks
    found = rf"1 of classification on {dataset} \(layout {table}\)"
    with pytest.raises(ResultsError, match=f'no run belongs to layout "{other}". Found: {found}$'):
        build_table([record], other)


@pytest.mark.parametrize("table", ["", "of another suite"])
def test_a_record_that_names_none_of_the_papers_tables_belongs_to_none(table: str) -> None:
    for name in PAPER_TABLES:
        with pytest.raises(ResultsError, match=r"Found: 1 of classification on imagenet1k$"):
            build_table([make_record(table=table)], name)


def test_every_table_shows_metrics_that_are_known() -> None:
    assert all(find_metric(metric) for table in PAPER_TABLES.values() for metric in table.metrics)


def test_the_lowest_loss_is_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = PaperTable(name="losses", measures="loss", datasets={"mini": "Mini"}, metrics=("loss", "top1"))
    monkeypatch.setitem(PAPER_TABLES, "losses", losses)
    records = [
        make(metrics=[Metric(name=name, value=value, split="val") for name, value in values.items()], **about)
        for make, values in ((make_record, {"loss": 0.7, "top1": 80}), (make_random, {"loss": 1.9, "top1": 60}))
        for about in ({"table": "losses", "dataset": "mini"},)
    ]
    (grid,) = read_markdown(render(build_table(records, "losses")))
    assert grid == [
        ["method", "pre-train data", "loss ViT-B", "top-1 ViT-B"],
        ["MAE", "IN1K", "**0.7**", "**80.0**"],
        ["random", "–", "1.9", "60.0"],
    ]


def test_an_unknown_layout_names_the_nearest() -> None:
    with pytest.raises(ResultsError, match=r'"imagnet": no such layout\. Did you mean "imagenet"\?'):
        build_table([make_record()], "imagnet")
    with pytest.raises(ResultsError, match=r"no such layout\. There are: imagenet, coco, ade20k, transfer"):
        build_table([make_record()], "?")


def test_no_records_and_no_metric_are_told_apart() -> None:
    with pytest.raises(ResultsError, match="no finished runs found"):
        build_table([], "imagenet")
    with pytest.raises(ResultsError, match="shows top1, but the 1 runs that belong to it recorded loss only"):
        build_table([make_record(metric="loss")], "imagenet")


def make_segmentation(
    miou: float, inference: str = "slide", make: Callable[..., Record] = make_record, **fields: Any
) -> Record:
    """As `backbench run` records a segmentation: three metrics, the kind of inference a setting that decides."""
    values = {"mIoU": miou, "mAcc": miou + 10, "aAcc": miou + 35}
    metrics = [Metric(name=name, value=value, split="val", n_eval=2_000) for name, value in values.items()]
    settings = {"inference": {"mode": inference}, "evaluation": {"allow_unreadable": False}, "data": {"classes": None}}
    about = {"task": "segmentation", "dataset": "ade20k", "table": "ade20k", "recipe": "ade20k_vit_base"}
    protocol = {"inference.mode": json.dumps(inference)}
    return make(metrics=metrics, **{**about, "recipe_settings": settings, "protocol": protocol, **fields})


def test_segmentation_stands_beside_the_papers_miou() -> None:
    records = [
        make_segmentation(48.2),
        make_segmentation(33.3, make=make_random),
        make_segmentation(53.4, model="ViT-L", recipe="ade20k_vit_large"),
        make_segmentation(21.5, dataset="mini-ade20k", model="ViT-mini", recipe="mini_segmentation"),
    ]
    paper, mini = read_markdown(render(build_table(records, "ade20k")))
    assert paper == [
        ["method", "pre-train data", "ViT-B", "ViT-B (paper)", "ViT-L", "ViT-L (paper)"],
        ["supervised", "IN1K w/ labels", "–", "47.4", "–", "49.9"],
        ["MoCo v3", "IN1K", "–", "47.3", "–", "49.1"],
        ["BEiT", "IN1K+DALLE", "–", "47.1", "–", "53.3"],
        ["MAE", "IN1K", "**48.2**", "48.1", "53.4", "53.6"],
        ["random", "–", "33.3", "–", "–", "–"],
    ]
    assert mini == [["method", "pre-train data", "ViT-mini"], ["MAE", "IN1K", "21.5"]]


def only_block(*records: Record) -> Block:
    (block,) = build_table(records, "ade20k").blocks
    return block


def test_other_inference_is_another_protocol_of_segmentation() -> None:
    """How a model is applied decides mIoU; whether unreadable images are let pass does not, their number does."""
    block = only_block(make_segmentation(48.2), make_segmentation(33.3, inference="whole", make=make_random))
    assert block.remarks == ("ViT-B: not ranked, protocols differ (setting inference.mode).",)
    deviation = "inference.mode=whole (reference slide)"
    records = [
        make_segmentation(48.2),
        make_segmentation(47.0, inference="whole", deviations=[deviation], make=make_random),
    ]
    text = render(build_table(records, "ade20k"))
    assert "| 47.0 †a" in text
    assert f"- †a: {deviation}\n- ViT-B: not ranked, protocols differ (deviations).\n" in text
    tolerant = {"inference": {"mode": "slide"}, "evaluation": {"allow_unreadable": True}}
    records = [make_segmentation(48.2), make_segmentation(47.0, recipe_settings=tolerant, make=make_random)]
    assert only_block(*records).remarks == ()
