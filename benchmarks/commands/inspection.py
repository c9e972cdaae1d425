"""What `backbench inspect` prints: what a checkpoint is, and where each weight lands in a backbone."""

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backbones.images.normalisation import Normalisation
from backbones.inspection import CheckpointDescription, describe
from backbones.weights.checkpoints import Checkpoint, read_checkpoint
from backbones.weights.loading import LoadReport
from backbones.weights.references import SEPARATOR, part_name
from backbones.weights.unreadable import unfinished
from benchmarks.commands.sheets import Sheet, print_json, show
from tasks.data_sets import pretraining_name
from tasks.registry import TASKS

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
"""A part of a tensor's name that numbers a block."""


def show_checkpoint(path: Path, backbone: str | None, *, full: bool, as_json: bool) -> None:
    """Print what a checkpoint is; its weights block by block, or each by itself where `full`.

    Raises InputError, and prints nothing, where it contradicts the backbone's method or does not fit.
    """
    checkpoint = read_checkpoint(path)
    description = describe(checkpoint, backbone, pretraining_name)
    normalisations = _normalisations(checkpoint, backbone)
    if as_json:
        print_json(_document(description, normalisations, backbone))
    else:
        show(Sheet(("", ""), [*_facts(description, normalisations, backbone)]), with_headings=False)
        if report := description.report:
            print(f"\n{backbone}: {report.summary()}")
            show(_weights(report) if full else grouped(_weights(report)))


def _facts(
    description: CheckpointDescription, normalisations: dict[str, Normalisation], backbone: str | None
) -> Iterable[tuple[str, str]]:
    checkpoint = description.checkpoint
    yield "file", f"{checkpoint.path} ({checkpoint.size / 2**20:,.1f} MiB, {checkpoint.kind})"
    yield "sha256", checkpoint.sha256
    yield "weights", f"{len(checkpoint.state_dict):,} tensors, {checkpoint.parameters:,} numbers"
    yield "found under", part_name(checkpoint.container, checkpoint.prefix) or "the file itself"
    yield from checkpoint.extras.items()
    for name, value in asdict(description.recognised).items():
        if value not in (None, False):
            label = "method by its names" if name == "method" else name.replace("_", " ")
            yield label, "×".join(map(str, value)) if name == "grid" else str(value)
    for task, normalisation in normalisations.items():
        yield f"normalisation{task and f', {task}'}", str(normalisation)
    if description.statement.method or description.statement.pretrain_data:
        yield "says", str(description.statement)
    if known := description.published:
        yield "published as", f"{known.name}: {known.method}, {known.pretrain_data}, {known.model}"
    if origin := description.origin:
        yield f"as {backbone}", f"{origin.method}, {origin.pretrain_data}, {origin.model}"
        for remark in origin.remarks:
            yield "", remark
    if broken := description.undefined:
        yield "undefined numbers", f"in {', '.join(broken[:8])}{' …' if broken[8:] else ''}"
    if left := unfinished(checkpoint.state_dict):
        yield "to be done first", left.strip()
    yield "fits", ", ".join(description.fits) or "none of the registered backbones"
    for part in description.parts:
        yield f"part {part.name}", f"{part.tensors:,} tensors, {part.numbers:,} numbers: {part.recognised}"
        yield "", f"fits {', '.join(part.fits) or 'none of the registered backbones'}"
    if description.parts:
        yield "to take a part", f"--backbone NAME={checkpoint.path}{SEPARATOR}PART"


def _document(
    description: CheckpointDescription, normalisations: dict[str, Normalisation], backbone: str | None
) -> dict[str, Any]:
    checkpoint, known, origin = description.checkpoint, description.published, description.origin
    return {
        "file": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "bytes": checkpoint.size,
        "kind": checkpoint.kind,
        "container": checkpoint.container,
        "part": checkpoint.part,
        "parts": [asdict(part) for part in description.parts],
        "tensors": len(checkpoint.state_dict),
        "parameters": checkpoint.parameters,
        "extras": checkpoint.extras,
        "recognised": asdict(description.recognised),
        "says": asdict(description.statement),
        "published": known and known.name,
        "fits": description.fits,
        "backbone": backbone,
        "normalisation": {task or "all": found.as_dict() for task, found in normalisations.items()},
        "origin": asdict(origin) if origin else None,
        "undefined": description.undefined,
        "to_be_done_first": unfinished(checkpoint.state_dict).strip() or None,
        "report": asdict(description.report) if description.report else None,
    }


def _normalisations(checkpoint: Checkpoint, backbone: str | None) -> dict[str, Normalisation]:
    """How pixels are normalised for it in a backbone: under "" where all tasks do the same, else by task."""
    from backbones.normalising import normalisation_of
    from backbones.registry import find_backbone

    if backbone is None:
        return {}
    entry = find_backbone(backbone, with_checkpoint=True)
    by_task = {task: normalisation_of(entry, checkpoint, task, spell=pretraining_name) for task in TASKS}
    return by_task if len({*by_task.values()}) > 1 else {"": next(iter(by_task.values()))}


def _weights(report: LoadReport) -> Sheet:
    sheet = Sheet(("what", "weight", "why or from where"))
    for name, sources in report.used.items():
        sheet.rows.append(("converted" if name in report.converted else "loaded", name, ", ".join(sources)))
    for what, account in (("dropped", report.dropped), ("initialised", report.initialised)):
        sheet.rows.extend((what, name, reason) for name, reason in account.items())
    return sheet


def grouped(weights: Sheet) -> Sheet:
    """Weights that differ in the number of their block alone as one row: `blocks.0-11.norm1.weight`, 12 of them."""
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for row in weights.rows:
        groups.setdefault(tuple(", ".join(_patterns(entry)) for entry in row), []).append(tuple(row))
    sheet = Sheet(("what", "tensors", "weight", "why or from where"), numbers=frozenset({"tensors"}))
    for rows in groups.values():
        what, weight, why = (_ranges(entries) for entries in zip(*rows, strict=True))
        sheet.rows.append((what, str(len(rows)), weight, why))
    return sheet


def _patterns(entry: str) -> list[str]:
    return [_NUMBER.sub("#", name) for name in entry.split(", ")]


def _ranges(entries: Iterable[str]) -> str:
    """Names that differ in numbers as one, each of the numbers from the least to the greatest."""
    together = []
    for names in zip(*(entry.split(", ") for entry in entries), strict=True):
        numbers = zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)
        spans = iter([(min(column), max(column)) for column in numbers])
        together.append(_NUMBER.sub(lambda _, spans=spans: _span(*next(spans)), names[0]))  # type: ignore[misc]
    return ", ".join(together)


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least}-{most}"
