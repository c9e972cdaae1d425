from typing import Any

import pytest
from results_examples import make_record

from results import ResultsError, build_table


@pytest.mark.parametrize(
    ("fields", "layout"),
    [
        ({"table": "", "dataset": "imagenet1k"}, "imagenet"),
        ({"table": "", "dataset": "photos"}, "imagenet"),
        ({"table": "", "dataset": "inat2017"}, "transfer"),
        ({"table": "transfer", "dataset": "photos"}, "transfer"),
        ({"table": "of another suite", "dataset": "photos"}, "imagenet"),
    ],
)
def test_a_record_belongs_to_one_layout(fields: dict[str, Any], layout: str) -> None:
    other = {"imagenet": "transfer", "transfer": "imagenet"}[layout]
    assert build_table([make_record(**fields)], layout).blocks
    with pytest.raises(ResultsError, match=f'no run belongs to layout "{other}".*1 of classification on'):
        build_table([make_record(**fields)], other)


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
