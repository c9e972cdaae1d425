"""What stands in the paper on corrupted and other images, beside our numbers."""

import csv
import io

import pytest

from results import build_table, reference_rows, render
from results.expectation import with_expected
from results.record import Metric, Record
from tests.support.results_examples import make_random, make_record, read_markdown

MODELS = ("ViT-B", "ViT-L", "ViT-H", "ViT-H-448")
METRIC = {"imagenet-c": "mCE"}


def record(dataset: str, value: float, model: str = "ViT-B", **about: object) -> Record:
    """Of an evaluation of a run."""
    make = about.pop("make", make_record)
    metric = Metric(name=METRIC.get(dataset, "top1"), value=value, split="test", n_eval=100)
    others = [Metric(name="mean_error", value=1.0, split="test", n_eval=100)] if dataset == "imagenet-c" else []
    about = {"recipe_settings": {"dataset": dataset}, "trained": "abc", **about}
    built: Record = make(  # type: ignore[operator]
        metrics=[metric, *others], dataset=dataset, table="robustness", model=model, backbone=model, **about
    )
    return built


def test_the_table_reads_as_in_the_paper() -> None:
    """Data sets as rows, sizes as columns, whatever the metric."""
    paper = {(row.dataset, row.model): row.value for row in reference_rows("robustness") if row.model}
    records = [record(dataset, value - 0.5, model) for (dataset, model), value in paper.items()]
    table = build_table([*records, record("imagenet-v2", 70.0)], "robustness")
    (grid,) = read_markdown(render(table))
    sizes = [heading for model in MODELS for heading in (model, f"{model} (paper)")]
    assert grid[0] == ["data set", "method", "pre-train data", *sizes, "prev best (paper)"]
    assert grid[1:] == [
        [
            *("ImageNet-C (mCE, lower is better)", "MAE", "IN1K"),
            *("51.2", "51.7", "41.3", "41.8", "33.3", "33.8", "36.3", "36.8", "42.5"),
        ],
        ["ImageNet-A", "MAE", "IN1K", "35.4", "35.9", "56.6", "57.1", "67.7", "68.2", "76.2", "76.7", "35.8"],
        ["ImageNet-R", "MAE", "IN1K", "47.8", "48.3", "59.4", "59.9", "63.9", "64.4", "66.0", "66.5", "48.7"],
        ["ImageNet-Sketch", "MAE", "IN1K", "34.0", "34.5", "44.8", "45.3", "49.1", "49.6", "50.4", "50.9", "36.0"],
        ["ImageNet-V2", "MAE", "IN1K", "70.0", *["–"] * 8],
    ]
    lines = [*csv.DictReader(io.StringIO(render(table, "csv")))]
    assert {line["metric"] for line in lines if line["dataset"] == "imagenet-c"} == {"mCE"}
    assert {line["metric"] for line in lines if line["dataset"] != "imagenet-c"} == {"top1"}
    assert r"ImageNet-C (mCE, lower is better) & MAE & IN1K & 51.2 & 51.7" in render(table, "latex")


def test_the_lowest_mean_corruption_error_is_the_best() -> None:
    records = [
        record(dataset, value, make=make)
        for dataset in ("imagenet-c", "imagenet-a")
        for make, value in ((make_record, 50.0), (make_random, 90.0))
    ]
    (grid,) = read_markdown(render(build_table(records, "robustness")))
    ours = {(row[0][:10], row[1]): row[3] for row in grid[1:]}
    assert ours["ImageNet-C", "MAE"] == "**50.0**" and ours["ImageNet-C", "random"] == "90.0"
    assert ours["ImageNet-A", "MAE"] == "50.0" and ours["ImageNet-A", "random"] == "**90.0**"


@pytest.mark.parametrize(
    ("about", "expected"),
    [({}, 51.7), ({"model": "ViT-L"}, 41.8), ({"trained": "elsewhere"}, None), ({"deviations": ["a=1"]}, None)],
)
def test_the_papers_number_is_expected_of_a_run_of_the_same_kind(
    about: dict[str, object], expected: float | None
) -> None:
    first, other = with_expected(record("imagenet-c", 50.0, **about)).metrics  # type: ignore[arg-type]
    assert (first.expected, other.expected) == (expected, None)
