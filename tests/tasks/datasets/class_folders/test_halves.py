"""Halves of a divided data set under other names than train/ and val/."""

from pathlib import Path

import pytest

from backbones.errors import InputError
from tasks.datasets.class_folders.layout import ClassFolders
from tests.tasks.datasets.class_folders.test_layout import add

HALVES = {
    "capitals": ("Train", "Val"),
    "shouted": ("TRAIN", "TEST"),
    "gerunds": ("Training", "Testing"),
    "sets": ("training_set", "test_set"),
    "of something": ("seg_train", "seg_test"),
    "glued": ("MyTrain2", "MyValid2"),
    "nothing but lower case": ("train", "test"),
}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("case", HALVES)
def test_halves_are_not_taken_for_two_classes(tmp_path: Path, case: str, split: str) -> None:
    """Such runs went to their ends "in 2 classes"."""
    training, evaluation = HALVES[case]
    inner = "" if training == "train" else "a/"
    add(tmp_path, *(f"{half}/{inner}{i}.jpg" for half in (training, evaluation) for i in range(5)))
    add(tmp_path, *(f"{half}/{inner and 'b/'}{i}.png" for half in (training, evaluation) for i in range(5)))
    with pytest.raises(
        InputError,
        match=f"{training}/ and {evaluation}/ look like the halves.*train to {tmp_path / training} and val to "
        f"{tmp_path / evaluation}, and pass it",
    ):
        ClassFolders.open(tmp_path, split)


def test_halves_within_halves_are_named_and_others_beside_do_not_hide_them(tmp_path: Path) -> None:
    for half in ("seg_train", "seg_test"):
        add(tmp_path, *(f"{half}/{half}/{name}/{i}.jpg" for name in "ab" for i in range(5)))
    add(tmp_path, *(f"seg_pred/seg_pred/{i}.jpg" for i in range(5)))
    with pytest.raises(InputError, match=f"train to {tmp_path}/seg_train/seg_train and val to .*seg_test/seg_test,"):
        ClassFolders.open(tmp_path, "train")


@pytest.mark.parametrize("names", [("bus", "train", "test bench"), ("train", "test tube"), ("bus", "test")])
def test_classes_of_such_names_stay_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    add(tmp_path, *(f"{name}/{i}.jpg" for name in names for i in range(5)))
    assert ClassFolders.open(tmp_path, "train").classes == sorted(names)


@pytest.mark.parametrize("beside", ["valid", "test", "Val"])
def test_what_lies_beside_train_instead_of_val_is_named(tmp_path: Path, beside: str) -> None:
    add(tmp_path, *(f"{half}/{name}/1.jpg" for half in ("train", beside) for name in "ab"))
    with pytest.raises(InputError, match=rf"/val: no such folder\. {beside}/ lies there: rename it to val"):
        ClassFolders.open(tmp_path, "val")


def test_what_lies_beside_val_instead_of_train_is_named(tmp_path: Path) -> None:
    add(tmp_path, *(f"{half}/{name}/1.jpg" for half in ("Train", "val") for name in "ab"))
    with pytest.raises(InputError, match=r"/train: no such folder\..*; Train/ lies there: rename it to train\."):
        ClassFolders.open(tmp_path, "train")
