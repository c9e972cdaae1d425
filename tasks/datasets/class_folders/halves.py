"""The two halves of a divided data set, told by their folders' names, where they would be taken for something else."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from backbones.errors import DataError
from backbones.images.folders import folder_names

VALIDATION_FOLDERS = ("val", "validation")
KAGGLE_FOLDER = "ILSVRC/Data/CLS-LOC"

_TRAINING_WORDS = frozenset({"train", "training", "trainset", "trainval"})
_EVALUATION_WORDS = frozenset(
    {"val", "valid", "validation", "validate", "valset", "test", "testing", "testset", "eval", "evaluation", "dev"}
)


_NEUTRAL_WORDS = frozenset({"set", "data", "dataset", "images", "imgs", "folder", "split"})


def refuse_half(root: Path) -> None:
    """Raise DataError for one half of a divided data set, which would be divided anew."""
    absolute = Path(os.path.abspath(root))  # noqa: PTH100 - a link stays a link: it may lead here on purpose
    if absolute.name not in ("train", *VALIDATION_FOLDERS):
        return
    above = absolute.parent
    beside = folder_names(above) if above.is_dir() else []
    validation = next((name for name in VALIDATION_FOLDERS if name in beside), None)
    if validation is None or "train" not in beside or absolute.name not in ("train", validation):
        return
    if above.as_posix().endswith(f"/{KAGGLE_FOLDER}"):
        above = above.parents[2]
    raise DataError(
        f"{root}: one half of a data set, with train/ and {validation}/ beside each other. Training on a part of it "
        f"and evaluating on the rest is hardly meant: pass the folder above, {above}. For that all the same, pass a "
        f"link to it of another name."
    )


def refuse_halves_as_classes(root: Path) -> None:
    """Raise DataError for folders such as `Train` and `Test`, which would be taken for two classes.

    Other folders beside them tell that they are classes indeed, unless both hold folders of their own.
    """
    folders = folder_names(root) if root.is_dir() else []
    training = training_folders(folders)
    evaluation = [
        name
        for name in evaluation_folders(folders)
        if any(_rest(name, _EVALUATION_WORDS) == _rest(other, _TRAINING_WORDS) for other in training)
    ]
    if not evaluation:
        return
    halves = [*training, *evaluation]
    if len(halves) < len(folders) and not all(folder_names(root / name) for name in halves):
        return
    pair = f"{training[0]}/ and {evaluation[0]}/"
    raise DataError(
        f"{root}: {pair} look like the halves of a data set, not like classes. Expected train/CLASS/*.jpg and "
        f"val/CLASS/*.jpg: make a folder with links, train to {_innermost(root / training[0])} and val to "
        f"{_innermost(root / evaluation[0])}, and pass it. For classes of these names all the same, rename the folders."
    )


def training_folders(names: Sequence[str]) -> list[str]:
    """Those of the folders' `names` that speak of training."""
    return [name for name in names if _words(name) & _TRAINING_WORDS]


def evaluation_folders(names: Sequence[str]) -> list[str]:
    """Those of the folders' `names` that speak of validation or testing, validation first."""
    found = [name for name in names if _words(name) & _EVALUATION_WORDS and not _words(name) & _TRAINING_WORDS]
    return sorted(found, key=lambda name: not any(word.startswith("val") for word in _words(name)))


def _words(name: str) -> set[str]:
    """`seg_train` and `SegTrain2` are of the words seg and train."""
    return set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def _rest(name: str, half: frozenset[str]) -> set[str]:
    """What a half is a half of: `seg_train` and `seg_test` of seg, `train` and `test tube` of unlike things."""
    return _words(name) - half - _NEUTRAL_WORDS


def _innermost(folder: Path) -> Path:
    """`seg_train/seg_train` where the outer one holds nothing but the inner one."""
    below = folder_names(folder)
    return _innermost(folder / below[0]) if len(below) == 1 else folder
