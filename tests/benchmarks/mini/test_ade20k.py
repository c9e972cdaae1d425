"""The generated data in ADE20K's layout: what its label maps and its list of classes promise."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from benchmarks.mini import LEVELS, MiniSummary, draw_scattered_scene, write_mini
from tasks.datasets.label_maps.class_lists import find_class_list, read_class_list
from tests.support.folders import contents

TRAIN, VAL = 64, 32
SPLITS = {"ade_train": ("training", "train", TRAIN), "ade_val": ("validation", "val", VAL)}
MATERIALS = {
    "smooth": ["clay", "silk", "pearl", "brass"],
    "textured": ["clay", "silk", "pearl", "brass", "candy", "cloth", "confetti", "marble", "wood", "felt"],
}
BACKGROUNDS = {
    "smooth": ["wall", "sky", "spotlight", "fog"],
    "textured": ["wall", "sky", "spotlight", "fog", "planks", "tiles", "carpet", "rock", "sand", "gravel"],
}


def write_small(root: Path, **settings: object) -> MiniSummary:
    others = {"unlabelled": 0, "train": 8, "val": 8, "coco_train": 1, "coco_val": 1}
    return write_mini(root, **others | {"ade_train": TRAIN, "ade_val": VAL, "processes": 1} | settings)


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def root(level: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of each level."""
    root = tmp_path_factory.mktemp(level) / "data"
    write_small(root, level=level)
    return root


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mini") / "data"
    write_small(root)
    return root


def read_table(root: Path) -> list[dict[str, str]]:
    """The rows of the list of classes, whatever its name."""
    (path,) = (root / "ade20k").glob("objectInfo*.txt")
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_labels(root: Path, split: str) -> list[np.ndarray]:
    """A split's label maps in the order of their names."""
    paths = sorted((root / "ade20k/annotations" / SPLITS[split][0]).iterdir())
    return [np.asarray(Image.open(path)) for path in paths]


def test_layout_is_ade20ks(root: Path, level: str) -> None:
    ade20k = root / "ade20k"
    name = {"smooth": "mini-ade20k", "textured": "mini-textured-ade20k"}[level]
    assert json.loads((ade20k / "dataset.json").read_text()) == {"name": name}
    classes = f"objectInfo{len(MATERIALS[level] + BACKGROUNDS[level])}.txt"
    assert {path.name for path in ade20k.iterdir()} == {"images", "annotations", "dataset.json", classes}
    for folder, short, count in SPLITS.values():
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            names = sorted(path.name for path in (ade20k / kind / folder).iterdir())
            assert names == [f"ADE_{short}_{number:08d}.{suffix}" for number in range(1, count + 1)]
    readme = (root / "README.txt").read_text()
    assert "ade20k/annotations/training/           64 images to train on" in readme
    assert "ade20k/annotations/validation/       32 images to evaluate on" in readme


def test_annotations_are_grey_and_as_large_as_their_images(root: Path) -> None:
    for annotation in (root / "ade20k/annotations").rglob("*.png"):
        image = root / "ade20k/images" / annotation.parent.name / f"{annotation.stem}.jpg"
        with Image.open(annotation) as labels, Image.open(image) as picture:
            assert (labels.format, labels.mode) == ("PNG", "L")
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert labels.size == picture.size


def test_classes_are_the_materials_and_the_backgrounds(root: Path, level: str) -> None:
    rows = read_table(root)
    assert list(rows[0]) == ["Idx", "Ratio", "Train", "Val", "Name"]
    assert [row["Idx"] for row in rows] == [str(number + 1) for number in range(len(rows))]
    assert [row["Name"] for row in rows] == MATERIALS[level] + BACKGROUNDS[level]
    assert read_class_list(find_class_list(root / "ade20k", None)) == MATERIALS[level] + BACKGROUNDS[level]


def test_figures_of_the_classes_are_those_of_the_label_maps(root: Path) -> None:
    train, val = (read_labels(root, split) for split in SPLITS)
    pixels = np.concatenate([labels.ravel() for labels in train + val])
    for row in read_table(root):
        number = int(row["Idx"])
        assert int(row["Train"]) == sum((labels == number).any() for labels in train)
        assert int(row["Val"]) == sum((labels == number).any() for labels in val)
        assert float(row["Ratio"]) == pytest.approx((pixels == number).mean(), abs=5.1e-5)


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_occurs_in_both_splits(root: Path, split: str) -> None:
    present = {int(label) for labels in read_labels(root, split) for label in np.unique(labels)}
    assert present == {0, *(int(row["Idx"]) for row in read_table(root))}


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_what_the_pixels_show(root: Path, level: str, split: str) -> None:
    """The material within an object's mask, nothing within a crowd's, and the background outside all of them."""
    names = np.array(["other", *(row["Name"] for row in read_table(root))])
    kinds = {"object": 0, "crowd": 0, "empty": 0}
    for index, labels in enumerate(read_labels(root, split)):
        scene = draw_scattered_scene(0, split, index, level, 56)
        shown = names[labels]
        outside = np.ones(labels.shape, bool)
        for instance in scene.instances:
            outside &= ~instance.mask
            assert set(shown[instance.mask]) == {"other" if instance.crowd else instance.material}
            kinds["crowd" if instance.crowd else "object"] += 1
        assert set(shown[outside]) == {scene.background}
        kinds["empty"] += not scene.instances
    assert kinds["object"] > len(names)
    assert min(kinds.values()) >= 1


