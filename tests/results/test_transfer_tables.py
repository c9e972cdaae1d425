"""The paper's third table whole, and its like for data sets without published numbers."""

import csv
import io

from results import build_table, reference_rows, render
from results.paper_tables import PAPER_TABLES
from results.record import Record
from tests.support.results_examples import make_random, make_record, read_markdown

PAPER = {(row.dataset, row.model): row.value for row in reference_rows("transfer")}
MODELS = ("ViT-B", "ViT-L", "ViT-H", "ViT-H-448")


def whole() -> list[Record]:
    """MAE in every size on every set, half a point below the paper."""
    return [
        make_record(PAPER[dataset, model] - 0.5, dataset=dataset, table="transfer", model=model, backbone=model)
        for dataset in reversed(PAPER_TABLES["transfer"].datasets)
        for model in reversed(MODELS)
    ]


def test_the_third_table_reads_as_in_the_paper() -> None:
    """Data sets as rows, sizes as columns, the previous best beside."""
    (grid,) = read_markdown(render(build_table(whole(), "transfer")))
    sizes = [heading for model in MODELS for heading in (model, f"{model} (paper)")]
    assert grid[0] == ["data set", "method", "pre-train data", *sizes, "prev best (paper)"]
    assert grid[1:] == [
        ["iNat 2017", "MAE", "IN1K", "70.0", "70.5", "75.2", "75.7", "78.8", "79.3", "82.9", "83.4", "75.4"],
        ["iNat 2018", "MAE", "IN1K", "74.9", "75.4", "79.6", "80.1", "82.5", "83.0", "86.3", "86.8", "81.2"],
        ["iNat 2019", "MAE", "IN1K", "80.0", "80.5", "82.9", "83.4", "85.2", "85.7", "87.8", "88.3", "84.1"],
        ["Places205", "MAE", "IN1K", "63.4", "63.9", "65.3", "65.8", "65.4", "65.9", "66.3", "66.8", "66.0"],
        ["Places365", "MAE", "IN1K", "57.4", "57.9", "58.9", "59.4", "59.3", "59.8", "59.8", "60.3", "58.0"],
    ]


def test_it_says_the_same_in_csv_and_latex() -> None:
    table = build_table(whole(), "transfer")
    lines = [*csv.DictReader(io.StringIO(render(table, "csv")))]
    ours = {(line["dataset"], line["model"]): float(line["value"]) for line in lines if line["published"] == "false"}
    assert ours == {place: value - 0.5 for place, value in PAPER.items() if place[1]}
    assert len(lines) - len(ours) == len(PAPER)
    latex = render(table, "latex")
    assert r"\caption{Transfer: top-1 accuracy in \%." in latex and r"\begin{tabular}{llllrlrlrlrr}" in latex
    assert r"iNat 2018 & MAE & IN1K & 74.9 & 75.4 & 79.6 & 80.1 & 82.5 & 83.0 & 86.3 & 86.8 & 81.2 \\" in latex


def test_more_data_sets_stand_in_a_table_without_published_numbers() -> None:
    about = {"table": "transfer-more"}
    records = [
        make_record(88.0, dataset="eurosat", **about),
        make_random(52.5, dataset="cifar100", **about),
        make_record(90.1, dataset="cifar100", **about),
        make_record(91.2, dataset="cifar100", model="ViT-L", backbone="mae_vit_large", **about),
    ]
    text = render(build_table(records, "transfer-more"))
    assert text.startswith("### Transfer to more data sets: top-1 accuracy in %\n")
    assert read_markdown(text) == [
        [
            ["data set", "method", "pre-train data", "ViT-B", "ViT-L"],
            ["CIFAR-100", "MAE", "IN1K", "**90.1**", "91.2"],
            ["CIFAR-100", "random", "–", "52.5", "–"],
            ["EuroSAT", "MAE", "IN1K", "88.0", "–"],
        ]
    ]
    assert "(paper)" not in text
    assert "as for Flowers-102, Oxford-IIIT Pets, FGVC Aircraft and Caltech-101" in text.splitlines()[-1]
    assert r"in the records as mean\_class\_accuracy." in render(build_table(records, "transfer-more"), "latex")


def test_images_that_were_held_out_here_are_a_footnote() -> None:
    """SUN397 has published partitions, which may be there or not; Caltech-101 and EuroSAT have none."""
    (drawn, published) = (make_record(80.0, dataset=dataset, table="transfer-more") for dataset in ("eurosat", "dtd"))
    (metric,) = drawn.metrics
    drawn = drawn.model_copy(update={"metrics": [metric.model_copy(update={"split": "holdout"})]})
    text = render(build_table([drawn, published], "transfer-more"))
    assert [[line[0], line[-1]] for line in read_markdown(text)[0][1:]] == [["DTD", "80.0"], ["EuroSAT", "80.0 †a"]]
    assert "- †a: evaluated on images held out here, not on a published split" in text
