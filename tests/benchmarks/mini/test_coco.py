"""The generated data in COCO's format: what its scenes and annotations promise, read by the readers that others use."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from backbones.errors import InputError
from benchmarks.mini import LEVELS, SHAPES, Scene, draw_scattered_scene, write_mini
from benchmarks.mini.coco import trace
from tests.support.folders import contents

TRAIN, VAL = 64, 12


def write_small(root: Path, **settings: object) -> object:
    others = {"unlabelled": 0, "train": 8, "val": 8, "ade_train": 1, "ade_val": 1}
    sizes = others | {"coco_train": TRAIN, "coco_val": VAL}
    return write_mini(root, **sizes | {"processes": 1} | settings)


def read(root: Path, year: str = "train2017") -> dict[str, Any]:
    return json.loads((root / "coco/annotations" / f"instances_{year}.json").read_text())


def decoded(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """The mask as pycocotools reads polygons."""
    return run_lengths.decode(run_lengths.merge(run_lengths.frPyObjects(polygons, height, width))).astype(bool)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_small(root)
    return root


@pytest.fixture(scope="module")
def by_pycocotools(complete: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(complete / "coco/annotations/instances_train2017.json")


@pytest.fixture(scope="module", params=LEVELS)
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [draw_scattered_scene(3, "coco_train", index, request.param, 56) for index in range(300)]


def test_images_differ_in_size_and_aspect(scenes: list[Scene]) -> None:
    sides = np.array([scene.image.shape[:2] for scene in scenes])
    assert sides.min() == 80
    assert sides.max() == 128
    aspects = sides[:, 1] / sides[:, 0]
    assert (aspects < 0.8).mean() > 0.1
    assert (aspects > 1.25).mean() > 0.1


def test_objects_are_as_large_as_those_of_pre_training(scenes: list[Scene]) -> None:
    """22 to 36 pixels, as the root of the area; none shows less than half of itself."""
    areas = [int(one.mask.sum()) for scene in scenes for one in scene.instances if not one.crowd]
    assert min(areas) >= 22**2 / 2 - 10
    assert max(areas) <= 36**2 + 20
    assert max(areas) > 35**2
    assert 24**2 < np.median(areas) < 30**2


def test_objects_hide_parts_of_each_other_but_stay_in_sight(scenes: list[Scene]) -> None:
    shares = [one.mask.sum() / one.whole.sum() for scene in scenes for one in scene.instances]
    assert min(shares) >= 0.5
    assert 0.1 < (np.array(shares) < 0.9).mean() < 0.4


def test_number_and_shapes_of_objects(scenes: list[Scene]) -> None:
    numbers = np.bincount([sum(not one.crowd for one in scene.instances) for scene in scenes])
    assert len(numbers) == 5
    assert numbers[0] == 12  # every 25th
    assert numbers[1:].min() > 40
    shapes = [one.shape for scene in scenes for one in scene.instances if not one.crowd]
    even = len(shapes) / len(SHAPES)
    for shape in SHAPES:
        assert abs(shapes.count(shape) - even) < 4 * np.sqrt(even)


def test_crowds_are_several_small_objects(scenes: list[Scene]) -> None:
    from scipy.ndimage import label

    crowds = [one for scene in scenes for one in scene.instances if one.crowd]
    assert len(crowds) == 20  # every 15th
    apart = [label(crowd.whole)[1] for crowd in crowds]  # where some touch, they count as one
    assert np.median(apart) >= 4
    assert 7 <= max(apart) <= 9
    assert all(6 * 6**2 / 2 < crowd.mask.sum() < 9 * 9**2 for crowd in crowds)


def test_masks_are_disjoint(scenes: list[Scene]) -> None:
    for scene in scenes:
        taken = np.zeros(scene.image.shape[:2], int)
        for one in scene.instances:
            taken += one.mask
            assert not (one.mask & ~one.whole).any()
        assert taken.max() <= 1


def test_masks_are_where_the_objects_are_painted() -> None:
    """In oblong images: away from its edge and shadow, an object of one colour on one wall tells its own mask."""
    checked = 0
    for index in range(300):
        scene = draw_scattered_scene(0, "coco_val", index, "smooth", 56)
        height, width, _ = scene.image.shape
        if scene.background != "wall" or abs(height - width) < 8:
            continue
        for one in scene.instances:
            others = [other.whole for other in scene.instances if other is not one]
            alone = ~np.any(others, axis=0) if others else np.ones((height, width), bool)
            if one.material != "clay" or not alone[one.whole].all():
                continue
            hue = scene.image / scene.image.sum(axis=2, keepdims=True)
            background, body = np.median(hue[alone & ~one.mask], axis=0), np.median(hue[one.mask], axis=0)
            if np.linalg.norm(body - background) < 0.15:
                continue
            checked += 1
            nearer_body = np.linalg.norm(hue - body, axis=2) < np.linalg.norm(hue - background, axis=2)
            assert (nearer_body == one.mask)[alone].mean() > 0.98
    assert checked >= 5


def test_image_size_scales_images_and_objects() -> None:
    small, large = (draw_scattered_scene(1, "coco_val", 5, "smooth", size) for size in (40, 80))
    assert np.array(large.image.shape[:2]) / small.image.shape[:2] == pytest.approx(2, rel=0.02)
    assert [one.shape for one in small.instances] == [one.shape for one in large.instances]
    for one, twice in zip(small.instances, large.instances, strict=True):
        assert twice.mask.sum() / one.mask.sum() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    "mask",
    [
        np.pad(np.ones((3, 3), bool), 1) & ~np.pad(np.ones((1, 1), bool), 2),
        np.ones((5, 9), bool) & ~np.isin(np.arange(9), [2, 6]) | (np.arange(5) % 4 == 0)[:, None],
        np.ones((1, 1), bool),
        np.eye(4, dtype=bool),
    ],
    ids=["hole of one pixel", "two holes", "one pixel", "diagonal"],
)
def test_polygons_of_difficult_masks_are_exact(mask: np.ndarray) -> None:
    polygons = trace(mask)
    assert all(len(polygon) >= 6 for polygon in polygons)
    assert np.array_equal(decoded(polygons, *mask.shape), mask)


def test_polygons_of_random_masks_are_exact() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        mask = rng.random(rng.integers(2, 14, 2)) < rng.uniform(0.3, 0.95)
        mask[0, 0] = True
        assert np.array_equal(decoded(trace(mask), *mask.shape), mask)


def test_polygons_hold_only_the_corners() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:5, 2:7] = True
    (polygon,) = trace(mask)
    assert len(polygon) == 16  # each of the four corners is cut by half a pixel
    assert (min(polygon[::2]), max(polygon[::2]), min(polygon[1::2]), max(polygon[1::2])) == (2, 7, 1, 5)


def test_layout_is_cocos(complete: Path) -> None:
    coco = complete / "coco"
    assert json.loads((coco / "dataset.json").read_text())["name"] == "mini-coco"
    for year, count in (("train2017", TRAIN), ("val2017", VAL)):
        content = read(complete, year)
        assert set(content) == {"info", "licenses", "images", "annotations", "categories"}
        assert [image["id"] for image in content["images"]] == list(range(1, count + 1))
        names = [image["file_name"] for image in content["images"]]
        assert names[0] == "000000000001.jpg"
        assert names == sorted(path.name for path in (coco / year).iterdir())
        for image in content["images"]:
            with Image.open(coco / year / image["file_name"]) as opened:
                assert (opened.format, opened.mode) == ("JPEG", "RGB")
                assert opened.size == (image["width"], image["height"])
        numbers = [category["id"] for category in content["categories"]]
        assert [category["name"] for category in content["categories"]] == list(SHAPES)
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 1
        assert numbers[-1] > len(SHAPES)
    assert "64 images to train on" in (complete / "README.txt").read_text()
    assert not list(complete.rglob("*.partial"))


def test_files_hold_the_scenes(complete: Path) -> None:
    with Image.open(complete / "coco/val2017/000000000003.jpg") as image:
        error = np.abs(np.asarray(image, np.int16) - draw_scattered_scene(0, "coco_val", 2, "smooth", 56).image)
    assert error.mean() < 3


def test_annotations_are_the_scenes_objects(complete: Path, by_pycocotools: COCO) -> None:
    names = {category["id"]: category["name"] for category in read(complete)["categories"]}
    kinds = {"polygons": 0, "plain": 0, "compressed": 0, "crowds": 0}
    for index in range(TRAIN):
        scene = draw_scattered_scene(0, "coco_train", index, "smooth", 56)
        annotations = by_pycocotools.loadAnns(by_pycocotools.getAnnIds([index + 1]))
        assert len(annotations) == len(scene.instances)
        for annotation, one in zip(annotations, scene.instances, strict=True):
            assert names[annotation["category_id"]] == one.shape
            assert np.array_equal(by_pycocotools.annToMask(annotation), one.mask)
            rows, columns = one.mask.any(axis=1).nonzero()[0], one.mask.any(axis=0).nonzero()[0]
            width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
            assert annotation["bbox"] == [columns[0], rows[0], width, height]
            assert annotation["area"] == one.mask.sum()
            assert annotation["iscrowd"] == one.crowd
            segmentation = annotation["segmentation"]
            form = "polygons" if isinstance(segmentation, list) else "plain"
            if form == "plain" and isinstance(segmentation["counts"], str):
                form = "compressed"
            assert form == "plain" or not one.crowd
            kinds["crowds" if one.crowd else form] += 1
    assert kinds["polygons"] > 100
    assert min(kinds.values()) >= 4


def test_small_sets_have_every_kind_of_image(complete: Path) -> None:
    content = read(complete, "val2017")
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    assert len(annotated) == VAL - 1
    assert len({annotation["category_id"] for annotation in content["annotations"]}) == len(SHAPES)
    assert sum(annotation["iscrowd"] for annotation in content["annotations"]) == 1


@pytest.mark.parametrize("year", ["train2017", "val2017"])
def test_hotcoco_finds_nothing_wrong(complete: Path, year: str) -> None:
    """Of warnings only the one that no small set escapes."""
    found = hotcoco.COCO(str(complete / f"coco/annotations/instances_{year}.json")).healthcheck()
    assert found["errors"] == []
    assert {warning["code"] for warning in found["warnings"]} <= {"low_instance_category"}
    assert found["summary"]["num_images"] == len(read(complete, year)["images"])


def test_another_seed_or_level_draws_other_images(complete: Path, tmp_path: Path) -> None:
    for number, other in enumerate(({"seed": 1}, {"level": "textured"})):
        write_small(tmp_path / str(number), coco_train=4, coco_val=4, **other)
        drawn = contents(tmp_path / str(number) / "coco")
        assert all(contents(complete / "coco")[name] != digest for name, digest in drawn.items() if "jpg" in name)
    assert json.loads((tmp_path / "0/coco/dataset.json").read_text())["name"] == "mini-coco"
    assert json.loads((tmp_path / "1/coco/dataset.json").read_text())["name"] == "mini-textured-coco"


def test_splits_show_other_scenes(complete: Path) -> None:
    files = contents(complete / "coco")
    images = [digest for name, digest in files.items() if name.endswith("jpg")]
    assert len(set(images)) == TRAIN + VAL


def test_interrupted_set_is_completed(complete: Path, tmp_path: Path) -> None:
    """The JSON files appear when all images are there; until then nothing takes the folder for a finished one."""

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    root = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        write_small(root, on_progress=interrupt)
    assert len(list((root / "coco").rglob("*.jpg"))) == TRAIN + VAL
    assert not list((root / "coco").rglob("*.json"))
    (root / "coco/val2017/000000000002.jpg").unlink()
    (root / "coco/val2017/.000000000002.jpg.partial").write_bytes(b"half an ima")
    (root / "coco/annotations").mkdir()
    (root / "coco/annotations/.instances_val2017.json.partial").write_text('{"images": [')
    assert write_small(root).drawn == 1
    assert contents(root) == contents(complete)


def test_more_images_are_added_to_a_set(complete: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_small(root, coco_train=10)
    assert write_small(root).drawn == TRAIN - 10
    assert contents(root) == contents(complete)


@pytest.mark.parametrize("split", ["coco_train", "coco_val"])
def test_fewer_images_than_there_are_is_refused(complete: Path, split: str) -> None:
    before = contents(complete)
    with pytest.raises(InputError, match=f"holds generated data with {split} .*, not 3. Choose a new folder"):
        write_small(complete, **{split: 3})
    assert contents(complete) == before


@pytest.mark.parametrize("split", ["coco_train", "coco_val"])
def test_a_set_without_images_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(InputError, match=f"{split.replace('_', ' ')} 0: expected at least 1"):
        write_small(tmp_path / "data", **{split: 0})
    assert not (tmp_path / "data").exists()


def test_folders_of_before_there_was_a_coco_part_are_refused(complete: Path, tmp_path: Path) -> None:
    card = json.loads((complete / "dataset.json").read_text())
    older = {key: value for key, value in card.items() if not key.startswith("coco")}
    (tmp_path / "dataset.json").write_text(json.dumps(older))
    with pytest.raises(InputError, match=r"not a manifest of this version of `backbench data mini`. Choose a new fold"):
        write_small(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
