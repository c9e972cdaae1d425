"""What a detection run says to mistakes of every kind, and that nothing is lost or left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.support.commands import last_checkpoint, metric_values, read_record, run_directory
from tests.support.detection_runs import TRAIN, VAL, annotation_file, change_annotations, detection, image_file
from tests.support.folders import bury, halve
from tests.support.image_examples import save_tagged, tagged
from tests.support.in_process import (
    assert_evaluated_once_there_is_room,
    assert_found_by_run_and_check,
    call,
    hide_training,
    refusal,
    refusal_before_training,
    success,
)


@pytest.fixture(scope="module")
def finished(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a finished run."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    success(*detection(few, out))
    return out


def annotations(split: str, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    return lambda root: change_annotations(root, split, lambda content: change(content["annotations"]))


def climb(root: Path) -> None:
    image_file(root, "val", 3).rename(root / "3.jpg")
    change_annotations(root, "val", lambda content: content["images"][1].update(file_name="../3.jpg"))


def cut_short(root: Path) -> None:
    path = annotation_file(root, "val")
    path.write_text(path.read_text()[:500])


def rename_category(root: Path) -> None:
    change_annotations(root, "val", lambda content: content["categories"][0].update(name="zebra"))


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "JSON cut short": (cut_short, "{val}: cut short: the JSON is still open at the file's end, after 500 bytes "),
    "unknown category": (
        annotations("train", lambda entries: entries[3].update(id=99, category_id=77)),
        "{train}: 1 annotation of categories that the file doesn't list: annotation 99 (category_id 77). Add ",
    ),
    "unknown image": (
        annotations("val", lambda entries: entries[3].update(id=99, image_id=7777)),
        "{val}: 1 annotation of images that the file doesn't list: annotation 99 (image_id 7777). Add the images, or ",
    ),
    "climbing name": (climb, '{val}: 1 image without a usable "file_name" (expected a path below the folder of images'),
    "missing image": (
        lambda root: image_file(root, "val", 3).unlink(),
        "{val}: 1 image of 4 not found in {root}/val2017: 000000000003.jpg. Add them, or remove them from the file.",
    ),
    "no annotations": (
        annotations("val", list.clear),
        "{val}: no annotations: the list is empty. Files of COCO's test",
    ),
    "crowds alone": (
        annotations("train", lambda entries: [entry.update(iscrowd=1) for entry in entries]),
        "{train}: no annotation can be trained on: ",
    ),
    "other categories": (
        rename_category,
        "{val}: not the categories of {train}: 1 is 'arrow' in train, 'zebra' in val",
    ),
    "the folder above": (
        bury,
        "{root}: no data set in COCO's format found. Expected train2017, annotations/instances_",
    ),
}


class TestMistakesInTheData:
    @pytest.mark.parametrize("case", MISTAKES)
    def test_are_refused_by_a_run_and_found_by_the_check(self, copied: Path, tmp_path: Path, case: str) -> None:
        spoil, expected = MISTAKES[case]
        spoil(copied)
        places = {split: annotation_file(copied, split) for split in ("train", "val")}
        expected = expected.format(root=copied, **places)
        assert_found_by_run_and_check(detection(copied, tmp_path / "out"), "coco", copied, expected)
        assert not (tmp_path / "out").exists()

    def test_of_many_a_run_names_the_first_and_the_check_all(self, copied: Path, tmp_path: Path) -> None:
        def spoil(content: dict[str, Any]) -> None:
            content["images"][2]["height"] = 0
            content["categories"][0].pop("name")
            content["annotations"][4].update(id=98, category_id=77)

        change_annotations(copied, "train", spoil)
        message = refusal(*detection(copied, tmp_path / "out"), status=3)
        assert '"height"' in message
        assert message.endswith("Other mistakes in this file: 2; `backbench data check coco` lists all.")
        check = call("data", "check", "coco", "--data", copied)
        assert check.exit_code == 1
        for expected in ('"height"', '"name" (expected a text): category 1 has none', "annotation 98 (category_id 77)"):
            assert expected in check.output

    def test_annotations_that_show_nothing_are_noted(self, copied: Path, tmp_path: Path) -> None:
        def spoil(entries: list[dict[str, Any]]) -> None:
            entries[0].update(id=97, bbox=[500, 500, 10, 10])
            entries[1].update(id=98, segmentation=[[5, 5, 5, 5, 5, 5]])
            entries[2].update(id=99, bbox=[10, 10, 500, 500])

        for split in ("train", "val"):
            change_annotations(copied, split, lambda content: spoil(content["annotations"]))
        notes = [
            f"1 {split} annotation with {what}: {fate} (ids {identity})."
            for split, fate in (
                ("train", "left out of training"),
                ("val", "kept in the ground truth, which is scored as the file has it"),
            )
            for what, identity in (("a box wholly outside its image", 97), ("a mask that covers nothing", 98))
        ]
        success(*detection(copied, tmp_path / "out"))
        assert set(notes) <= set(read_record(tmp_path / "out")["notes"])
        check = call("data", "check", "coco", "--data", copied)
        assert check.exit_code == 0
        for split in ("train", "val"):
            notes.append(f"1 {split} annotation with a box that reaches beyond its image (ids 99).")
        assert {f"  note: {note}" for note in notes} <= set(check.output.splitlines())


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"data__train_json": "missing.json"}, "/missing.json: no such file. Expected COCO's layout below"),
            ({"data__val_images": "nowhere"}, "/nowhere: no such folder. Expected COCO's layout below"),
            ({"data__train_jsn": "x"}, 'key "data.train_jsn": no such setting. Did you mean "train_json"?'),
            ({"model__adaptr": "fpn"}, 'key "model.adaptr": no such setting. Did you mean "adapter"?'),
            ({"model__adapter": "xyz"}, "key \"model.adapter\": Input should be 'fpn' or 'simple'; found 'xyz'"),
            ({"augment__scale": "[2, 1]"}, 'key "augment.scale": the smaller number comes first'),
            ({"schedule__milestones": "[2]"}, 'milestones belong to shape "step"'),
            ({"schedule__shape": "step"}, 'milestones belong to shape "step", which needs at least one'),
            (
                {"schedule__shape": "step", "schedule__milestones": "[9]"},
                "milestone 9 lies beyond the training's 4 iterations",
            ),
            (
                {"schedule__shape": "step", "schedule__milestones": "[3, 2]"},
                'key "schedule.milestones": each milestone comes after the one before it',
            ),
            ({"schedule__warmup_iterations": 9}, "the warm-up (9) must be shorter than the training (4)"),
            ({"evaluation__every_epochs": 1}, 'Did you mean "every_iterations"?'),
        ],
    )
    def test_that_do_not_fit_are_refused(
        self, few: Path, tmp_path: Path, changes: dict[str, object], expected: str
    ) -> None:
        assert expected in refusal(
            *detection(few, tmp_path / "out", **changes), status=3 if expected.startswith("/") else 2
        )
        assert not (tmp_path / "out").exists()

    def test_a_training_that_diverges_is_stopped(self, few: Path, tmp_path: Path) -> None:
        assert "training has diverged" in refusal(*detection(few, tmp_path, optimizer__lr=1e38), status=4)
        assert not list(tmp_path.rglob("record.json"))

    @pytest.mark.parametrize(
        ("backbone", "adapter", "expected"),
        [
            (
                "gmlp_ti16_224",
                "fpn",
                "(it has no blocks with attention). Use --set model.adapter=simple --set model.window",
            ),
            ("gmlp_ti16_224", "simple", "MlpMixer gives one map, of stride 16, which these settings are not for"),
            ("vit_small_patch16_rope_224", "fpn", "(its attention is timm.layers.attention.AttentionRope). Use --set"),
            ("test_resnet", "simple", "ResNet: the adapter `simple` needs a plain ViT, and this model is a pyramid"),
            ("test_vit", "fpn", "a ViT of 6 blocks: "),
        ],
    )
    def test_a_trunk_that_cannot_be_a_pyramid_is_refused(
        self, few: Path, tmp_path: Path, backbone: str, adapter: str, expected: str
    ) -> None:
        (tmp_path / "out").mkdir()
        assert expected in refusal(*detection(few, tmp_path / "out", backbone, model__adapter=adapter))
        assert list((tmp_path / "out").iterdir()) == []


def pycocotools_scores(file: Path, detections: Path, images: list[int]) -> list[float]:
    """The 12 statistics of boxes in percent; -100 for what is undefined."""
    truth = COCO(str(file))
    evaluation = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
    evaluation.params.imgIds = images
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [100 * value for value in evaluation.stats.tolist()]


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
    output = success(*detection(copied, tmp_path / "out")).output
    record = read_record(tmp_path / "out")
    assert "unreadable" not in output and record["corrupt_images"] == []
    assert [note for note in record["notes"] if "EXIF" in note] == [
        "4 val images with an EXIF orientation, turned by it as detectron2 and mmcv do; not so 1 of them, which only "
        "unturned have the size of their annotations."
    ]
    checked = success("data", "check", "coco", "--data", copied).output
    assert "8 train images with an EXIF orientation, turned by it" in checked


def test_position_embeddings_are_those_that_were_asked_for(few: Path, finished: Path, tmp_path: Path) -> None:
    """The backbone's, of 48 / 8 patches a side, or new ones for the image's, of 64 / 8."""
    success(*detection(few, tmp_path / "out", model__position_embeddings="sincos"))
    assert "model.position_embeddings=sincos (reference loaded)" in read_record(tmp_path / "out")["deviations"]
    sides = []
    for out in (finished, tmp_path / "out"):
        weights = torch.load(last_checkpoint(out), weights_only=True)["model"]
        (position,) = (value for name, value in weights.items() if name.endswith("trunk.pos_embed"))
        sides.append(tuple(position.shape))
    assert sides == [(1, 6, 6, 128), (1, 8, 8, 128)]


def test_that_a_backbone_has_no_place_for_them_is_noted(few: Path, tmp_path: Path) -> None:
    changes = {"model__position_embeddings": "sincos", "optimizer__layer_decay": "null", "schedule__iterations": 1}
    success(*detection(few, tmp_path, "resnet10t", schedule__warmup_iterations=0, **changes))
    assert "model.position_embeddings=sincos has no effect" in " ".join(read_record(tmp_path)["notes"])


class TestBrokenImages:
    def test_are_named_and_the_rest_is_trained_on_and_scored(self, mini: Path, tmp_path: Path) -> None:
        copied = shutil.copytree(mini / "coco", tmp_path / "scenes")
        trained, evaluated = halve(image_file(copied, "train", 2)), halve(image_file(copied, "val", 3))
        message = refusal_before_training(*detection(copied, tmp_path / "out"), status=3)
        assert message.startswith(f"1 unreadable evaluation image(s): {evaluated}: ")
        assert "--set evaluation.allow_unreadable=true" in message
        assert list((tmp_path / "out").iterdir()) == []

        changes = {"evaluation__allow_unreadable": "true", "schedule__iterations": 12}
        result = success(*detection(copied, tmp_path / "out", **changes))
        record = read_record(tmp_path / "out")
        named = [line.partition(": ")[0] for line in record["corrupt_images"]]
        assert named == [str(trained), str(evaluated)]
        for path in named:
            assert f"unreadable image: {path}" in result.output
        rest = [identity for identity in range(1, 13) if identity != 3]
        assert {metric["n_eval"] for metric in record["metrics"]} == {len(rest)}
        found = metric_values(record)
        detections, file = run_directory(tmp_path / "out") / "detections.json", annotation_file(copied, "val")
        expected = pycocotools_scores(file, detections, rest)
        assert found["AP_box"] == expected[0]
        assert found["AR100_box"] == expected[8] > 0
        assert found["AR100_box"] != pycocotools_scores(file, detections, [3, *rest])[8]

    def test_of_another_size_than_the_annotations_are_unreadable(
        self, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = image_file(copied, "val", 3)
        Image.new("RGB", (33, 21)).save(path)
        message = refusal(*detection(copied, tmp_path / "out"), status=3)
        assert message.startswith(
            f"{path}: unreadable evaluation image: it has 33 × 21 pixels, its annotations are for"
        )
        hide_training(monkeypatch)
        assert call(*detection(copied, tmp_path / "out", evaluation__allow_unreadable="true")).exit_code == 0
        (line,) = read_record(tmp_path / "out")["corrupt_images"]
        assert line.startswith(f"{path}: it has 33 × 21 pixels")

    def test_all_of_them(self, copied: Path, tmp_path: Path) -> None:
        for path in (copied / "train2017").iterdir():
            path.write_text("not an image")
        message = refusal(*detection(copied, tmp_path / "out"), status=3)
        assert "of 8 training images are unreadable, the first is" in message and ": text, not an image" in message

    def test_the_check_names_them(self, copied: Path) -> None:
        broken = halve(image_file(copied, "train", 2))
        result = call("data", "check", "coco", "--data", copied)
        assert result.exit_code == 1 and f"{broken}: unreadable image: " in result.output


@pytest.mark.parametrize("full", ["detections.json", "matches_AP_box", "matches_AP_mask", "detections_4.png"])
def test_a_full_disk_after_training(few: Path, finished: Path, tmp_path: Path, full: str) -> None:
    """The run is refused without a record; once there is room, the repeated command evaluates and is done."""
    out, arguments = tmp_path / "out", detection(few, tmp_path / "out")
    products = ("detections.json", "matches*", "pictures/*")
    assert_evaluated_once_there_is_room(arguments, finished, out, full, *products)


def test_a_fixed_order_is_refused_on_a_gpu_before_anything_is_read(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.detection.task.device_type", lambda: "cuda")
    message = refusal_before_training(*detection(few, tmp_path / "out", runtime__deterministic="true"))
    assert message.startswith('key "runtime.deterministic": the backward pass of ROIAlign on a GPU adds in no fixed')


def test_on_a_processor_a_fixed_order_gives_the_same_detections(few: Path, finished: Path, tmp_path: Path) -> None:
    arguments = detection(few, tmp_path / "out", runtime__deterministic="true", runtime__profile="true")
    success(*arguments)
    ordered, free = run_directory(tmp_path / "out"), run_directory(finished)
    assert (ordered / "detections.json").read_bytes() == (free / "detections.json").read_bytes()
    assert ordered.name == free.name  # no part of the key
    assert [path.name for path in (ordered / "profile").iterdir()] == ["steps_1-4.json.gz"]
