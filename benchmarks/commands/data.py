"""What the commands about data sets do and print: drawing the generated ones, checking any."""

import pkgutil
from pathlib import Path
from typing import Any

from pydantic import create_model

from backbones.errors import InputError
from backbones.training.progress_line import progress_line
from backbones.training.settings import Settings, read_settings, validate
from benchmarks.commands.console import plain_console
from benchmarks.mini import FEWEST_IMAGES, TRANSFER_SETS, write_mini, write_transfer_set
from benchmarks.mini.site import WEIGHTS, write_site
from tasks.data_sets import DATA_SETS, DataSet, find_data_set
from tasks.datasets.check_report import CheckReport
from tasks.datasets.wording import counted


def draw_mini(root: Path, **settings: Any) -> None:
    """Draw the generated data set, with the settings of `write_mini`, write its site file, and say what lies where."""
    with progress_line("drawing", 0, "images") as line:
        summary = write_mini(root, on_progress=line.update, **settings)
    state = "drawn" if summary.drawn else "complete already"
    print(
        f"{root}: {summary.unlabelled:,} unlabelled, {summary.train:,} training and {summary.val:,} evaluation images "
        f"of {len(summary.classes)} classes, {state}"
    )
    print(f"{root}/coco: {summary.coco_train:,} training and {summary.coco_val:,} evaluation images in COCO's format")
    print(f"{root}/ade20k: {summary.ade_train:,} training and {summary.ade_val:,} evaluation images in ADE20K's format")
    write_site(root)


def require_enough_for_transfer(train: int, val: int) -> None:
    """Raise InputError, before anything is drawn, for fewer images than iNaturalist's and Places' sets have classes."""
    for split, count in {"train": train, "val": val}.items():
        if count < FEWEST_IMAGES:
            raise InputError(f"--transfer-{split} {count}: expected at least {FEWEST_IMAGES}, one image per class.")


def draw_transfer_sets(root: Path, **settings: Any) -> None:
    """Draw the counterparts of iNaturalist and Places below `root`, with the settings of `write_transfer_set`."""
    for name in TRANSFER_SETS:
        with progress_line(f"drawing {name}", 0, "images") as line:
            summary = write_transfer_set(root / name, name, on_progress=line.update, **settings)
        print(
            f"{summary.root}: {summary.train:,} training and {summary.val:,} evaluation images of "
            f"{len(summary.classes)} classes, as {name} is distributed"
        )
    write_site(root)


def write_weights(root: Path, seed: int) -> None:
    """Write random weights for the mini models below `root`, and what they are."""
    from benchmarks.mini.weights import STAND_INS, write_stand_ins

    written = write_stand_ins(root / WEIGHTS, seed)
    write_site(root)
    state = "written" if written else "complete already"
    print(f"{root}/{WEIGHTS}: random weights of {len(STAND_INS)} mini models in their authors' files, {state}")


def show_data_check(name: str, root: Path, overrides: list[str]) -> bool:
    """Print what the check finds; False if it found a problem.

    `overrides` say where the parts of a set lie that has settings, such as `data.train_json=FILE` for COCO's format.
    Raises InputError for an unusable layout of class folders, and for settings that the data set doesn't have.
    """
    data_set = find_data_set(name)
    settings = _data_settings(data_set, overrides)
    check = data_set.check()
    with progress_line("reading", 0, "images") as line:
        report: CheckReport = check(root, settings, line.update)
    _show_check(root, report)
    return not report.problems


def _data_settings(data_set: DataSet, overrides: list[str]) -> Settings | None:
    """Where the parts of a data set are, as far as it has settings that say so."""
    if data_set.settings is None:
        if overrides:
            others = " and ".join(each.name for each in DATA_SETS.values() if each.settings)
            raise InputError(f"--set {overrides[0]}: only the data sets {others} have such settings")
        return None
    kind: type[Settings] = pkgutil.resolve_name(data_set.settings)
    sections = create_model("Sections", __base__=Settings, data=(kind, kind()))
    settings: Settings = dict(validate(sections, read_settings([], overrides), "data check"))["data"]
    return settings


def _show_check(root: Path, report: CheckReport) -> None:
    console = plain_console()
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
