"""Places205 as its makers distribute it (Zhou et al. 2014), or in class folders.

    trainvalsplit_places205/train_places205.csv   lines such as `a/abbey/gsun_0001.jpg 0`: no CSV but by its name
    trainvalsplit_places205/val_places205.csv
    data/vision/torralba/deeplearning/images256/  the images of both, as imagesPlaces205_resize.tar.gz unpacks

Class names are the folders'; `categoryIndex_places205.csv`, which comes with the makers' networks, is read if it is
there. The lists may lie in the root as well, and so may `images256/`.
"""

from collections.abc import Callable
from pathlib import Path

from backbones.images.observing import looking_at
from tasks.datasets.check_report import CheckReport
from tasks.datasets.image_lists.check import check_listed
from tasks.datasets.image_lists.counts import PLACES205
from tasks.datasets.image_lists.files import is_filled
from tasks.datasets.image_lists.listed import Layout, Listed, open_listed
from tasks.datasets.image_lists.places import Files, read_places
from tasks.datasets.labelled import LabelledSplit

_LISTS_FOLDERS = ("trainvalsplit_places205", ".")
_IMAGES_FOLDERS = ("data/vision/torralba/deeplearning/images256", "images256")
_TRAIN, _VAL, _CATEGORIES = "train_places205.csv", "val_places205.csv", "categoryIndex_places205.csv"
_BOTH = (_TRAIN, _VAL)


def open_places205(root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Training and validation images below `root`, in the classes' own order. Raises DataError as `open_listed`."""
    return open_listed(_LAYOUT, root)


def check_places205(
    root: Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look for every mistake below `root`, see `check_listed`. There are no settings: the layout is recognised."""
    return check_listed(_LAYOUT, root, on_progress)


def _read(root: Path) -> Listed:
    for name in _LAYOUT.lists:
        looking_at(root / name)
    lists = next(root / name for name in _LISTS_FOLDERS if any((root / name / each).exists() for each in _BOTH))
    images = next((root / name for name in _IMAGES_FOLDERS if is_filled(root / name)), root / _IMAGES_FOLDERS[0])
    places = Files(
        lists={"train": lists / _TRAIN, "val": lists / _VAL},
        images={"train": images, "val": images},
        categories=lists / _CATEGORIES,
        source=dict.fromkeys(("train", "val"), "from trainvalsplit_places205.tar.gz"),
        is_complete_without=True,
    )
    return read_places(root, "Places205, lists and 256-pixel images", places)


_LAYOUT = Layout(
    name="places205",
    lists=[f"{folder}/{name}" if folder != "." else name for folder in _LISTS_FOLDERS for name in _BOTH],
    expected=f"{_LISTS_FOLDERS[0]}/{_TRAIN} and {_VAL}, and the images in {_IMAGES_FOLDERS[0]}/",
    read=_read,
    counts=PLACES205,
    images=_IMAGES_FOLDERS,
)
