"""A data set that was identified is not listed or parsed again, until anything of it has changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backbones.cache import found_anew
from backbones.errors import DataError
from backbones.pretraining.images import list_images
from benchmarks.planning.cells import plan_task
from tasks.datasets.class_folders.layout import ClassFolders, open_class_folders
from tasks.datasets.identity import Contents
from tasks.datasets.label_maps.layout import SegmentationDataSettings, open_segmentation
from tasks.registry import TASKS
from tests.support.folders import age

PLACES = {"classification": "", "detection": "coco", "segmentation": "ade20k"}
READERS = ("class_folders.layout.list_folder", "label_maps.layout.image_names", "coco.layout.read_coco_json")


@pytest.fixture(params=PLACES)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(task: str, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = mini / PLACES[task]
    for folder in ("train", "val", "train2017", "val2017", "annotations", "images"):
        if (source / folder).is_dir():
            shutil.copytree(source / folder, tmp_path / "data" / folder)
    for file in source.glob("*.txt"):
        shutil.copy(file, tmp_path / "data")
    return age(tmp_path / "data")


def identify(task: str, data: Path) -> Contents:
    plan = plan_task(f"mini_{task}", data, "random_vit_mini", seed=0, overrides=[])
    found: Contents = TASKS[task].module("task").identify_data(plan.recipe, data)
    return found


def test_it_is_looked_at_once(task: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify(task, data)
    for reader in READERS:
        monkeypatch.setattr(f"tasks.datasets.{reader}", lambda path: pytest.fail(f"read {path}"))
    assert identify(task, data) == before


def _an_image(data: Path) -> Path:
    return next(path for path in sorted(data.rglob("*")) if path.suffix in (".jpg", ".png") and "train" in str(path))


def _grow(data: Path) -> None:
    with _an_image(data).open("ab") as file:
        file.write(b"\0")


def _rename(data: Path) -> None:
    """All of a name: the image, its annotation, and where the file of annotations names it."""
    name = _an_image(data).stem
    for path in sorted(data.rglob(f"{name}.*")):
        path.rename(path.with_stem("another"))
    for path in data.rglob("*.json"):
        path.write_text(path.read_text().replace(f'"{name}.', '"another.'))


@pytest.mark.parametrize("change", [_grow, _rename])
def test_a_change_is_seen(task: str, data: Path, change: Callable[[Path], None]) -> None:
    before = identify(task, data)
    change(data)
    after = identify(task, data)
    with found_anew():
        assert identify(task, data) == after
    assert after.fingerprint != before.fingerprint


def test_class_folders_come_back_as_they_were(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, split in (("divided", None), ("photographs", "train")):
        root = tmp_path / name
        for part in ("train", "val") if split is None else (split,):
            shutil.copytree(mini / part, root / part if split is None else root)
        age(root)
        listed = [ClassFolders.open(root, "train"), ClassFolders.open(root, "val")]
        open_class_folders(root)
        with monkeypatch.context() as patch:
            patch.setattr("tasks.datasets.class_folders.layout.list_folder", lambda path: pytest.fail(f"listed {path}"))
            again = open_class_folders(root)
        for one, other in zip(listed, again, strict=True):
            assert one.paths == other.paths and one.labels.tolist() == other.labels.tolist()
            facts = ("root", "split", "layout", "classes", "note", "fingerprint")
            assert [getattr(one, fact) for fact in facts] == [getattr(other, fact) for fact in facts]
        new = sorted((root / ("train" if split is None else "")).iterdir())[0] / "another.png"
        shutil.copy(one.paths[0], new)
        assert new in {*open_class_folders(root)[0].paths, *open_class_folders(root)[1].paths}


def test_label_maps_come_back_as_they_were(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = age(Path(shutil.copytree(mini / "ade20k", tmp_path / "data")))
    settings = SegmentationDataSettings(val_images="images/training", val_annotations="annotations/training")
    before = open_segmentation(root, settings)
    prints = [split.fingerprint for split in before]
    with monkeypatch.context() as patch:
        patch.setattr("tasks.datasets.label_maps.layout.image_names", lambda path: pytest.fail(f"listed {path}"))
        patch.setattr("tasks.datasets.label_maps.layout.fingerprint", lambda *paths: pytest.fail("looked at each file"))
        again = open_segmentation(root, settings)
    assert [split.fingerprint for split in again] == prints
    for one, other in zip(before, again, strict=True):
        assert one.images == other.images and one.listing.digest == other.listing.digest
        facts = ("split", "classes", "reduce_zero_label", "folders", "notes")
        assert [getattr(one, fact) for fact in facts] == [getattr(other, fact) for fact in facts]
    assert again[1].notes and not again[0].notes
    (list_of_classes,) = root.glob("objectInfo*.txt")
    list_of_classes.write_text("\n".join(f"class {number}" for number in range(len(again[0].classes))))
    assert open_segmentation(root, settings)[0].classes[0] == "class 0"


def _link_away(path: Path, elsewhere: Path) -> Path:
    """Make a link of a file or folder, to where it is not yet; where it waits meanwhile."""
    waiting = elsewhere / "waiting" / path.name
    waiting.parent.mkdir(parents=True)
    shutil.move(path, waiting)
    path.symlink_to(elsewhere / path.name)
    return waiting


def _come_back(waiting: Path) -> None:
    waiting.rename(waiting.parents[1] / waiting.name)


@pytest.mark.parametrize("is_divided", [True, False])
def test_a_class_whose_link_leads_nowhere_at_first_is_found(
    is_divided: bool, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    for part in ("train", "val") if is_divided else ("",):
        shutil.copytree(mini / (part or "train"), root / part)
    classes = sorted(path.name for path in (root / ("train" if is_divided else "")).iterdir())
    shutil.rmtree(root / "val" / classes[-1], ignore_errors=True)
    waiting = _link_away(root / ("train" if is_divided else "") / classes[-1], tmp_path)
    age(root.parent)
    assert [split.classes for split in open_class_folders(root)] == [classes[:-1]] * 2
    before = identify("classification", root)
    _come_back(waiting)
    assert [split.classes for split in open_class_folders(root)] == [classes] * 2
    assert identify("classification", root).classes == before.classes + 1


def test_a_folder_of_images_whose_link_leads_nowhere_at_first_is_found(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = Path(shutil.copytree(mini / "train", tmp_path / "data"))
    total = len(list_images(root))
    waiting = _link_away(sorted(root.iterdir())[0], tmp_path)
    age(root.parent)
    assert len(list_images(root)) < total
    _come_back(waiting)
    assert len(list_images(root)) == total


def test_a_file_of_classes_whose_link_leads_nowhere_at_first_is_found(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    shutil.copytree(mini / "train", root / "train")
    (root / "val").mkdir()
    classes = sorted(path.name for path in (root / "train").iterdir())
    image = next(path for path in sorted((mini / "val").rglob("*")) if path.is_file())
    shutil.copy(image, root / "val")
    (root / "val" / "val_map.txt").write_text(f"{image.name} {classes[0]}\n")
    (root / "val" / "val.txt").write_text(f"{image.name} {classes[1]}\n")
    waiting = _link_away(root / "val" / "val.txt", tmp_path)
    age(root.parent)
    assert open_class_folders(root)[1].labels.tolist() == [0]
    _come_back(waiting)
    assert open_class_folders(root)[1].labels.tolist() == [1]


def test_a_second_list_of_classes_whose_link_leads_nowhere_at_first_is_refused(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = Path(shutil.copytree(mini / "ade20k", tmp_path / "data"))
    shutil.copy(next(root.glob("objectInfo*.txt")), root / "objectInfo9.txt")
    waiting = _link_away(root / "objectInfo9.txt", tmp_path)
    age(root.parent)
    open_segmentation(root, SegmentationDataSettings())
    _come_back(waiting)
    with pytest.raises(DataError, match="2 class lists"):
        open_segmentation(root, SegmentationDataSettings())


def test_the_files_that_stand_for_all_are_looked_at_themselves(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("backbones.images.folders._WATCHED", 1)
    root = age(Path(shutil.copytree(mini / "train", tmp_path / "data")))
    known = identify("classification", root)
    path, size = known.sample[-1]
    with Path(path).open("ab") as file:
        file.write(b"\0")
    again = identify("classification", root)
    assert dict(again.sample)[path] == size + 1 and again.fingerprint != known.fingerprint
