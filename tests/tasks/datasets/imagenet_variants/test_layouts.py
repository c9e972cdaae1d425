"""ImageNet-A, -C, -R, -Sketch, -V2 and -ReaL as distributed, and what is said of folders that are not."""

import json
import shutil
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from backbones.errors import DataError
from results.metrics import CORRUPTIONS
from tasks.data_sets import DATA_SETS, find_data_set, name_data_set, open_labelled_to_evaluate
from tasks.datasets.identity import Contents
from tasks.datasets.imagenet_variants.classes import classes_of_subset, imagenet_classes, reassessed_labels
from tasks.datasets.imagenet_variants.corruptions import ALEXNET_ERRORS, CATEGORIES, EXTRA, all_parts
from tasks.datasets.labelled import LabelledSplit
from tests.support.variant_examples import (
    FEW,
    draw_classes,
    draw_corrupted,
    draw_validation,
    write_image,
    write_reassessed,
)

TWO = ("gaussian_noise", "fog")
PARTS = [part for part in all_parts() if part[0] in TWO]


@pytest.fixture
def two_corruptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were no others."""
    monkeypatch.setattr("tasks.datasets.imagenet_variants.corrupted.CORRUPTIONS", TWO)


def opened(name: str, root: Path) -> LabelledSplit:
    train, val = open_labelled_to_evaluate(name, root)
    assert train is None
    again = open_labelled_to_evaluate(name, root)[1]
    assert again.fingerprint == val.fingerprint
    assert [*map(bytes, again.listing.decided)] == [*map(bytes, val.listing.decided)]
    return val


def refusal(name: str, root: Path) -> str:
    with pytest.raises(DataError) as raised:
        open_labelled_to_evaluate(name, root)
    return str(raised.value)


def problems(name: str, root: Path) -> list[str]:
    found: list[str] = find_data_set(name).check()(root).problems
    return found


def test_the_classes_are_timms() -> None:
    assert [*imagenet_classes()] == ImageNetInfo().label_names() and len(imagenet_classes()) == 1_000
    for letter in "ar":
        assert len({*classes_of_subset(letter)} & {*imagenet_classes()}) == 200


def test_every_corruption_of_the_mean_has_alexnets_error() -> None:
    assert CORRUPTIONS == tuple(ALEXNET_ERRORS) == tuple(name for names in CATEGORIES.values() for name in names)
    assert len(all_parts()) == 75 and not {*EXTRA} & {*CORRUPTIONS}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        *(("imagenet-a", "imagenet-a"), ("imagenet-r", "imagenet-r"), ("imagenet-sketch", "sketch")),
        ("imagenet-sketch", "ImageNet-Sketch"),
    ],
)
def test_class_folders_are_found_by_their_ids(name: str, folder: str, tmp_path: Path) -> None:
    """The set's own folder, or the one above it."""
    classes = classes_of_subset(name[-1])[:3] if name in ("imagenet-a", "imagenet-r") else FEW
    draw_classes(tmp_path / folder, classes, images=2)
    (tmp_path / folder / "README.txt").write_text("…")
    split, inner = opened(name, tmp_path), opened(name, tmp_path / folder)
    assert split.fingerprint == inner.fingerprint and split.labels.tolist() == inner.labels.tolist()
    assert [split.classes[label] for label in split.labels] == [each for each in classes for _ in range(2)]
    assert (split.candidates is None) == (name == "imagenet-sketch")
    assert "No image of" in (split.note or "")


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    root = draw_classes(tmp_path / "imagenetv2-matched-frequency-format-val", ["0", "2", "10", "999"])
    split = opened("imagenet-v2", tmp_path)
    assert split.labels.tolist() == [0, 2, 10, 999]
    assert [path.parent.name for path in split.paths] == ["0", "2", "10", "999"]
    assert "is ImageNet-V2 matched-frequency, not ImageNet-V2 top-images" in refusal("imagenet-v2-top", root)
    assert any("not 10 images in each class: 0 (1), 1 (0)" in problem for problem in problems("imagenet-v2", root))


