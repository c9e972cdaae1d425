"""Open and check the sets that torchvision reads, each also as a tree of class folders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tasks.datasets.check_report import CheckReport
from tasks.datasets.image_lists.check import check_listed
from tasks.datasets.image_lists.listed import Layout, open_listed
from tasks.datasets.labelled import LabelledSplit
from tasks.datasets.torchvision_layouts import sets
from tasks.datasets.torchvision_layouts.counts import COUNTS
from tasks.datasets.torchvision_layouts.places import torchvision_root
from tasks.datasets.torchvision_layouts.reading import read_set
from tasks.datasets.torchvision_layouts.sets import TorchvisionSet


def open_set(spec: TorchvisionSet, root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Both splits, training first, of the set in `root`, which is torchvision's root or the set's own folder in it.

    Raises DataError for what is neither that nor class folders, and for what cannot be used.
    """
    return open_listed(_layout(spec), torchvision_root(spec, root))


def check_set(
    spec: TorchvisionSet,
    root: str | Path,
    settings: None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Look for every mistake, and decode every image in full. There are no settings.

    `on_progress(done, total)` is called after each image.
    """
    return check_listed(_layout(spec), torchvision_root(spec, Path(root)), on_progress)


def _layout(spec: TorchvisionSet) -> Layout:
    return Layout(
        name=spec.name,
        lists=(spec.folder,),
        expected=f"{spec.folder}/ with {', '.join(spec.files)} in it, as torchvision.datasets.{spec.kind} has them "
        f"of {spec.source}",
        read=partial(read_set, spec),
        counts=COUNTS[spec.name],
    )


open_cifar10, check_cifar10 = partial(open_set, sets.CIFAR10), partial(check_set, sets.CIFAR10)
open_cifar100, check_cifar100 = partial(open_set, sets.CIFAR100), partial(check_set, sets.CIFAR100)
open_flowers102, check_flowers102 = partial(open_set, sets.FLOWERS102), partial(check_set, sets.FLOWERS102)
open_pets, check_pets = partial(open_set, sets.PETS), partial(check_set, sets.PETS)
open_cars, check_cars = partial(open_set, sets.CARS), partial(check_set, sets.CARS)
open_aircraft, check_aircraft = partial(open_set, sets.AIRCRAFT), partial(check_set, sets.AIRCRAFT)
open_dtd, check_dtd = partial(open_set, sets.DTD), partial(check_set, sets.DTD)
open_food101, check_food101 = partial(open_set, sets.FOOD101), partial(check_set, sets.FOOD101)
open_sun397, check_sun397 = partial(open_set, sets.SUN397), partial(check_set, sets.SUN397)
open_caltech101, check_caltech101 = partial(open_set, sets.CALTECH101), partial(check_set, sets.CALTECH101)
open_eurosat, check_eurosat = partial(open_set, sets.EUROSAT), partial(check_set, sets.EUROSAT)
