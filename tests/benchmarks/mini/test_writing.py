"""The generated data: what its scenes promise, and that its files are the same whatever happens on the way."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from benchmarks.mini import LEVELS, SHAPES, Scene, completing, draw_scattered_scene, draw_scene, write_mini
from benchmarks.mini.compositions import VISIBLE_SHARE
from benchmarks.mini.fields import shifted
from benchmarks.mini.imagenet import image_path
from benchmarks.mini.shapes import REACH, outlines, signed_distance
from benchmarks.mini.writing import DRAWING_VERSION
from tests.support.folders import contents


def write_small(root: Path, **settings: object) -> object:
    dominant = {"unlabelled": 40, "train": 16, "val": 16}
    scattered = {"coco_train": 12, "coco_val": 6, "ade_train": 10, "ade_val": 5}
    return write_mini(root, **dominant | scattered | {"image_size": 32, "processes": 1} | settings)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_small(root)
    return root


@pytest.fixture(scope="module", params=LEVELS)
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [draw_scene(3, "train", index, request.param, 48) for index in range(160)]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_cover_the_same_area_round_the_origin(shape: str) -> None:
    axis = np.linspace(-REACH, REACH, 400, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    inside = signed_distance(shape, x, y) < 0
    cell = (axis[1] - axis[0]) ** 2
    assert inside.sum() * cell == pytest.approx(1, abs=0.01)
    assert abs(x[inside].mean()) < 0.01
    assert abs(y[inside].mean()) < 0.01
    assert np.abs(np.concatenate(outlines(shape))).max() < REACH


def test_signed_distance_of_the_square_is_exact() -> None:
    axis = np.linspace(-1, 1, 81, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    beyond = np.stack([np.abs(x), np.abs(y)]) - 0.5
    exact = np.hypot(*np.maximum(beyond, 0)) + np.minimum(beyond.max(axis=0), 0)
    np.testing.assert_allclose(signed_distance("square", x, y), exact, atol=0.01)


def test_shifted_field_does_not_wrap_round() -> None:
    field = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(shifted(field, down=1, across=-2), [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]])


@pytest.mark.parametrize(
    ("level", "split", "index", "background", "instances", "pixels", "mean", "deviation"),
    [
        ("smooth", "train", 0, "spotlight", 1, 689, (53.67, 62.41, 177.49), (14.69, 53.75, 44.35)),
        ("smooth", "val", 13, "spotlight", 1, 894, (134.68, 63.99, 119.17), (29.71, 67.82, 52.66)),
        ("smooth", "unlabelled", 130, "spotlight", 1, 720, (107.1, 114.35, 104.38), (52.06, 14.3, 37.31)),
        ("textured", "train", 0, "tiles", 1, 858, (85.34, 56.19, 186.06), (44.59, 36.01, 49.17)),
        ("textured", "val", 13, "tiles", 3, 614, (91.88, 49.4, 131.13), (51.44, 53.51, 57.43)),
        ("textured", "unlabelled", 130, "carpet", 4, 778, (96.46, 85.36, 96.74), (63.9, 53.49, 39.77)),
        ("smooth", "coco_train", 18, "spotlight", 3, 709, (126.89, 103.51, 185.85), (35.42, 39.73, 66.87)),
        ("smooth", "coco_val", 3, "wall", 5, 1162, (172.14, 57.17, 135.74), (47.45, 40.6, 43.79)),
        ("smooth", "ade_train", 0, "sky", 2, 1194, (107.99, 105.36, 96.73), (38.2, 31.01, 44.29)),
        ("smooth", "ade_val", 3, "fog", 3, 688, (132.54, 139.63, 136.75), (31.54, 34.73, 44.55)),
        ("textured", "coco_train", 18, "tiles", 3, 730, (106.25, 96.52, 190.31), (31.92, 32.76, 71.96)),
        ("textured", "coco_val", 3, "wall", 5, 1163, (161.78, 58.31, 143.39), (58.95, 42.14, 41.17)),
        ("textured", "ade_train", 0, "fog", 1, 724, (116.98, 86.42, 89.83), (24.65, 25.78, 19.15)),
        ("textured", "ade_val", 3, "rock", 2, 1066, (126.16, 125.26, 86.12), (16.21, 19.48, 43.35)),
    ],
)
def test_the_drawings_are_those_of_drawing_version_3(
    level: str,
    split: str,
    index: int,
    background: str,
    instances: int,
    pixels: int,
    mean: tuple[float, ...],
    deviation: tuple[float, ...],
) -> None:
    """If this fails, the same seed draws other images, and DRAWING_VERSION must be raised.

    Statistics rather than hashes: the last bit of a sine differs between processors.
    """
    assert DRAWING_VERSION == 3
    draw = draw_scattered_scene if split.startswith(("coco", "ade")) else draw_scene
    scene = draw(0, split, index, level, 56)
    assert (scene.background, len(scene.instances)) == (background, instances)
    assert scene.instances[0].mask.sum() == pytest.approx(pixels, abs=2)
    assert scene.image.mean(axis=(0, 1)) == pytest.approx(mean, abs=0.03)
    assert scene.image.std(axis=(0, 1)) == pytest.approx(deviation, abs=0.03)


def test_masks_are_disjoint_and_within_the_whole(scenes: list[Scene]) -> None:
    for scene in scenes:
        masks = np.stack([instance.mask for instance in scene.instances])
        assert masks.dtype == bool
        assert masks.shape[1:] == scene.image.shape[:2]
        assert masks.sum(axis=0).max() == 1
        assert masks.any(axis=(1, 2)).all()
        for instance in scene.instances:
            assert not (instance.mask & ~instance.whole).any()


def test_mask_is_where_the_object_is_painted() -> None:
    """Away from its edge and shadow, an object of one colour on a wall of one colour tells its own mask."""
    scene = next(
        scene
        for scene in (draw_scene(0, "val", index, "smooth", 96) for index in range(400))
        if scene.background == "wall" and len(scene.instances) == 1 and scene.instances[0].material == "clay"
    )
    mask = scene.instances[0].mask
    hue = scene.image / scene.image.sum(axis=2, keepdims=True)
    background, body = np.median(hue[~mask], axis=0), np.median(hue[mask], axis=0)
    nearer_body = np.linalg.norm(hue - body, axis=2) < np.linalg.norm(hue - background, axis=2)
    assert (nearer_body == mask).mean() > 0.98


def test_dominant_object_decides_the_label(scenes: list[Scene]) -> None:
    for index, scene in enumerate(scenes):
        dominant = scene.instances[0]
        assert dominant.shape == SHAPES[index % len(SHAPES)]
        assert dominant.mask.sum() >= VISIBLE_SHARE * dominant.whole.sum()
        for other in scene.instances[1:]:
            assert other.whole.sum() < 0.5 * dominant.whole.sum()


def test_companions_hide_parts_of_textured_scenes() -> None:
    scenes = [draw_scene(3, "train", index, "textured", 48) for index in range(40)]
    hidden = [scene for scene in scenes if (scene.instances[0].mask != scene.instances[0].whole).any()]
    assert len(hidden) > 5


def test_image_size_keeps_the_composition() -> None:
    small, large = (draw_scene(1, "val", 5, "smooth", size) for size in (40, 160))
    assert [instance.shape for instance in small.instances] == [instance.shape for instance in large.instances]
    shrunk = large.instances[0].mask.reshape(40, 4, 40, 4).mean(axis=(1, 3)) > 0.5
    assert (shrunk == small.instances[0].mask).mean() > 0.99


@pytest.mark.parametrize("level", LEVELS)
def test_colours_and_backgrounds_do_not_tell_the_class(level: str) -> None:
    """Ridge regression on joint colour histograms stays near chance; on the masks' coarse form it does not."""
    count, held_out = 1600, 400
    scenes = [draw_scene(5, "train", index, level, 24) for index in range(count)]
    labels = np.arange(count) % len(SHAPES)

    def accuracy(features: np.ndarray) -> float:
        features = np.hstack([(features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6), np.ones((count, 1))])
        known, targets = features[:-held_out], np.eye(len(SHAPES))[labels[:-held_out]]
        weights = np.linalg.solve(known.T @ known + 300 * np.eye(known.shape[1]), known.T @ targets)
        return float(((features[-held_out:] @ weights).argmax(axis=1) == labels[-held_out:]).mean())

    bins = [np.bincount((scene.image // 64 @ (16, 4, 1)).ravel(), minlength=64) for scene in scenes]
    means = [np.concatenate([scene.image.mean(axis=(0, 1)), scene.image.std(axis=(0, 1))]) for scene in scenes]
    share = [[scene.instances[0].whole.mean()] for scene in scenes]
    forms = [np.abs(np.fft.fft2(scene.instances[0].whole))[:8, :8].ravel() for scene in scenes]
    chance, margin = 1 / len(SHAPES), 0.06  # 3.6 standard deviations of the mean of 400 guesses
    assert accuracy(np.sqrt(bins)) < chance + margin
    assert accuracy(np.array(means)) < chance + margin
    assert accuracy(np.array(share)) < chance + margin
    assert accuracy(np.array(forms)) > 2 * chance
    for kind in ("background", "material"):
        names = [scene.background if kind == "background" else scene.instances[0].material for scene in scenes]
        columns = np.array([[name == other for other in sorted(set(names))] for name in names], float)
        assert accuracy(columns) < chance + margin


def test_layout_is_imagenets(complete: Path) -> None:
    assert (complete / "classes.txt").read_text().split() == list(SHAPES)
    for split in ("train", "val"):
        assert sorted(path.name for path in (complete / split).iterdir()) == sorted(SHAPES)
        assert all(len(list((complete / split / shape).iterdir())) == 2 for shape in SHAPES)
    assert len(list((complete / "unlabelled").iterdir())) == 40
    assert "16 labelled" in (complete / "README.txt").read_text()
    assert not list(complete.rglob("*.partial"))


def test_files_hold_the_scenes(complete: Path) -> None:
    with Image.open(complete / image_path("val", 3)) as image:
        assert image.format == "JPEG"
        error = np.abs(np.asarray(image, np.int16) - draw_scene(0, "val", 3, "smooth", 32).image)
        assert error.mean() < 3


def test_some_files_are_lossless_png_of_every_class(tmp_path: Path) -> None:
    write_small(tmp_path / "data", unlabelled=0, train=128, val=8)
    pngs = sorted((tmp_path / "data/train").rglob("*.png"))
    assert {path.parent.name for path in pngs} == set(SHAPES)
    with Image.open(pngs[0]) as image:
        assert np.array_equal(image, draw_scene(0, "train", int(pngs[0].stem), "smooth", 32).image)


def test_same_bytes_from_several_processes(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which the batches end, the annotations are in the order of the images."""
    monkeypatch.setattr(completing, "SCENES_PER_BATCH", 4)
    write_small(tmp_path / "data", processes=2)
    assert contents(tmp_path / "data") == contents(complete)


def test_another_seed_or_level_draws_other_images(complete: Path, tmp_path: Path) -> None:
    for number, other in enumerate(({"seed": 1}, {"level": "textured"})):
        root = tmp_path / str(number)
        write_small(root, **other)
        differing = {name for name, digest in contents(root).items() if contents(complete).get(name) != digest}
        assert {name for name in differing if name.startswith("train")} == {
            str(path.relative_to(complete)) for path in (complete / "train").rglob("*.*")
        }


def test_complete_set_is_left_alone(complete: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in complete.rglob("*")}
    assert write_small(complete).drawn == 0
    assert {path: path.stat().st_mtime_ns for path in complete.rglob("*")} == before


def test_interrupted_set_is_completed(complete: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    root = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        write_small(root, on_progress=interrupt)
    assert not (root / "dataset.json").exists()
    removed = next(root.rglob("*.jpg"))
    removed.unlink()
    removed.with_name(f".{removed.name}.partial").write_bytes(b"half an ima")
    steps: list[tuple[int, int]] = []
    summary = write_small(root, on_progress=lambda done, total: steps.append((done, total)))
    assert contents(root) == contents(complete)
    assert 0 < summary.drawn < 105
    assert steps[-1] == (105, 105)


def test_more_images_are_added_to_a_set(complete: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_small(root, unlabelled=10)
    assert write_small(root).drawn == 30
    assert contents(root) == contents(complete)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"seed": 7}, "seed"),
        ({"level": "textured"}, "level"),
        ({"image_size": 48}, "image_size"),
        ({"train": 8}, "train"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(complete: Path, settings: dict[str, object], named: str) -> None:
    before = contents(complete)
    with pytest.raises(InputError, match=f"holds generated data with {named}.*new folder"):
        write_small(complete, **settings)
    assert contents(complete) == before


def test_folders_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="not empty"):
        write_small(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"version": 0}))
    with pytest.raises(InputError, match=r"dataset\.json: not a manifest"):
        write_small(tmp_path)
    with pytest.raises(InputError, match="cannot write"):
        write_small(tmp_path / "holiday.jpg" / "data")
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "settings",
    [
        {"level": "rough"},
        {"seed": -1},
        {"image_size": 8},
        {"train": 7},
        {"val": 0},
        {"unlabelled": -1},
        {"processes": 0},
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(settings)).replace("_", " ")):
        write_small(tmp_path / "data", **settings)
    assert not (tmp_path / "data").exists()
