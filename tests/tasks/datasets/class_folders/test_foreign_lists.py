"""Roots of data sets that have lists, opened as if their folders were classes."""

from pathlib import Path

import pytest

from backbones.errors import DataError
from tasks.data_sets import open_labelled
from tasks.datasets.class_folders.layout import ClassFolders
from tasks.datasets.torchvision_layouts import sets
from tasks.datasets.torchvision_layouts.sets import TorchvisionSet
from tests.support.inaturalist_examples import write_inaturalist
from tests.support.places_examples import write_places205, write_places365
from tests.support.torchvision_examples import write_set
from tests.tasks.datasets.class_folders.test_layout import add

SETS = [each for each in vars(sets).values() if isinstance(each, TorchvisionSet)]


def refusal(name: str, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_labelled(name, root)
    return str(caught.value)


@pytest.mark.parametrize("name", ["folders", "imagenet1k"])
def test_places_and_inaturalist_are_no_two_classes(name: str, tmp_path: Path) -> None:
    """A run of Places went to its end in the classes data_256 and val_256."""
    write_places365(tmp_path / "365")
    told = "places365.txt is of the data set places365, whose folders here are not its classes. Give that name for it: "
    assert f"{told}--set dataset=places365, or backbench data check places365." in refusal(name, tmp_path / "365")
    write_places205(tmp_path / "205")
    assert "--set dataset=places205" in refusal(name, tmp_path / "205")
    for year in (2017, 2018, 2019):
        write_inaturalist(tmp_path / str(year), year)
        assert f"--set dataset=inat{year}," in refusal(name, tmp_path / str(year))


@pytest.mark.parametrize("spec", SETS, ids=lambda spec: spec.name)
def test_nor_are_the_folders_of_torchvisions_sets(
    spec: TorchvisionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_set(spec, tmp_path / "data", monkeypatch)
    assert f"--set dataset={spec.name}," in refusal("folders", tmp_path / "data")
    if spec not in (sets.CIFAR10, sets.CIFAR100, sets.EUROSAT):  # those have no folders, or one
        assert f"--set dataset={spec.name}," in refusal("folders", base)


@pytest.mark.parametrize("beside", ["train.txt", "instances_train2017.json", "places.txt", "2750"])
def test_other_files_and_folders_beside_classes_do_not_matter(beside: str, tmp_path: Path) -> None:
    add(tmp_path, *(f"{name}/{number}.jpg" for name in ("dtd", "eurosat") for number in range(5)))
    add(tmp_path, beside if "." in beside else f"{beside}/1.jpg")
    assert {"dtd", "eurosat"} <= {*ClassFolders.open(tmp_path, "train").classes}


def test_class_folders_within_a_set_may_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_set(sets.CALTECH101, tmp_path, monkeypatch)
    assert len(ClassFolders.open(base / "101_ObjectCategories", "train").classes) == 4
