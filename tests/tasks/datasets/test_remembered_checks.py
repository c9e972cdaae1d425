"""What passed a check is not decoded again, until a file of it changes."""

import shutil
from pathlib import Path

import pytest

from backbones.errors import DataError
from tasks.datasets import evaluation_images
from tasks.datasets.evaluation_images import require_evaluation_images
from tasks.datasets.label_maps import layout
from tasks.datasets.label_maps.layout import SegmentationDataSettings, open_segmentation, require_annotations
from tasks.datasets.label_maps.maps import WrongLabels
from tests.support.folders import age, halve


@pytest.fixture
def data(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return age(Path(shutil.copytree(mini / "ade20k", tmp_path / "data")))


def test_evaluation_images_are_looked_at_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    genuine = evaluation_images.quick_check
    monkeypatch.setattr(evaluation_images, "quick_check", lambda path: looks.append(path) or genuine(path))
    paths = sorted((data / "images" / "validation").glob("*.*"))
    for _ in range(2):
        require_evaluation_images(data, paths)
    assert looks == paths
    require_evaluation_images(data, paths[:3])
    assert looks == [*paths, *paths[:3]]
    halve(paths[1])
    for _ in range(2):
        with pytest.raises(DataError, match="1 unreadable"):
            require_evaluation_images(data, paths)


def test_annotations_are_decoded_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    genuine = layout.check_annotations
    monkeypatch.setattr(layout, "check_annotations", lambda *sets: calls.append(1) or [*genuine(*sets), "a note"])
    sets = open_segmentation(data, SegmentationDataSettings())
    assert [require_annotations(data, *sets) for _ in range(2)] == [["a note"]] * 2 and len(calls) == 1
    annotation = sets[1].images[0].annotation
    shutil.copyfile(sets[1].images[1].annotation, annotation)
    with pytest.raises(WrongLabels, match=annotation.name):
        require_annotations(data, *open_segmentation(data, SegmentationDataSettings()))
