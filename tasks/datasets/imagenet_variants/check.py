"""Check a set before it is used: every mistake at once, and every image that cannot be decoded."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tasks.datasets.check_report import CheckReport
from tasks.datasets.decoding import decode_all
from tasks.datasets.imagenet_variants import counts
from tasks.datasets.imagenet_variants.corrupted import list_corrupted
from tasks.datasets.imagenet_variants.layout import VARIANTS, Variant, open_variant
from tasks.datasets.imagenet_variants.reassessed import open_imagenet_real
from tasks.datasets.labelled import LabelledSplit
from tasks.datasets.wording import name_some

Progress = Callable[[int, int], None] | None

_PER_CLASS = {name: 10 for name, variant in VARIANTS.items() if variant.numbered}
"""How many images each class has, where it is the same number."""


def check_variant(name: str, root: str | Path, settings: None = None, on_progress: Progress = None) -> CheckReport:
    """Look for every mistake in one of `VARIANTS`. There are no settings.

    `on_progress(done, total)` is called after each image. Raises DataError where nothing can be listed.
    """
    variant, (_, split) = VARIANTS[name], open_variant(name, Path(root))
    report = _report(split)
    report.problems += _classes_without(split, variant)
    report.problems += _unlike_count(len(split.paths), counts.COUNTS[name].evaluation_images)
    if expected := _PER_CLASS.get(name):
        report.problems += _unlike_classes(split, variant.labels, expected)
    decode_all({split.split: split}, report, on_progress)
    return report


def check_imagenet_c(root: str | Path, settings: None = None, on_progress: Progress = None) -> CheckReport:
    """Look for every mistake in ImageNet-C's folders; otherwise as `check_variant`."""
    split, problems = list_corrupted(Path(root))
    if split is None:
        return CheckReport(layout="ImageNet-C", problems=problems)
    report = _report(split)
    report.counts = {f"in each of {len(split.parts)} parts": len(split.paths)}
    report.problems += problems
    labels = {name: position for position, name in enumerate(split.classes)}
    report.problems += _unlike_count(len(split.paths), counts.COUNTS["imagenet-c"].evaluation_images, " in a part")
    report.problems += _unlike_classes(split, labels, 50)
    decode_all({folder: split.part(folder) for folder in split.parts}, report, on_progress)
    return report


def check_imagenet_real(root: str | Path, settings: None = None, on_progress: Progress = None) -> CheckReport:
    """Look for every mistake in ImageNet's validation images and real.json; otherwise as `check_variant`."""
    _, split = open_imagenet_real(Path(root))
    report = _report(split)
    report.problems += _unlike_count(len(split.paths), counts.COUNTS["imagenet-real"].evaluation_images, " with labels")
    decode_all({split.split: split}, report, on_progress)
    return report


def _report(split: LabelledSplit) -> CheckReport:
    labels = [*range(len(split.classes))] if split.candidates is None else split.candidates
    report = CheckReport(
        layout=split.layout,
        classes=[split.classes[label] for label in labels],
        counts={split.split: len(split.paths)},
        notes=[split.note] if split.note else [],
    )
    times = Counter(split.labels.tolist())
    report.set_extremes([times[label] for label in labels])
    return report


def _classes_without(split: LabelledSplit, variant: Variant) -> list[str]:
    present = {*split.labels.tolist()}
    absent = [name for name, label in variant.labels.items() if label not in present]
    return [f"{split.root}: no image of {name_some(absent, len(absent))}"] if absent else []


def _unlike_count(found: int, published: int, of: str = "") -> list[str]:
    return [] if found == published else [f"{found:,} images{of}, where {published:,} are published"]


def _unlike_classes(split: LabelledSplit, labels: Mapping[str, int], expected: int) -> list[str]:
    times = Counter(split.labels.tolist())
    unlike = [f"{name} ({times[label]:,})" for name, label in labels.items() if times[label] != expected]
    where = split.paths.root
    return [f"{where}: not {expected} images in each class: {name_some(unlike, len(unlike))}"] if unlike else []


check_imagenet_a = partial(check_variant, "imagenet-a")
check_imagenet_r = partial(check_variant, "imagenet-r")
check_imagenet_sketch = partial(check_variant, "imagenet-sketch")
check_imagenet_v2 = partial(check_variant, "imagenet-v2")
check_imagenet_v2_threshold = partial(check_variant, "imagenet-v2-threshold")
check_imagenet_v2_top = partial(check_variant, "imagenet-v2-top")
