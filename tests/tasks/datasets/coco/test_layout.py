"""Sets in COCO's format: what is read from them, what is left out, and how both splits make a data set."""

import copy
import gc
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_codec
from pycocotools.coco import COCO

from backbones.errors import InputError
from tasks.data_sets import name_data_set
from tasks.datasets.coco.layout import CocoDataSettings, CocoSet, contents_of, open_coco
from tasks.datasets.coco.masks import compress
from tests.support.coco_examples import HEIGHT, SQUARE, WIDTH, annotation, content, ids, read, write


def mask() -> np.ndarray:
    """Two blobs and single pixels, so that run lengths of many sizes come up."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    pixels[3:40, 5:70] = 1
    pixels[50:, 60:] = 1
    pixels[::7, ::9] ^= 1
    return pixels


# What is read


def test_images_and_annotations_are_pycocotools(tmp_path: Path) -> None:
    data = read(tmp_path, content())
    reference = COCO(str(data.annotation_file))
    assert [image.id for image in data.images] == sorted(reference.imgs) == [2, 7, 9]
    for image in data.images:
        record = reference.imgs[image.id]
        assert (image.name, image.height, image.width) == (record["file_name"], record["height"], record["width"])
        assert image.path == tmp_path / "train2017" / record["file_name"]
        assert image.path.is_file()
        expected = [dict(entry) for entry in reference.imgToAnns[image.id]]
        assert [entry | {"image_id": image.id} for entry in image.annotations] == expected
    assert data.images[2].annotations == ()
    assert (data.split, data.notes) == ("train", [])


def test_categories_are_sorted_by_id_and_may_have_gaps(tmp_path: Path) -> None:
    data = read(tmp_path, content())
    assert data.categories == ["cat", "dog"]
    assert data.category_ids == [3, 8]
    assert [entry["category_id"] for image in data.images for entry in image.annotations] == [8, 3, 3]


def test_run_lengths_become_compressed_and_stay_the_same_mask(tmp_path: Path) -> None:
    pixels = mask()
    flat = pixels.reshape(-1, order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    runs = runs if flat[0] == 0 else [0, *runs]
    compressed = mask_codec.encode(np.asfortranarray(pixels))["counts"].decode()
    size = [HEIGHT, WIDTH]
    data = content()
    data["annotations"] = [
        annotation(1, 2, segmentation={"size": size, "counts": runs}, iscrowd=1),
        annotation(2, 2, segmentation={"size": size, "counts": compressed}),
    ]
    crowd, single = read(tmp_path, data).images[0].annotations
    assert (crowd["iscrowd"], single["iscrowd"]) == (1, 0)
    assert crowd["segmentation"] == single["segmentation"] == {"size": size, "counts": compressed}
    assert np.array_equal(mask_codec.decode(crowd["segmentation"]), pixels)


def test_area_of_compressed_run_lengths_is_pycocotools() -> None:
    generator = np.random.default_rng(0)
    for share in (0.001, 0.02, 0.5, 0.98, 1.0):
        height, width = generator.integers(1, 400, size=2).tolist()
        pixels = (generator.random((height, width)) < share).astype(np.uint8)
        encoded = mask_codec.encode(np.asfortranarray(pixels))
        written = {"size": [height, width], "counts": encoded["counts"].decode()}
        same, area = compress(written, (height, width))
        assert (same, area) == (written, mask_codec.area(encoded))


def test_crowd_flag_may_be_absent_and_area_only_in_training(tmp_path: Path) -> None:
    data = content()
    data["annotations"] = [{key: annotation(1, 2)[key] for key in ("id", "image_id", "category_id", "bbox")}]
    data["annotations"][0]["segmentation"] = SQUARE
    (kept,) = read(tmp_path, data).images[0].annotations
    assert kept == {"id": 1, "bbox": [10, 10, 20, 20], "category_id": 3, "iscrowd": 0, "segmentation": SQUARE}
    with pytest.raises(InputError, match=r'1 annotation without a usable "area" .*annotation 1 has none'):
        read(tmp_path, data, "val")


def test_large_files_show_how_far_reading_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = read(tmp_path, content())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("tasks.datasets.coco.layout._SECONDS_OF_READING", 0)
    assert read(tmp_path, content()).images == quiet.images
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "reading instances_train2017.json: 1 of 1 file, 0 s left",
        "examining instances_train2017.json: 3 of 3 annotations, 0 s left",
    ]


def test_garbage_is_collected_again_afterwards(tmp_path: Path) -> None:
    read(tmp_path, content())
    assert gc.isenabled()
    with pytest.raises(InputError):
        read(tmp_path, {})
    assert gc.isenabled()


# What shows nothing

FLAT = [5, 5, 20, 20, 50, 50, 8, 8]
NOTHING: dict[str, tuple[dict[str, Any], str]] = {
    "no width": ({"bbox": [5, 5, 0, 9]}, "a box without width or height"),
    "negative height": ({"bbox": [5, 5, 9, -1]}, "a box without width or height"),
    "right of the image": ({"bbox": [WIDTH, 5, 9, 9]}, "a box wholly outside its image"),
    "below the image": ({"bbox": [5, HEIGHT + 3, 9, 9]}, "a box wholly outside its image"),
    "left of the image": ({"bbox": [-9, 5, 9, 9]}, "a box wholly outside its image"),
    "above the image": ({"bbox": [5, -10, 9, 9]}, "a box wholly outside its image"),
    "no polygons": ({"segmentation": []}, "a mask that covers nothing"),
    "an empty polygon": ({"segmentation": [[]]}, "a mask that covers nothing"),
    "a line": ({"segmentation": [[1, 2, 3, 4]]}, "a mask that covers nothing"),
    "collinear points": (
        {"segmentation": [FLAT, [0.1, 0.3, 0.2, 0.6, 0.3, 0.9]]},
        "a mask that covers nothing",
    ),
    "empty run lengths": ({"segmentation": {"size": [60, 80], "counts": [4800]}}, "a mask that covers nothing"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_shows_nothing_is_left_out_of_training_and_kept_for_scoring(tmp_path: Path, case: str) -> None:
    change, reason = NOTHING[case]
    data = content()
    data["annotations"][2] |= change
    train, val = read(tmp_path, data), read(tmp_path, data, "val")
    assert ids(train) == [5, 11]
    assert ids(val) == [5, 11, 12]
    assert train.notes == [f"1 train annotation with {reason}: left out of training (ids 12)."]
    assert len(val.notes) == 1
    assert val.notes[0].startswith(f"1 val annotation with {reason}: kept in the ground truth")
    assert json.loads(val.annotation_file.read_text()) == data


def test_boxes_across_the_border_and_polygons_that_cross_themselves_are_kept(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0] |= {"bbox": [-5, -5, 6, 6]}
    data["annotations"][1] |= {"bbox": [WIDTH - 0.5, HEIGHT - 0.5, 6, 6]}
    bow_tie = [[10, 10, 30, 30, 30, 10, 10, 30]]
    data["annotations"][2] |= {"segmentation": bow_tie}
    train = read(tmp_path, data)
    assert ids(train) == [5, 11, 12]
    assert train.notes == []


def test_polygons_that_cover_nothing_are_dropped_from_masks_that_cover_something(tmp_path: Path) -> None:
    data = content()
    data["annotations"][1]["segmentation"] = [[], FLAT, *SQUARE, [1, 2, 3, 4], [0, 0, 0.5, 0, 0, 0.5]]
    train, val = read(tmp_path, data), read(tmp_path, data, "val")
    assert train.images[0].annotations[0]["segmentation"] == [*SQUARE, [0, 0, 0.5, 0, 0, 0.5]]
    assert val.images[0].annotations[0]["segmentation"] == data["annotations"][1]["segmentation"]
    assert ids(train) == [5, 11, 12]


def test_each_annotation_is_left_out_for_one_reason_only(tmp_path: Path) -> None:
    data = content()
    data["annotations"] += [annotation(number, 9, bbox=[500, 5, 0, 9], segmentation=[]) for number in range(20, 27)]
    assert read(tmp_path, data).notes == [
        "7 train annotations with a box without width or height: left out of training "
        "(ids 20, 21, 22, 23, 24 and 2 more)."
    ]


def test_categories_without_annotations_are_noted(tmp_path: Path) -> None:
    data = content()
    data["categories"].append({"id": 40, "name": "cow"})
    assert read(tmp_path, data).notes == ["no train annotation of 1 of 3 categories: cow."]
    assert read(tmp_path, data, "val").notes == [
        "no val annotation of 1 of 3 categories; the mean over categories leaves them out: cow."
    ]


# Both splits


def test_places_are_settings_below_the_root_or_absolute(tmp_path: Path) -> None:
    write(tmp_path / "one", "train", content())
    elsewhere = write(tmp_path / "two", "val", content())
    settings = CocoDataSettings(val_images=str(tmp_path / "two/val2017"), val_json=str(elsewhere))
    train, val = open_coco(tmp_path / "one", settings)
    assert (train.split, val.split) == ("train", "val")
    assert val.annotation_file == elsewhere
    assert val.images[0].path == tmp_path / "two/val2017/deep/a.jpg"


def test_splits_with_other_categories_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", content())
    other = content()
    other["categories"] = [{"id": 8, "name": "wolf"}, {"id": 3, "name": "cat"}, {"id": 1, "name": "cow"}]
    write(tmp_path, "val", other)
    with pytest.raises(InputError, match=r"val2017\.json: not the categories.*only in val 1 'cow'; 8 is 'dog'.*'wolf'"):
        open_coco(tmp_path, CocoDataSettings())
    other["categories"] = [{"id": 3, "name": "cat"}]
    other["annotations"] = [annotation(1, 2)]
    write(tmp_path, "val", other)
    with pytest.raises(InputError, match="only in train 8 'dog'"):
        open_coco(tmp_path, CocoDataSettings())


def test_order_of_categories_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "train", content())
    other = content()
    other["categories"].reverse()
    write(tmp_path, "val", other)
    train, val = open_coco(tmp_path, CocoDataSettings())
    assert train.categories == val.categories


def test_fingerprint_follows_annotations_and_images_and_not_the_place(tmp_path: Path) -> None:
    first, copied = read(tmp_path / "a", content()), read(tmp_path / "b", content())
    assert re.fullmatch(r"[0-9a-f]{16}", first.fingerprint)
    assert first.fingerprint == copied.fingerprint
    changed = copy.deepcopy(content())
    changed["annotations"][0]["bbox"][0] += 1
    assert read(tmp_path / "c", changed).fingerprint != first.fingerprint
    (tmp_path / "b/train2017/b.jpg").write_bytes(b"longer than before")
    reopened = CocoSet.open(tmp_path / "b/train2017", copied.annotation_file, "train")
    assert reopened.fingerprint != first.fingerprint


def test_data_set_names_itself_by_card_or_folder(tmp_path: Path) -> None:
    root = tmp_path / "animals"
    write(root, "train", content())
    write(root, "val", content())
    train, val = open_coco(root, CocoDataSettings())
    named = name_data_set("coco2017", root, contents_of(train, val))
    assert named.name == "animals"
    (note,) = named.notes
    assert note.startswith("recorded as data set animals (3 training images and ")
    assert note.endswith("not coco2017, which has 118,287 training and 5,000 evaluation images in 80 classes")
    assert re.fullmatch(r"[0-9a-f]{16}", named.fingerprint)
    (root / "dataset.json").write_text('{"name": "zoo"}')
    named = name_data_set("zoo", root, contents_of(train, val))
    assert (named.name, named.notes) == ("zoo", ())