def test_other_classes_are_refused(tmp_path: Path) -> None:
    known, other = classes_of_subset("a")[0], "n01440764"
    draw_classes(tmp_path / "imagenet-a", [known, other])
    assert "1 folder that are none of ImageNet-A's 200 classes: n01440764" in refusal("imagenet-a", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no class folders of ImageNet-A. Expected imagenet-a/n0" in refusal("imagenet-a", tmp_path / "empty")
    assert "there is no such folder" in refusal("imagenet-sketch", tmp_path / "nowhere")


def test_a_whole_set_has_its_name(tmp_path: Path) -> None:
    for name, images in {"imagenet-a": 7_500, "imagenet-c": 50_000, "imagenet-real": 46_837}.items():
        contents = Contents(None, images, 1_000, "0" * 16)
        assert name_data_set(name, tmp_path, contents).name == name
    counts = DATA_SETS["imagenet-a"].counts
    assert str(counts) == "7,500 evaluation images in 1,000 classes"


def test_the_smallest_class_is_one_that_the_set_has(tmp_path: Path) -> None:
    known = classes_of_subset("a")
    draw_classes(tmp_path, known[:3], images=2)
    draw_classes(tmp_path, known[3:])
    report = find_data_set("imagenet-a").check()(tmp_path)
    assert (report.smallest, report.largest) == ((known[3], 1), (known[2], 2))
    assert report.classes == [*known]


@pytest.mark.usefixtures("two_corruptions")
def test_all_mistakes_in_the_corruptions_are_named_at_once(tmp_path: Path) -> None:
    root = draw_corrupted(tmp_path / "ImageNet-C", PARTS)
    split = opened("imagenet-c", tmp_path)
    assert len(split.parts) == 10 and len(split.paths) == 8 and len({*split.part("weather/fog/2").paths}) == 8
    write_image(root / "extra" / "spatter" / "1" / FEW[0] / "ILSVRC2012_val_00000001.JPEG", 1)
    assert "spatter: no part of mCE" in (opened("imagenet-c", tmp_path).note or "")

    shutil.rmtree(root / "noise" / "gaussian_noise" / "2")
    shutil.rmtree(root / "weather" / "fog" / "1" / FEW[1])
    (root / "weather" / "fog" / "3").rename(root / "weather" / "fog" / "third")
    shutil.copytree(root / "weather" / "fog" / "5" / FEW[0], root / "weather" / "fog" / "5" / "n00000000")
    message = refusal("imagenet-c", root)
    found = problems("imagenet-c", root)
    for part in (
        "gaussian_noise: no severity 2. Expected the folders 1 to 5",
        "fog/1: lacks 2 images that noise/gaussian_noise/1 has",
        "fog: no severity 3",
        "fog: third is no severity",
        "fog/5: 1 folder that are none of ImageNet's 1,000 classes: n00000000",
    ):
        assert part in message and sum(part in problem for problem in found) == 1
    assert any("8 images in a part, where 50,000 are published" in problem for problem in found)


def test_a_missing_corruption_is_named_with_its_archive(tmp_path: Path) -> None:
    draw_corrupted(tmp_path, PARTS, images=1)
    message = refusal("imagenet-c", tmp_path)
    assert "no shot_noise, which noise.tar has as noise/shot_noise/" in message and "and 8 more" in message
    assert sum("which " in problem for problem in problems("imagenet-c", tmp_path)) == 13
    (tmp_path / "other").mkdir()
    assert "no corruption of ImageNet-C. Expected blur/defocus_blur/1" in refusal("imagenet-c", tmp_path / "other")


@pytest.mark.parametrize("flat", [True, False])
def test_reassessed_labels_go_by_the_images_numbers(flat: bool, tmp_path: Path) -> None:
    draw_validation(tmp_path / "val", [3, 1, 40_000], flat)
    split = opened("imagenet-real", tmp_path)
    known = reassessed_labels()
    assert known[0] == [] and split.accepted == [known[2], known[39_999]]
    assert split.layout.endswith("labelled by timm's copy of real.json")
    write_reassessed(tmp_path / "real.json", {1: [7, 8]})
    own = opened("imagenet-real", tmp_path)
    assert own.accepted == [[7, 8]] and own.labels.tolist() == [7] and own.fingerprint != split.fingerprint
    assert "2 of 3 images left out" in (own.note or "")
    assert "1 images with labels, where 46,837 are published" in problems("imagenet-real", tmp_path)[0]


@pytest.mark.parametrize("content", ["[[1]]", json.dumps([[1000]] * 50_000), json.dumps([["1"]] * 50_000), "{"])
def test_a_damaged_real_json_is_refused(content: str, tmp_path: Path) -> None:
    draw_validation(tmp_path / "val", [1])
    (tmp_path / "real.json").write_text(content)
    message = refusal("imagenet-real", tmp_path)
    assert str(tmp_path / "real.json") in message and "google-research/reassessed-imagenet" in message


def test_images_of_other_names_have_no_reassessed_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "val" / "cat.jpg", 1)
    assert "cat.jpg: is not called as ImageNet's validation images are" in refusal("imagenet-real", tmp_path)
    (tmp_path / "val" / "cat.jpg").unlink()
    draw_validation(tmp_path / "val", [4])
    draw_validation(tmp_path / "val", [4], flat=False)
    assert "has the number of" in refusal("imagenet-real", tmp_path)
