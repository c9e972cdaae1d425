"""What the commands print."""

import difflib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.text import Text

from backbones.errors import InputError
from backbones.training.machine import process_rank
from backbones.training.progress import progress_line
from backbones.training.settings import Settings, read_settings, validate
from backbones.weights.loading import LoadReport
from benchmarks.commands.listing import plain_table
from benchmarks.running.cells import FinishedCell
from results import Metric

if TYPE_CHECKING:
    from tasks.datasets.check_report import CheckReport

AnySettings = TypeVar("AnySettings", bound=Settings)


def show_cell(cell: FinishedCell) -> None:
    """A finished run: its numbers, what they deviate in, and where everything lies."""
    if process_rank() != 0:
        return
    record = cell.record
    console = Console(highlight=False, markup=False)
    state = " (finished before; nothing to do)" if cell.skipped else ""
    headline = Text.assemble(
        (record.backbone, "bold"), f" on {record.dataset}, recipe {record.recipe}, seed {record.seed}{state}"
    )
    console.print(headline, soft_wrap=True)
    for metric in record.metrics:
        if metric.ci_low is not None or len(record.metrics) == 1:
            images = f", {metric.n_eval:,} images" if metric.n_eval else ""
            console.print(f"  {metric.name} {_shown(metric)}{_interval(metric)}{images}")
    others = [f"{metric.name} {_shown(metric)}" for metric in record.metrics if metric.ci_low is None]
    if others and len(record.metrics) > 1:
        console.print(f"  {', '.join(others)}", soft_wrap=True)
    for title, lines in (
        ("deviates", record.deviations),
        ("note", record.notes),
        ("unreadable image", record.corrupt_images[:5]),
    ):
        for line in lines:
            console.print(f"  {title}: {line}", soft_wrap=True)
    if (more := len(record.corrupt_images) - 5) > 0:
        console.print(f"  and {more} more unreadable images, all named in record.json")
    for path in outputs(cell.directory):
        console.print(f"  {path}", soft_wrap=True)


def _shown(metric: Metric) -> str:
    return f"{metric.value:.2f}" + ("" if "loss" in metric.name else " %")


def _interval(metric: Metric) -> str:
    return "" if metric.ci_low is None else f"  95 % interval {metric.ci_low:.2f} to {metric.ci_high:.2f}"


def outputs(directory: Path) -> list[Path]:
    """The files of a finished run that a person opens next: record, exported weights, last picture."""
    pictures = sorted((directory / "pictures").glob("*.png"), key=lambda path: path.stat().st_mtime)
    wanted = [directory / "record.json", directory / "checkpoints/encoder.pth", *pictures[-1:]]
    return [path for path in wanted if path.exists()]


def show_checkpoint(path: Path, backbone: str | None) -> None:
    """What a checkpoint is, and where each weight lands in a backbone."""
    from backbones.inspection import describe
    from backbones.weights.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(path)
    description = describe(checkpoint, backbone)
    table = plain_table("", "")
    table.show_header = False
    table.add_row("file", f"{path} ({checkpoint.size / 2**20:,.1f} MiB, {checkpoint.kind})")
    table.add_row("sha256", checkpoint.sha256)
    table.add_row("weights", f"{len(checkpoint.state_dict):,} tensors, {checkpoint.parameters:,} numbers")
    table.add_row("found under", checkpoint.container or "the file itself")
    for name, value in checkpoint.extras.items():
        table.add_row(name, value)
    for name, value in asdict(description.recognised).items():
        if value not in (None, False):
            table.add_row(name.replace("_", " "), str(value))
    table.add_row("fits", ", ".join(description.fits) or "none of the registered backbones")
    console = Console(highlight=False)
    console.print(table)
    if description.report:
        _show_report(console, description.report, backbone or "")


