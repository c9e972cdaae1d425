"""The paper's tables: which numbers each holds and in which form."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from results.errors import ResultsError
from results.record import Record


@dataclass(frozen=True)
class Layout:
    """One of the paper's tables.

    `datasets` and `metrics` map our names to the paper's. With `datasets_as_rows` the data sets lie one below the
    other; otherwise the table is of one data set.
    """

    name: str
    measures: str
    tasks: tuple[str, ...]
    datasets: Mapping[str, str]
    metrics: Mapping[str, str]
    datasets_as_rows: bool = False


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            name="imagenet",
            measures="top-1 accuracy in %",
            tasks=("classification",),
            datasets={"imagenet1k": "ImageNet-1K"},
            metrics={"top1": "top-1"},
        ),
        Layout(
            name="coco",
            measures="AP of boxes and of masks in %",
            tasks=("detection", "instance_segmentation"),
            datasets={"coco2017": "COCO 2017"},
            metrics={"AP_box": "AP box", "AP_mask": "AP mask"},
        ),
        Layout(
            name="ade20k",
            measures="mIoU in %",
            tasks=("semantic_segmentation", "segmentation"),
            datasets={"ade20k": "ADE20K"},
            metrics={"mIoU": "mIoU"},
        ),
        Layout(
            name="transfer",
            measures="top-1 accuracy in %",
            tasks=("classification",),
            datasets={
                "inat2017": "iNat 2017",
                "inat2018": "iNat 2018",
                "inat2019": "iNat 2019",
                "places205": "Places205",
                "places365": "Places365",
            },
            metrics={"top1": "top-1"},
            datasets_as_rows=True,
        ),
    )
}


def find_layout(name: str) -> Layout:
    """The layout of that name. Raises ResultsError that names the nearest one."""
    if name in LAYOUTS:
        return LAYOUTS[name]
    nearest = difflib.get_close_matches(name, LAYOUTS, n=1)
    hint = f' Did you mean "{nearest[0]}"?' if nearest else ""
    raise ResultsError(f'layout "{name}": no such layout.{hint} There are: {", ".join(LAYOUTS)}')


def layout_of(record: Record) -> str | None:
    """The layout that a record belongs to: the one it names, else that of its data set, else that of its task."""
    if record.table in LAYOUTS:
        return record.table
    candidates = [layout for layout in LAYOUTS.values() if record.task in layout.tasks]
    for layout in candidates:
        if record.dataset in layout.datasets:
            return layout.name
    return candidates[0].name if candidates else None
