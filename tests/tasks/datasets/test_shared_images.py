"""Evaluation on the images that were trained on is told, in all tasks, by runs and by `data check`."""

import shutil
from pathlib import Path

import pytest

from benchmarks.planning.cells import plan_task
from tasks.data_sets import name_data_set
from tasks.datasets import shared_images as module
from tasks.datasets.class_folders.check import check_class_folders
from tasks.datasets.coco.check import check_coco
from tasks.datasets.label_maps.check import check_ade20k
from tasks.datasets.label_maps.layout import SegmentationDataSettings, open_segmentation
from tasks.datasets.shared_images import shared_images
from tasks.registry import TASKS

CHECKS = {"classification": check_class_folders, "detection": check_coco, "segmentation": check_ade20k}
FOLDERS = {
    "classification": [("train", "val")],
    "detection": [("train2017", "val2017"), ("annotations/instances_{}2017.json",) * 2],
    "segmentation": [(f"{kind}/training", f"{kind}/validation") for kind in ("images", "annotations")],
}


@pytest.fixture(params=CHECKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(task: str, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = mini / {"classification": "", "detection": "coco", "segmentation": "ade20k"}[task]
    for folder in ("train", "val", "train2017", "val2017", "annotations", "images"):
        if (source / folder).is_dir():
            shutil.copytree(source / folder, tmp_path / "data" / folder)
    for file in source.glob("*.txt"):
        shutil.copy(file, tmp_path / "data")
    return tmp_path / "data"


def notes(task: str, data: Path) -> list[list[str]]:
    """What a run and `data check` say of images in both splits."""
    plan = plan_task(f"mini_{task}", data, "random_vit_mini", seed=0, overrides=[])
    contents = TASKS[task].module("task").identify_data(plan.recipe, data)
    said = [*name_data_set("mini", data, contents).notes]
    if task == "segmentation":
        said += [note for split in open_segmentation(data, SegmentationDataSettings()) for note in split.notes]
    return [[note for note in found if "in both splits" in note] for found in (said, CHECKS[task](data).notes)]


def test_splits_of_their_own_are_not_spoken_of(task: str, data: Path) -> None:
    assert notes(task, data) == [[], []]


def test_a_copy_of_training_as_evaluation_is_told(task: str, data: Path) -> None:
    for train, val in FOLDERS[task]:
        source, target = data / train.format("train"), data / val.format("val")
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    said = notes(task, data)
    assert [len(found) for found in said] == [1, 1]
    assert said[0] == said[1]
    assert said[0][0].endswith("Scores on images that were trained on say little.")


def fill(folder: Path, contents: dict[str, bytes]) -> tuple[Path, list[str]]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder, [*contents]


def test_equal_names_and_sizes_do_not_make_equal_images(tmp_path: Path) -> None:
    train = fill(tmp_path / "a", {"1.jpg": b"one", "2.jpg": b"two", "3.jpg": b"three", "5.jpg": b""})
    val = fill(tmp_path / "b", {"1.jpg": b"uno", "2.jpg": b"two", "3.jpg": b"tree", "4.jpg": b"three"})
    assert [note.partition(".jpg.")[0] for note in shared_images(train, val)] == ["1 image in both splits: 2"]


def test_of_many_images_some_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COMPARED", 4)
    files = {f"{number}.jpg": bytes([number]) for number in range(9)}
    (note,) = shared_images(fill(tmp_path / "a", files), fill(tmp_path / "b", files))
    assert note.startswith("3 images (of 3 that were compared) in both splits: 0.jpg, 3.jpg, 6.jpg.")