def _show_report(console: Console, report: LoadReport, backbone: str) -> None:
    console.print(f"\n{backbone}: {report.summary()}", soft_wrap=True)
    table = plain_table("what", "weight", "why or from where")
    for name, sources in report.used.items():
        table.add_row("converted" if name in report.converted else "loaded", name, ", ".join(sources))
    for what, account in (("dropped", report.dropped), ("initialised", report.initialised)):
        for name, reason in account.items():
            table.add_row(what, name, reason)
    console.print(table)


def draw_mini(root: Path, **settings: Any) -> None:
    """Draw the generated data set, with the settings of `write_mini`, and say what lies where."""
    from benchmarks.mini import write_mini

    with progress_line("drawing", 0, "images") as line:
        summary = write_mini(root, on_progress=line.update, **settings)
    state = "drawn" if summary.drawn else "complete already"
    print(
        f"{root}: {summary.unlabelled:,} unlabelled, {summary.train:,} training and {summary.val:,} evaluation images "
        f"of {len(summary.classes)} classes, {state}"
    )
    print(f"{root}/coco: {summary.coco_train:,} training and {summary.coco_val:,} evaluation images in COCO's format")
    print(f"{root}/ade20k: {summary.ade_train:,} training and {summary.ade_val:,} evaluation images in ADE20K's format")


def show_data_check(dataset: str, root: Path, overrides: list[str]) -> bool:
    """Print what the check finds; False if it found a problem.

    `overrides` say where the parts of a set lie that has settings, such as `data.train_json=FILE` for COCO's format.
    Raises InputError for an unusable layout of class folders, and for settings that the data set doesn't have.
    """
    from tasks.datasets import DATASETS

    if dataset not in DATASETS:
        near = difflib.get_close_matches(dataset, DATASETS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(DATASETS)}"
        raise InputError(f"data set {dataset}: not known. {hint}")
    with progress_line("reading", 0, "images") as line:
        report = _check_data(dataset, root, overrides, line.update)
    _show_check(root, report)
    return not report.problems


def _check_data(
    dataset: str, root: Path, overrides: list[str], on_progress: Callable[[int, int], None]
) -> "CheckReport":
    from tasks.datasets.class_folders.check import check
    from tasks.datasets.coco.check import check_coco
    from tasks.datasets.coco.layout import CocoDataSettings
    from tasks.datasets.label_maps.check import check_ade20k
    from tasks.datasets.label_maps.layout import SegmentationDataSettings

    if dataset == "coco":
        return check_coco(root, _data_settings(CocoDataSettings, overrides), on_progress)
    if dataset == "ade20k":
        return check_ade20k(root, _data_settings(SegmentationDataSettings, overrides), on_progress)
    if overrides:
        raise InputError(f"--set {overrides[0]}: only the data sets coco and ade20k have such settings")
    return check(root, on_progress)


def _data_settings(kind: type[AnySettings], overrides: list[str]) -> AnySettings:
    from pydantic import create_model

    sections = create_model("Sections", __base__=Settings, data=(kind, kind()))
    settings: AnySettings = dict(validate(sections, read_settings([], overrides), "data check"))["data"]
    return settings


def _show_check(root: Path, report: "CheckReport") -> None:
    from tasks.datasets.wording import counted

    console = Console(highlight=False, markup=False)
    console.print(f"{root}: {report.layout}, {len(report.classes):,} {report.kinds}", soft_wrap=True)
    counts = [
        f"{split}: {count:,} images"
        + (f", {report.annotations[split]:,} annotations" if split in report.annotations else "")
        for split, count in report.counts.items()
    ]
    if report.smallest and report.largest:
        (smallest, few), (largest, many) = report.smallest, report.largest
        unit = report.size_unit
        counts.append(f"smallest class {smallest} ({counted(few, unit)}), largest {largest} ({counted(many, unit)})")
    notes = [f"note: {note}" for note in report.notes]
    verdict = f"{len(report.problems)} problem(s)" if report.problems else "no problem: every image can be read"
    for line in [*counts, *notes, *report.problems, verdict]:
        console.print(f"  {line}", soft_wrap=True)
