"""The paper's tables, and one like its third: which numbers each holds and in which form."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from results.errors import ResultsError
from results.metrics import LABELS_PER_CLASS

if TYPE_CHECKING:
    from results.record import Record


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables, or one of data sets of which the paper has no numbers.

    `datasets` maps our names to the paper's, or their authors'; `metrics` are named as in `results.metrics`. With
    `datasets_as_rows`, under a `title`, the data sets lie one below the other; otherwise the table is of one data set.
    `remark` is what a reader of the numbers should know, whole sentences. With `metric_of` each data set has its own
    one of the metrics, and all stand in the same columns.
    """

    name: str
    measures: str
    datasets: Mapping[str, str]
    metrics: tuple[str, ...]
    datasets_as_rows: bool = False
    title: str = ""
    remark: str = ""
    metric_of: Mapping[str, str] = field(default_factory=dict)

    def metric_on(self, dataset: str) -> str | None:
        """The metric of a data set where each has its own; None where all have all."""
        if not self.metric_of:
            return None
        return self.metric_of.get(dataset.removeprefix("own-"), self.metrics[0])

    def place(self, metric: str) -> int:
        """Where a metric's columns stand among the others'."""
        return 0 if self.metric_of else self.metrics.index(metric)


ROBUSTNESS = "robustness"
"""The table of data sets that are there to evaluate on only."""

PARTIAL = "partial"
"""The table of models of which the last blocks were trained."""

PAPER_TABLES = {
    table.name: table
    for table in (
        PaperTable(
            name="imagenet",
            measures="top-1 accuracy in %",
            datasets={"imagenet1k": "ImageNet-1K"},
            metrics=("top1",),
        ),
        PaperTable(
            name="coco",
            measures="AP of boxes and of masks in %",
            datasets={"coco2017": "COCO 2017"},
            metrics=("AP_box", "AP_mask"),
        ),
        PaperTable(
            name="ade20k",
            measures="mIoU in %",
            datasets={"ade20k": "ADE20K"},
            metrics=("mIoU",),
        ),
        PaperTable(
            name="transfer",
            measures="top-1 accuracy in %",
            datasets={
                "inat2017": "iNat 2017",
                "inat2018": "iNat 2018",
                "inat2019": "iNat 2019",
                "places205": "Places205",
                "places365": "Places365",
            },
            metrics=("top1",),
            datasets_as_rows=True,
            title="Transfer",
        ),
        PaperTable(
            name="transfer-more",
            measures="top-1 accuracy in %",
            datasets={
                "cifar10": "CIFAR-10",
                "cifar100": "CIFAR-100",
                "flowers102": "Flowers-102",
                "pets": "Oxford-IIIT Pets",
                "cars": "Stanford Cars",
                "aircraft": "FGVC Aircraft",
                "dtd": "DTD",
                "food101": "Food-101",
                "sun397": "SUN397",
                "caltech101": "Caltech-101",
                "eurosat": "EuroSAT",
            },
            metrics=("top1",),
            datasets_as_rows=True,
            title="Transfer to more data sets",
            remark="All are top-1; where the literature gives mean per-class accuracy, as for Flowers-102, Oxford-IIIT "
            "Pets, FGVC Aircraft and Caltech-101, that stands in the records as mean_class_accuracy.",
        ),
        PaperTable(
            name=ROBUSTNESS,
            measures="top-1 accuracy in %, on ImageNet-C mCE in % of AlexNet's errors",
            datasets={
                "imagenet-c": "ImageNet-C (mCE, lower is better)",
                "imagenet-a": "ImageNet-A",
                "imagenet-r": "ImageNet-R",
                "imagenet-sketch": "ImageNet-Sketch",
                "imagenet-v2": "ImageNet-V2",
                "imagenet-v2-threshold": "ImageNet-V2, threshold 0.7",
                "imagenet-v2-top": "ImageNet-V2, top images",
                "imagenet-real": "ImageNet-ReaL",
            },
            metrics=("top1", "mCE"),
            datasets_as_rows=True,
            title="Robustness",
            remark="Of classifiers that were fine-tuned on ImageNet-1K, evaluated only. On ImageNet-A and ImageNet-R "
            "the answers are restricted to their 200 classes. Of mCE the lowest is the best.",
            metric_of={"imagenet-c": "mCE"},
        ),
        PaperTable(
            name="probes",
            measures="top-1 accuracy in % of what is trained on frozen features",
            datasets={"imagenet1k": "ImageNet-1K"},
            metrics=(
                *("knn20_top1", "linear_grid_top1", "logistic_top1", "linear_probe_top1"),
                *(f"labels{count}_top1" for count in LABELS_PER_CLASS),
            ),
            remark="Of probes each column is a measurement of its own: 20-NN of the 20 nearest training images, the "
            "linear grid and the logistic regression of the classifier that did best on held-out training images, the "
            "linear probe of MAE's protocol, the others of so many labelled images a class. None is to be held against "
            "fine-tuning.",
        ),
        PaperTable(
            name="probes-dense",
            measures="mIoU in % of what is trained on frozen features",
            datasets={"ade20k": "ADE20K"},
            metrics=("linear_mIoU",),
            remark="Of a batch norm and a linear layer on the patches of a frozen backbone (DINOv2's linear "
            "segmentation). None is to be held against UPerNet, with which the backbone trains.",
        ),
        PaperTable(
            name=PARTIAL,
            measures="top-1 accuracy in % after fine-tuning of the last blocks alone",
            datasets={"imagenet1k": "ImageNet-1K"},
            metrics=("partial_top1",),
            remark="A column is of so many blocks that trained, with the norm and the head behind them. "
            "`--layout partial --picture FILE.png` draws accuracy over blocks.",
        ),
    )
}


FORMATS = ("md", "csv", "latex")
"""How a table can be written: see results/table_formats.py."""


def find_table(name: str) -> PaperTable:
    """The table of that name. Raises ResultsError that names the nearest one; people know it as a `--layout`."""
    if name in PAPER_TABLES:
        return PAPER_TABLES[name]
    nearest = difflib.get_close_matches(name, PAPER_TABLES, n=1)
    hint = f' Did you mean "{nearest[0]}"?' if nearest else ""
    raise ResultsError(f'layout "{name}": no such layout.{hint} There are: {", ".join(PAPER_TABLES)}')


def table_of(record: "Record") -> str | None:
    """The name of the paper's table that a record says it belongs to, None if that is none of them."""
    return record.table if record.table in PAPER_TABLES else None
