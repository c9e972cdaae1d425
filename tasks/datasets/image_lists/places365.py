"""Places365-Standard as its makers distribute it (Zhou et al. 2017), or in class folders.

    places365_train_standard.txt   lines such as `/a/airfield/00000001.jpg 0`, of images in data_256/ or data_large/,
                                   which torchvision calls data_256_standard/ and data_large_standard/
    places365_val.txt              `Places365_val_00000001.jpg 165`, of images in val_256/ or val_large/
    categories_places365.txt       `/a/airfield 0`

The "easy directory structure", `train/CLASS/*.jpg` and `val/CLASS/*.jpg`, is a tree of class folders.
"""

from collections.abc import Callable
from pathlib import Path

from backbones.images.observing import looking_at
from tasks.datasets.check_report import CheckReport
from tasks.datasets.image_lists.check import check_listed
from tasks.datasets.image_lists.counts import PLACES365
from tasks.datasets.image_lists.files import is_filled
from tasks.datasets.image_lists.listed import Layout, Listed, open_listed
from tasks.datasets.image_lists.places import Files, read_places
from tasks.datasets.labelled import LabelledSplit

_TRAIN, _VAL, _CATEGORIES = "places365_train_standard.txt", "places365_val.txt", "categories_places365.txt"
_CHALLENGE = "places365_train_challenge.txt"
_ARCHIVE = "from filelist_places365-standard.tar"
_SIZES = {
    "256-pixel": (("data_256_standard", "data_256"), "val_256"),
    "large": (("data_large_standard", "data_large"), "val_large"),
}
"""The folders of training and validation images of each size. One job takes both splits of one size."""
_BOTH_SIZES = (
    "Images of both sizes lie there: the 256-pixel ones are used. For the large ones pass a folder with links to the "
    "lists, data_large/ and val_large/ alone."
)


def open_places365(root: Path) -> tuple[LabelledSplit, LabelledSplit]:
    """Training and validation images below `root`, in the classes' own order. Raises DataError as `open_listed`."""
    return open_listed(_LAYOUT, root)


def check_places365(
    root: Path, settings: None = None, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Look for every mistake below `root`, see `check_listed`. There are no settings: the layout is recognised."""
    return check_listed(_LAYOUT, root, on_progress)


def _read(root: Path) -> Listed:
    size, train, val, notes = _find_images(root)
    looking_at(root / _CHALLENGE)
    source = {"train": _ARCHIVE, "val": _ARCHIVE}
    if (root / _CHALLENGE).exists():
        source["train"] += f"; {_CHALLENGE} lists another training set than Standard's"
    places = Files(
        lists={"train": root / _TRAIN, "val": root / _VAL},
        images={"train": train, "val": val},
        categories=root / _CATEGORIES,
        source=source,
    )
    found = read_places(root, f"Places365-Standard, lists and {size} images", places)
    found.notes += notes
    return found


def _find_images(root: Path) -> tuple[str, Path, Path, list[str]]:
    """Which size lies there, where, and a note if both do: the size of which most is there, of equals the smaller."""
    found = {}
    for size, (train_names, val_name) in _SIZES.items():
        train = next((root / name for name in train_names if is_filled(root / name)), root / train_names[-1])
        val = root / val_name
        found[size] = (train, val, is_filled(train) + is_filled(val))
    size = max(found, key=lambda each: found[each][2])
    complete = [each for each in found if found[each][2] == 2]
    notes = [] if len(complete) < 2 else [_BOTH_SIZES]
    return size, *found[size][:2], notes


_LAYOUT = Layout(
    name="places365",
    lists=(_TRAIN, _VAL),
    expected=f"{_TRAIN}, {_VAL}, {_CATEGORIES}, and the images in data_256/ and val_256/ or data_large/ and val_large/",
    read=_read,
    counts=PLACES365,
    images=[name for train_names, val_name in _SIZES.values() for name in (*train_names, val_name)],
)