def test_files_hold_the_scenes(root: Path, level: str) -> None:
    with Image.open(root / "ade20k/images/validation/ADE_val_00000003.jpg") as image:
        error = np.abs(np.asarray(image, np.int16) - draw_scattered_scene(0, "ade_val", 2, level, 56).image)
    assert error.mean() < 3


def test_no_scene_is_shown_twice(smooth: Path, tmp_path: Path) -> None:
    """Neither by both splits, nor by COCO's, nor under another seed."""
    write_small(tmp_path / "coco", coco_train=TRAIN, coco_val=VAL, ade_train=1, ade_val=1)
    write_small(tmp_path / "other", seed=1)
    roots = (smooth / "ade20k", tmp_path / "coco/coco", tmp_path / "other/ade20k")
    files = {f"{number} {name}": digest for number, root in enumerate(roots) for name, digest in contents(root).items()}
    images = [digest for name, digest in files.items() if name.endswith("jpg")]
    assert len(images) == len(set(images)) == 3 * (TRAIN + VAL)


def test_interrupted_set_is_completed(smooth: Path, tmp_path: Path) -> None:
    """The class list and the card appear when all scenes are there; a scene lacks neither of its files."""

    def interrupt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    root = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        write_small(root, on_progress=interrupt)
    ade20k = root / "ade20k"
    assert [path.name for path in ade20k.rglob("*") if path.suffix in (".txt", ".json")] == []
    (ade20k / "images/training/ADE_train_00000002.jpg").unlink()
    (ade20k / "annotations/training/ADE_train_00000003.png").unlink()
    (ade20k / "images/validation/ADE_val_00000001.jpg").unlink()
    (ade20k / "annotations/validation/ADE_val_00000001.png").unlink()
    (ade20k / "annotations/validation/.ADE_val_00000001.png.partial").write_bytes(b"half a ma")
    (ade20k / ".objectInfo8.txt.partial").write_text("Idx\tRat")
    steps: list[tuple[int, int]] = []
    assert write_small(root, on_progress=lambda done, total: steps.append((done, total))).drawn == 3
    assert contents(root) == contents(smooth)
    scenes = 8 + 8 + 1 + 1 + TRAIN + VAL
    assert steps[-1] == (scenes, scenes)


def test_more_images_are_added_to_a_set(smooth: Path, tmp_path: Path) -> None:
    """The figures of the classes are then those of all images."""
    root = tmp_path / "data"
    assert write_small(root, ade_train=10, ade_val=5).drawn == 8 + 8 + 1 + 1 + 10 + 5
    fewer = read_table(root)
    summary = write_small(root)
    assert (summary.ade_train, summary.ade_val, summary.drawn) == (TRAIN, VAL, TRAIN - 10 + VAL - 5)
    assert read_table(root) != fewer
    assert contents(root) == contents(smooth)


@pytest.mark.parametrize("split", SPLITS)
def test_fewer_images_than_there_are_is_refused(smooth: Path, split: str) -> None:
    before = contents(smooth)
    with pytest.raises(InputError, match=f"holds generated data with {split} .*, not 3. Choose a new folder"):
        write_small(smooth, **{split: 3})
    assert contents(smooth) == before


@pytest.mark.parametrize("split", SPLITS)
def test_a_set_without_images_is_refused(tmp_path: Path, split: str) -> None:
    with pytest.raises(InputError, match=f"{split.replace('_', ' ')} 0: expected at least 1"):
        write_small(tmp_path / "data", **{split: 0})
    assert not (tmp_path / "data").exists()


def test_folders_of_before_there_was_an_ade20k_part_are_refused(smooth: Path, tmp_path: Path) -> None:
    card = json.loads((smooth / "dataset.json").read_text())
    older = {key: value for key, value in card.items() if not key.startswith("ade")}
    (tmp_path / "dataset.json").write_text(json.dumps(older))
    with pytest.raises(InputError, match=r"not a manifest of this version of `backbench data mini`. Choose a new fold"):
        write_small(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
