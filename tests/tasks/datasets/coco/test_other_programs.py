"""What other systems and programs write differently: encodings, numbers, paths."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from tasks.datasets.coco.check import check_coco
from tasks.datasets.coco.layout import CocoSet
from tests.support.coco_examples import content, read, write
from tests.tasks.datasets.coco.test_check import write_pictures


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_utf_16_is_read(tmp_path: Path, mark: bytes) -> None:
    encoding = "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    plain = read(tmp_path, content())
    for split in ("train", "val"):
        path = write(tmp_path, split, content())
        path.write_bytes(mark + json.dumps(content()).encode(encoding))
    write_pictures(tmp_path)
    assert CocoSet.open(tmp_path / "train2017", path, "train").images == plain.images
    assert check_coco(tmp_path).problems == []


def floats(data: dict[str, Any]) -> None:
    for entry in data["annotations"]:
        entry.update({key: float(entry[key]) for key in ("id", "image_id", "category_id")})
    for entry in data["images"]:
        entry.update({key: float(entry[key]) for key in ("id", "height", "width")})


UNAMBIGUOUS: dict[str, Callable[[dict[str, Any]], object]] = {
    "whole numbers as floats": floats,
    "null for no crowd": lambda data: [entry.update(iscrowd=None) for entry in data["annotations"]],
}


@pytest.mark.parametrize("case", UNAMBIGUOUS)
def test_what_leaves_no_doubt_is_read_as_coco_writes_it(tmp_path: Path, case: str) -> None:
    plain, data = content(), content()
    UNAMBIGUOUS[case](data)
    assert read(tmp_path, data).images == read(tmp_path, plain).images
    write(tmp_path, "train", data)
    write(tmp_path, "val", data)
    write_pictures(tmp_path)
    assert check_coco(tmp_path).problems == []


@pytest.mark.parametrize("area", [float("nan"), None])
def test_training_needs_no_area(tmp_path: Path, area: float | None) -> None:
    data = content()
    data["annotations"][0]["area"] = area
    assert len(read(tmp_path, data).images) == 3
    write(tmp_path, "val", content())
    write_pictures(tmp_path)
    assert check_coco(tmp_path).problems == []
    with pytest.raises(InputError, match='1 annotation without a usable "area"'):
        read(tmp_path, data, "val")


def test_a_half_number_is_no_id(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0]["category_id"] = 3.5
    with pytest.raises(InputError, match=r'"category_id".*annotation 11 has 3\.5'):
        read(tmp_path, data)


PATHS = {
    "backslashes": ("deep\\a.jpg", "deep/a.jpg"),
    "another folder": ("images/b.jpg", "b.jpg"),
    "another folder of Windows": ("images\\b.jpg", "b.jpg"),
    "folders before the folder": ("set\\train2017\\deep\\a.jpg", "deep/a.jpg"),
    "capitals": ("B.JPG", "b.jpg"),
    "capitals below a folder": ("deep/A.jpg", "deep/a.jpg"),
}


@pytest.mark.parametrize("case", PATHS)
def test_the_file_that_is_meant_is_named(tmp_path: Path, case: str) -> None:
    written, found = PATHS[case]
    data = content()
    data["images"][0]["file_name"] = written
    with pytest.raises(InputError) as caught:
        read(tmp_path, data)
    assert "1 image of 3 not found in " in str(caught.value)
    assert f"1 would be found under another name, such as {found} for {written}: write" in str(caught.value)


def test_what_would_be_found_of_an_absolute_name_is_checked_too(tmp_path: Path) -> None:
    data = content()
    data["images"][0]["file_name"] = "/data/upload/b.jpg"
    write(tmp_path, "train", data)
    write(tmp_path, "val", content())
    write_pictures(tmp_path)
    problems = check_coco(tmp_path).problems
    assert ['"file_name"' in problem for problem in problems] == [True, True]
    assert "1 would be found under another name, such as b.jpg for /data/upload/b.jpg: write" in problems[1]
