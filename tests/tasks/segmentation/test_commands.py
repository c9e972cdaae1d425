"""What a segmentation run says to mistakes of every kind, and that nothing is lost or left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.segmentation.areas import load_areas
from tests.support.commands import read_record, run_directory
from tests.support.folders import bury, halve
from tests.support.image_examples import save_tagged, tagged
from tests.support.in_process import (
    assert_evaluated_once_there_is_room,
    assert_found_by_run_and_check,
    call,
    refusal,
    refusal_before_training,
    success,
)
from tests.support.segmentation_runs import TRAIN, VAL, annotation_file, image_file, segmentation


@pytest.fixture(scope="module")
def finished(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished run."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    success(*segmentation(few, out))
    return out


def class_list(root: Path) -> Path:
    return root / "objectInfo8.txt"


def name_150_classes(root: Path) -> None:
    """And use a label beyond them."""
    class_list(root).write_text("".join(f"class {number}\n" for number in range(1, 151)))
    path = annotation_file(root, "val", 3)
    labels = np.asarray(Image.open(path)).copy()
    labels[5:9, 5:9] = 200
    Image.fromarray(labels).save(path)


def colour(root: Path, number: int = 2) -> None:
    path = annotation_file(root, "train", number)
    Image.open(path).convert("RGB").save(path)


def resize(root: Path) -> None:
    path = annotation_file(root, "train", 2)
    Image.open(path).resize((33, 21), Image.Resampling.NEAREST).save(path)


def empty(root: Path) -> None:
    for path in (*(root / "images/validation").iterdir(), *(root / "annotations/validation").iterdir()):
        path.unlink()


def erase_labels(root: Path) -> None:
    for path in (root / "annotations/training").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no annotation": (
        lambda root: annotation_file(root, "train", 2).unlink(),
        "{root}/images/training: 1 image of 8 without an annotation: ADE_train_00000002.jpg. Expected {root}/",
    ),
    "no image": (
        lambda root: image_file(root, "val", 3).unlink(),
        "{root}/annotations/validation: 1 annotation of 4 without an image: ADE_val_00000003.png. Expected an image",
    ),
    "another size": (resize, "{train}: 33 × 21 pixels, but its image {train_image} has "),
    "a label beyond the classes": (
        name_150_classes,
        "{val}: label 200 out of range: expected, for 150 classes, 1 to 150, and 0 or 255 where there is none. ",
    ),
    "a coloured annotation": (
        colour,
        "{train}: a colour picture (RGB): expected a PNG with one number a pixel, greyscale or with a palette",
    ),
    "no labels": (erase_labels, "no pixel of the 8 training annotations has a class (0 is a class with --set data."),
    "no class list": (
        lambda root: class_list(root).unlink(),
        "{root}: no class list found. Expected objectInfo150.txt there, or --set data.classes=FILE with one name a",
    ),
    "the folder above": (bury, "{root}: no segmentation data set found. Expected images/training, annotations/train"),
}


class TestMistakesInTheData:
    @pytest.mark.parametrize("case", MISTAKES)
    def test_are_refused_by_a_run_and_found_by_the_check(self, copied: Path, tmp_path: Path, case: str) -> None:
        spoil, expected = MISTAKES[case]
        spoil(copied)
        places = {"train": annotation_file(copied, "train", 2), "val": annotation_file(copied, "val", 3)}
        expected = expected.format(root=copied, train_image=image_file(copied, "train", 2), **places)
        assert_found_by_run_and_check(segmentation(copied, tmp_path / "out"), "ade20k", copied, expected)
        assert list(tmp_path.glob("out/*")) == []

    def test_an_empty_split(self, copied: Path, tmp_path: Path) -> None:
        empty(copied)
        message = refusal(*segmentation(copied, tmp_path / "out"), status=3)
        assert message.startswith(f"{copied}/images/validation: no images found, the val split is empty. Expected ")
        assert list(tmp_path.glob("out/*")) == []

    def test_one_of_its_folders_is_no_data_set(self, few: Path, tmp_path: Path) -> None:
        message = refusal(*segmentation(few / "images", tmp_path / "out"), status=3)
        assert message.startswith(f"{few}/images: no segmentation data set found. Expected images/training, ")

    def test_of_many_the_first_few_are_named(self, copied: Path, tmp_path: Path) -> None:
        for number in (1, 2, 5, 7):
            colour(copied, number)
        message = refusal(*segmentation(copied, tmp_path / "out"), status=3)
        assert message.startswith("4 annotations cannot be used. ")
        assert message.count("a colour picture") == 3
        assert message.endswith(" And 1 more; `backbench data check ade20k` lists all.")
        assert list(tmp_path.glob("out/*")) == []


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"model__tap": "[0, 1, 2, 3]"}, 'key "model.tap": no such setting. Did you mean "taps"?'),
            ({"data__train_image": "x"}, 'key "data.train_image": no such setting. Did you mean "train_images"?'),
            ({"data__classes": "nowhere.txt"}, "/nowhere.txt: no such class list. Expected objectInfo150.txt there"),
            ({"data__val_images": "nowhere"}, "/nowhere: no such folder. Expected a folder of images. Other places: "),
            ({"model__taps": "[1, 2, 3, 11]"}, 'taps": [1, 2, 3, 11]: expected the numbers of 4 blocks, counted'),
            ({"model__taps": "[3, 2, 1, 0]"}, "ascending, the last of them 3, for this ViT has 4 blocks."),
            ({"inference__stride": 33}, "inference.stride 33 is larger than the windows of model.image_size 32: "),
            ({"inference__mode": "whole"}, 'mode "slide" needs a stride, and mode "whole" has none (inference.stride='),
            ({"inference__stride": "null"}, 'mode "slide" needs a stride, and mode "whole" has none'),
            ({"inference__resize": "[32, 128]"}, "the longest side comes first, then the shorter side"),
            ({"inference__scales": "[1.0, 0.03]"}, "0.03 times resize [128, 32] is less than a pixel"),
            ({"augment__ratio": "[0.03, 1]"}, "0.03 times resize [128, 32] is less than a pixel"),
            ({"augment__ratio": "[2, 1]"}, 'key "augment.ratio": the smaller number comes first'),
            ({"optimizer__batch_size": 1}, "UPerNet's batch norm needs at least two images a step, over all processes"),
            (
                {"runtime__batch_per_device": 1},
                "two images a step, over all processes. Raise it, or runtime.",
            ),
            ({"schedule__warmup_iterations": 4}, "the warm-up (4) must be shorter than the training (4)"),
            ({"evaluation__every_epochs": 1}, 'Did you mean "every_iterations"?'),
        ],
    )
    def test_that_do_not_fit_are_refused(
        self, few: Path, tmp_path: Path, changes: dict[str, object], expected: str
    ) -> None:
        assert expected in refusal(
            *segmentation(few, tmp_path / "out", **changes), status=3 if expected.startswith("/") else 2
        )
        assert list(tmp_path.glob("out/*")) == []

    def test_a_single_class_is_refused(self, few: Path, tmp_path: Path) -> None:
        (tmp_path / "classes.txt").write_text("crack\n")
        message = refusal(*segmentation(few, tmp_path / "out", data__classes=tmp_path / "classes.txt"), status=3)
        assert message.startswith(f"{tmp_path}/classes.txt: 'crack' is the only class, and UPerNet needs two or more")
        assert list(tmp_path.glob("out/*")) == []

    def test_a_recipe_of_another_task_does_not_take_the_data(self, mini: Path, few: Path, tmp_path: Path) -> None:
        place = ["--backbone", "random_vit_mini", "--out", tmp_path / "out"]
        message = refusal("run", "--recipe", "mini_detection", "--data", few, *place, status=3)
        assert message.startswith(f"{few}: no data set in COCO's format found. Expected train2017, ")
        assert refusal(*segmentation(mini / "coco", tmp_path / "out"), status=3).startswith(
            f"{mini}/coco: no segmentation data"
        )
        message = refusal("pretrain", "--recipe", "mini_segmentation", "--data", few, "--out", tmp_path / "out")
        assert "segmentation" in message and "backbench run" in message
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("backbone", "expected"),
        [
            ("gmlp_ti16_224", "(it has no blocks with attention). Use --set model.adapter=simple"),
            (
                "vit_small_patch16_rope_224",
                "(its attention is timm.layers.attention.AttentionRope). Use --set model.ad",
            ),
            ("test_vit", "a ViT of 6 blocks: "),
        ],
    )
    def test_a_trunk_that_cannot_be_a_pyramid_is_refused(
        self, few: Path, tmp_path: Path, backbone: str, expected: str
    ) -> None:
        assert expected in refusal(*segmentation(few, tmp_path / "out", backbone))
        assert list(tmp_path.glob("out/*")) == []

    def test_a_model_of_one_size_is_refused_for_larger_whole_images(self, few: Path, tmp_path: Path) -> None:
        """Before training, not after it."""
        changes = {"inference__mode": "whole", "inference__stride": "null", "inference__scales": "[0.5, 1.5]"}
        message = refusal(*segmentation(few, tmp_path / "out", "swin_tiny_patch4_window7_224", **changes))
        assert message.startswith('key "inference.mode": whole images have up to 192 pixels a side (inference.resize')
        assert "SwinTransformer is built for model.image_size 32. Use mode slide" in message
        assert list(tmp_path.glob("out/*")) == []

    def test_a_training_that_diverges_is_stopped(self, few: Path, tmp_path: Path) -> None:
        assert "training has diverged" in refusal(*segmentation(few, tmp_path, optimizer__lr=1e38), status=4)
        assert not list(tmp_path.rglob("record.json"))


def test_tagged_images_are_trained_on_and_scored_upright(copied: Path, tmp_path: Path) -> None:
    """As phones store them; one is annotated as it is stored, and stays so."""
    for split, numbers in (("train", TRAIN), ("val", VAL)):
        for number in numbers:
            path = image_file(copied, split, number)
            with Image.open(path) as image:
                scene = image.convert("RGB")
            save_tagged(scene, path, (3, 6, 8)[number % 3])
    assert scene.width != scene.height
    scene.save(path, exif=tagged(6))
    output = success(*segmentation(copied, tmp_path / "out")).output
    record = read_record(tmp_path / "out")
    assert "unreadable" not in output and record["corrupt_images"] == []
    expected = [
        "8 train images with an EXIF orientation, turned by it as detectron2 and mmcv do.",
        "4 val images with an EXIF orientation, turned by it as detectron2 and mmcv do; not so 1 of them, which only "
        "unturned have the size of their annotations.",
    ]
    assert [note for note in record["notes"] if "EXIF" in note] == expected
    checked = success("data", "check", "ade20k", "--data", copied).output
    assert "8 train images with an EXIF orientation, turned by it" in checked


class TestBrokenFiles:
    def test_are_named_and_the_rest_is_trained_on_and_scored(self, mini: Path, tmp_path: Path) -> None:
        """An image and an annotation of each split; 24 images to train on, of which 12 updates see all."""
        copied = Path(shutil.copytree(mini / "ade20k", tmp_path / "scenes"))
        evaluated = {halve(image_file(copied, "val", 3)), halve(annotation_file(copied, "val", 5))}
        trained = {halve(image_file(copied, "train", 2)), halve(annotation_file(copied, "train", 4))}
        message = refusal_before_training(*segmentation(copied, tmp_path / "out"), status=3)
        assert message.startswith("2 unreadable evaluation image(s): ")
        for path in evaluated:
            assert f"{path}: " in message
        assert "--set evaluation.allow_unreadable=true" in message
        assert list((tmp_path / "out").iterdir()) == []

        changes = {"evaluation__allow_unreadable": "true", "schedule__iterations": 12}
        result = success(*segmentation(copied, tmp_path / "out", **changes))
        record = read_record(tmp_path / "out")
        named = {Path(line.partition(": ")[0]) for line in record["corrupt_images"]}
        assert named == trained | evaluated
        for path in named:
            assert f"unreadable image: {path}" in result.output
        assert {metric["n_eval"] for metric in record["metrics"]} == {10}
        areas = load_areas(run_directory(tmp_path / "out") / "areas.npz")
        left_out = {image_file(copied, "val", number).name for number in (3, 5)}
        everything = {path.name for path in (copied / "images/validation").iterdir()}
        assert areas.image_names == sorted(everything - left_out)
        (expected,) = areas.mean_iou(np.ones((1, 10)))
        assert record["metrics"][0]["value"] == pytest.approx(expected, abs=1e-9)

    def test_most_of_them(self, mini: Path, tmp_path: Path) -> None:
        copied = Path(shutil.copytree(mini / "ade20k", tmp_path / "scenes"))
        for number in range(2, 25):
            image_file(copied, "train", number).write_text("not an image")
        message = refusal(*segmentation(copied, tmp_path / "out"), status=3)
        assert "of 24 training images are unreadable, the first is" in message and ": text, not an image" in message

    def test_the_check_names_them(self, copied: Path) -> None:
        broken = halve(image_file(copied, "train", 2)), halve(annotation_file(copied, "val", 3))
        result = call("data", "check", "ade20k", "--data", copied)
        assert result.exit_code == 1
        for path in broken:
            assert f"{path}: unreadable image: " in result.output


@pytest.mark.parametrize("full", ["areas.npz", "segmentations_4.png"])
def test_a_full_disk_after_training(few: Path, finished: Path, tmp_path: Path, full: str) -> None:
    """The run is refused without a record; once there is room, the repeated command evaluates and is done."""
    out, arguments = tmp_path / "out", segmentation(few, tmp_path / "out")
    assert_evaluated_once_there_is_room(arguments, finished, out, full, "areas.npz", "pictures/*")
    assert read_record(out)["metrics"][0]["n_eval"] == len(VAL)
