"""Broken sets in COCO's format: one message each, which names the file, the ids and what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from tasks.datasets.coco.layout import CocoDataSettings, CocoSet, open_coco
from tests.support.coco_examples import SQUARE, content, read, write

Change = Callable[[dict[str, Any]], object]
MISTAKES: dict[str, tuple[Change, str]] = {
    "no images key": (lambda data: data.pop("images"), r"no key 'images'; found info, annotations, categories"),
    "annotations is an object": (lambda data: data.update(annotations={}), "'annotations' holds an object"),
    "an image is a text": (lambda data: data["images"].append("x.jpg"), r"images\[3\] is a text, not an object"),
    "no images": (lambda data: data.update(images=[]), "no images: the list is empty"),
    "no annotations": (lambda data: data.update(annotations=[]), "no annotations: the list is empty.*instances_"),
    "no categories": (lambda data: data.update(categories=[]), "no categories: the list is empty"),
    "image id twice": (lambda data: data["images"][0].update(id=9), "1 image id used more than once: 9"),
    "annotation id twice": (lambda data: data["annotations"][0].update(id=5), "1 annotation id used more than once: 5"),
    "category id twice": (lambda data: data["categories"][0].update(id=3), "1 category id used more than once: 3"),
    "category name twice": (lambda data: data["categories"][0].update(name="cat"), "category name used more .*: cat"),
    "category without a name": (lambda data: data["categories"][0].pop("name"), '"name".*category 8 has none'),
    "lost image": (
        lambda data: data["annotations"][1].update(image_id=77),
        r"1 annotation of images that the file doesn't list: annotation 5 \(image_id 77\)",
    ),
    "unknown category": (
        lambda data: data["annotations"][1].update(category_id=4),
        r"1 annotation of categories that the file doesn't list: annotation 5 \(category_id 4\)",
    ),
    "id is a text": (lambda data: data["annotations"][1].update(id="5"), r'"id" .*annotations\[1\] has "5"'),
    "negative image id": (lambda data: data["annotations"][1].update(image_id=-2), '"image_id".*annotation 5 has -2'),
    "absolute name": (lambda data: data["images"][0].update(file_name="/b.jpg"), '"file_name".*image 7 has "/b.jpg"'),
    "drive letter": (lambda data: data["images"][0].update(file_name="C:\\b.jpg"), '"file_name".*image 7 has "C:'),
    "climbing name": (
        lambda data: data["images"][0].update(file_name="deep/../../b.jpg"),
        r'"file_name".*without \.\..*image 7 has "deep/\.\./\.\./b\.jpg"',
    ),
    "no name": (lambda data: data["images"][0].pop("file_name"), '"file_name".*image 7 has none'),
    "no width": (lambda data: data["images"][0].pop("width"), '1 image without a usable "width".*image 7 has none'),
    "height of 0": (lambda data: data["images"][0].update(height=0), '"height".*image 7 has 0'),
    "box of three": (lambda data: data["annotations"][0].update(bbox=[1, 2, 3]), r'"bbox".*11 has \[1, 2, 3\]'),
    "box of texts": (lambda data: data["annotations"][0].update(bbox=["1", 2, 3, 4]), '"bbox".*annotation 11 has'),
    "infinite box": (lambda data: data["annotations"][0].update(bbox=[1, 2, 3, float("inf")]), '"bbox".*Infinity'),
    "box not a number": (lambda data: data["annotations"][0].update(bbox=[float("nan"), 2, 3, 4]), '"bbox".*NaN'),
    "huge box": (lambda data: data["annotations"][0].update(bbox=[1, 2, 3, 10**400]), '"bbox".*annotation 11 has'),
    "no box": (lambda data: data["annotations"][0].pop("bbox"), '"bbox".*annotation 11 has none'),
    "crowd of 2": (lambda data: data["annotations"][0].update(iscrowd=2), '"iscrowd".*annotation 11 has 2'),
    "negative area": (lambda data: data["annotations"][0].update(area=-1), '"area".*annotation 11 has -1'),
    "nothing to learn from": (
        lambda data: [entry.pop("segmentation") for entry in data["annotations"]],
        r"no annotation can be trained on: 3 train annotations with no segmentation.*ids 11, 5, 12",
    ),
    "crowds only": (
        lambda data: [entry.update(iscrowd=1) for entry in data["annotations"]],
        r'no annotation can be trained on: 3 train annotations of crowds \("iscrowd": 1\)\. Mask R-CNN learns',
    ),
    "crowds and nothing": (
        lambda data: [data["annotations"][0].update(iscrowd=1), *(a.pop("segmentation") for a in data["annotations"])],
        r"no annotation can be trained on: 3 train annotations with no segmentation",
    ),
    "crowds and empty masks": (
        lambda data: [
            data["annotations"][0].update(iscrowd=1),
            *(a.pop("segmentation") for a in data["annotations"][1:]),
        ],
        r"no annotation can be trained on: 2 train annotations with no .*5, 12\)\. 1 train annotation of crowds",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named_with_file_and_id(tmp_path: Path, case: str) -> None:
    change, message = MISTAKES[case]
    data = content()
    change(data)
    with pytest.raises(InputError, match=rf"instances_train2017\.json: .*{message}") as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)


SEGMENTATIONS: dict[str, tuple[Any, str]] = {
    "text": ("x", "neither a list of polygons"),
    "one polygon without its list": (SQUARE[0], "neither a list of polygons"),
    "points": ([[[1, 2], [3, 4], [5, 6], [7, 8]]], "not all finite numbers"),
    "texts": ([["1", "2", "3", "4", "5", "7"]], "not all finite numbers"),
    "one text": ([[1, 2, 3, "4", 5, 7]], "not all finite numbers"),
    "null": ([[1, 2, None, 4, 5, 7]], "not all finite numbers"),
    "infinity": ([[1, 2, 3, 4, 5, float("inf")]], "not all finite numbers"),
    "odd": ([*SQUARE, [1, 2, 3, 4, 5, 7, 9]], "an odd number of coordinates"),
    "no size": ({"counts": [4800]}, 'without "size"'),
    "other size": ({"size": [80, 60], "counts": [4800]}, "of a mask of 60 × 80 for an image of 80 × 60 pixels"),
    "too short": ({"size": [60, 80], "counts": [10, 20]}, "do not add up to 80 × 60 pixels"),
    "negative run": ({"size": [60, 80], "counts": [4805, -5]}, "neither a text nor whole numbers"),
    "no runs": ({"size": [60, 80], "counts": []}, "neither a text nor whole numbers"),
    "fractions": ({"size": [60, 80], "counts": [10.5, 4789.5]}, "neither a text nor whole numbers"),
    "empty text": ({"size": [60, 80], "counts": ""}, "break off or hold foreign characters"),
    "text breaks off": ({"size": [60, 80], "counts": "P"}, "break off"),
    "foreign characters": ({"size": [60, 80], "counts": "0€"}, "foreign characters"),
    "endless number": ({"size": [60, 80], "counts": "P" * 40 + "0"}, "beyond any image"),
    "text does not add up": ({"size": [60, 80], "counts": "11"}, "do not add up"),
}


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_segmentations_of_a_wrong_form_are_named(tmp_path: Path, case: str) -> None:
    segmentation, reason = SEGMENTATIONS[case]
    data = content()
    data["annotations"][1]["segmentation"] = segmentation
    message = rf"1 annotation with a segmentation in none of COCO's forms: annotation 5: .*{re.escape(reason)}"
    with pytest.raises(InputError, match=message):
        read(tmp_path, data)
    with pytest.raises(InputError, match=message):
        read(tmp_path, data, "val")


def test_further_mistakes_are_counted(tmp_path: Path) -> None:
    data = content()
    data["annotations"][1].update(category_id=4, bbox=[])
    data["images"][0].pop("width")
    with pytest.raises(InputError, match=r'"width".*Other mistakes in this file: 2; `backbench data check coco`'):
        read(tmp_path, data)


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    path = write(tmp_path, "train", content())
    (tmp_path / "train2017/deep/a.jpg").unlink()
    with pytest.raises(InputError, match=r"1 image of 3 not found in .*train2017: deep/a\.jpg\. Add them"):
        CocoSet.open(tmp_path / "train2017", path, "train")


def test_names_that_begin_with_the_folder_tell_which_folder_to_pass(tmp_path: Path) -> None:
    data = content()
    for image in data["images"]:
        image["file_name"] = f"train2017/{image['file_name']}"
    path = write(tmp_path, "train", data)
    with pytest.raises(InputError, match=rf"3 images of 3 not found.*--set data\.train_images={tmp_path}\.$"):
        CocoSet.open(tmp_path / "train2017", path, "train")
    assert len(CocoSet.open(tmp_path, path, "train").images) == 3


def test_crowds_alone_cannot_be_scored(tmp_path: Path) -> None:
    data = content()
    for entry in data["annotations"]:
        entry["iscrowd"] = 1
    with pytest.raises(
        InputError, match=r'no annotation can be scored: 3 val annotations of crowds \("iscrowd": 1\)\.'
    ):
        read(tmp_path, data, "val")
    data["annotations"][0]["iscrowd"] = 0
    assert len(read(tmp_path, data, "val").images) == 3


def test_a_folder_without_the_set_says_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError) as caught:
        open_coco(tmp_path, CocoDataSettings(train_json="mine.json"))
    assert str(caught.value) == (
        f"{tmp_path}: no data set in COCO's format found. Expected train2017, mine.json, val2017 and "
        "annotations/instances_val2017.json in it. Other places: --set data.train_images=FOLDER "
        "--set data.train_json=FILE --set data.val_images=FOLDER --set data.val_json=FILE"
    )
    for split in ("train", "val"):
        write(tmp_path / "coco", split, content())
    with pytest.raises(InputError, match=rf"val2017\.json in it\. {tmp_path}/coco has them: pass that folder\.$"):
        open_coco(tmp_path, CocoDataSettings())


def test_foreign_folder_of_images_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "train", content())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"3 images of 3 not found.*right folder\? --set data\.val_images=FOLDER"):
        CocoSet.open(tmp_path / "empty", path, "val")


def test_places_that_do_not_exist_tell_the_expected_layout(tmp_path: Path) -> None:
    path = write(tmp_path, "train", content())
    with pytest.raises(InputError, match=r"nowhere: no such folder.*--set data\.val_images=FOLDER"):
        CocoSet.open(tmp_path / "nowhere", path, "val")
    with pytest.raises(InputError, match=r"x\.json: no such file.*annotations/instances_train2017\.json"):
        CocoSet.open(tmp_path / "train2017", tmp_path / "x.json", "train")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        open_coco(tmp_path / "nowhere", CocoDataSettings())


def test_json_cut_short_anywhere_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "train", content())
    whole = path.read_bytes().strip()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"cut short.*after {length:,} bytes .*Download or copy") as caught:
            CocoSet.open(tmp_path / "train2017", path, "train")
        assert " at at " not in str(caught.value)


NOT_JSON: dict[str, tuple[bytes, str]] = {
    "empty": (b" \n", "the file is empty"),
    "missing comma": (b'{"images": [],\n "annotations": []\n "categories": [], "info": {}}', "not valid JSON.*line 3"),
    "closed twice": (b'{"images": [], "annotations": [], "categories": []}}', "not valid JSON: Extra data"),
    "comma at the end": (b'{"images": [], "annotations": [], "categories": [],}', "not valid JSON"),
    "packed": (b"\x1f\x8b\x08\x00\xff\xfe", "not JSON: byte 2 is no UTF-8"),
    "detections": (b'[{"image_id": 1}]', "a list, as of detections, not annotations"),
    "number": (b"12", "the JSON value '12', not annotations"),
    "nested": (b"[" * 100_000 + b"]" * 100_000, "not annotations in COCO's format"),
    "endless number": (b'{"images": ' + b"9" * 5_000 + b"}", "not annotations in COCO's format"),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_files_that_are_not_cocos(tmp_path: Path, case: str) -> None:
    path = write(tmp_path, "train", content())
    path.write_bytes(NOT_JSON[case][0])
    with pytest.raises(InputError, match=rf"instances_train2017\.json: {NOT_JSON[case][1]}"):
        CocoSet.open(tmp_path / "train2017", path, "train")


def test_byte_of_a_fault_counts_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, "train", content())
    text = '{"ä": 1, "images" [], "annotations": [], "categories": []}'
    path.write_text(text)
    with pytest.raises(InputError, match=f"line 1, byte {text.encode().index(b'[') + 1}"):
        CocoSet.open(tmp_path / "train2017", path, "train")
