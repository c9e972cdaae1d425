"""Segmentation sets: what is listed, and what is refused before training."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backbones.errors import InputError
from backbones.images.reading import UnreadableImage
from tasks.data_sets import name_data_set
from tasks.datasets.label_maps.layout import (
    SegmentationDataSettings,
    SegmentationSet,
    check_annotations,
    contents_of,
    open_segmentation,
)
from tasks.datasets.label_maps.maps import IGNORED, WrongLabels
from tests.support.ade20k_examples import (
    CLASSES,
    HEIGHT,
    NAMES,
    WIDTH,
    annotation,
    cut,
    numbers,
    write_labels,
    write_set,
)
from tests.support.folders import age
from tests.support.image_examples import save_tagged, tagged


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "ADEChallengeData2016")


def open_set(root: Path, **settings: object) -> tuple[SegmentationSet, SegmentationSet]:
    return open_segmentation(root, SegmentationDataSettings.model_validate(settings))


def refusal(root: Path, **settings: object) -> str:
    with pytest.raises(InputError) as caught:
        open_set(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is listed


def test_images_are_sorted_and_have_their_annotations(root: Path) -> None:
    for folder, data in zip(("training", "validation"), open_set(root), strict=True):
        assert [image.name for image in data.images] == ["a.jpg", "c.d.png", "deep/b.jpg"]
        for image in data.images:
            assert image.image == root / "images" / folder / image.name
            assert image.annotation == annotation(root, folder, image.name)
            assert image.image.is_file() and image.annotation.is_file()
        assert (data.classes, data.reduce_zero_label, data.notes) == (CLASSES, True, [])
    assert [data.split for data in open_set(root)] == ["train", "val"]


def test_labels_are_read_with_the_sets_settings(root: Path) -> None:
    train, _ = open_set(root)
    expected = numbers(NAMES.index("a.jpg")).astype(int) - 1
    expected[expected == -1] = IGNORED
    assert train.labels(train.images[0]).tolist() == expected.tolist()
    (root / "four.txt").write_text("none\nwall\ndoor\nscreen door\n")
    plain, _ = open_set(root, classes="four.txt", reduce_zero_label=False)
    assert plain.labels(plain.images[0]).tolist() == numbers(NAMES.index("a.jpg")).tolist()


def test_any_pair_of_folders_serves(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(root / "images/validation", elsewhere / "pictures")
    shutil.move(root / "annotations/validation", root / "masks")
    shutil.move(root / "objectInfo150.txt", elsewhere / "names.txt")
    settings = {"val_images": str(elsewhere / "pictures"), "val_annotations": "masks"}
    _, val = open_set(root, **settings, classes=str(elsewhere / "names.txt"))
    assert val.classes == CLASSES
    assert [image.image for image in val.images] == [elsewhere / "pictures" / image.name for image in val.images]
    assert [image.annotation for image in val.images] == [
        root / "masks" / n for n in ("a.png", "c.d.png", "deep/b.png")
    ]


def test_an_image_that_is_replaced_by_one_of_training_is_noted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    image = root / "images/validation/a.jpg"
    image.write_bytes(b"another")
    age(root)
    before = open_set(root)[1].notes
    image.write_bytes((root / "images/training/a.jpg").read_bytes())
    after = open_set(root)[1].notes
    assert ["a.jpg" in "".join(notes) for notes in (before, after)] == [False, True]


def test_listing_opens_no_image(root: Path) -> None:
    for path in root.glob("*/*/a.*"):
        path.write_bytes(b"")
    assert [len(data.images) for data in open_set(root)] == [3, 3]


def test_images_in_both_splits_are_noted(root: Path) -> None:
    train, val = open_set(root, val_images="images/training", val_annotations="annotations/training")
    assert train.notes == []
    (note,) = val.notes
    assert note.startswith("3 images in both splits: a.jpg, c.d.png, deep/b.jpg.")


# The fingerprint and the name


def test_the_fingerprint_is_the_same_in_another_place(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    names = [contents_of(*open_set(place)) for place in (root, copy)]
    assert len(names[0].fingerprint) == 16
    assert names[0].fingerprint == names[1].fingerprint
    train, val = open_set(root)
    assert train.fingerprint == open_set(copy)[0].fingerprint != val.fingerprint


@pytest.mark.parametrize("part", ["images", "annotations"])
@pytest.mark.parametrize("change", ["size", "name"])
def test_the_fingerprint_changes_with_a_files_size_and_name(root: Path, part: str, change: str) -> None:
    before, _ = open_set(root)
    fingerprint = before.fingerprint
    if change == "size":
        path = root / part / "training" / before.images[0].name
        path = path if part == "images" else path.with_suffix(".png")
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        for image in (before.images[0].image, before.images[0].annotation):
            image.rename(image.with_stem("z"))
    assert open_set(root)[0].fingerprint != fingerprint


def test_the_fingerprint_changes_with_the_classes_and_how_labels_count(root: Path) -> None:
    (root / "names.txt").write_text("wall\ndoor\nwindow\n")
    different = [{}, {"classes": "names.txt"}, {"reduce_zero_label": False}]
    assert len({open_set(root, **settings)[0].fingerprint for settings in different}) == 3


def test_a_small_set_is_not_called_ade20k(root: Path) -> None:
    named = name_data_set("ade20k", root, contents_of(*open_set(root)))
    assert named.name == "ADEChallengeData2016"
    assert named.notes == (
        "recorded as data set ADEChallengeData2016 (3 training images and 3 to evaluate on in 3 classes), not ade20k, "
        "which has 20,210 training and 2,000 evaluation images in 150 classes",
    )


def test_ade20k_is_known_by_its_counts(root: Path) -> None:
    train, val = open_set(root)
    full = SegmentationSet("train", train.images[:1] * 20_210, ["class"] * 150, True, train.folders)
    half = SegmentationSet("val", val.images[:1] * 2_000, ["class"] * 150, True, val.folders)
    named = name_data_set("ade20k", root, contents_of(full, half))
    assert (named.name, named.notes) == ("ade20k", ())


# The class list


def test_a_missing_or_doubtful_class_list_is_asked_for(root: Path) -> None:
    assert refusal(root, classes="gone.txt").startswith(f"{root}/gone.txt: no such class list. Expected objectInfo150")
    shutil.copy(root / "objectInfo150.txt", root / "objectInfo100.txt")
    assert "2 class lists: objectInfo100.txt, objectInfo150.txt. Choose one: --set data.classes=" in refusal(root)
    assert open_set(root, classes="objectInfo150.txt")[0].classes == CLASSES
    for path in root.glob("objectInfo*.txt"):
        path.unlink()
    message = refusal(root)
    assert message.startswith(f"{root}: no class list found.") and "--set data.classes=FILE" in message


# What is refused


def test_a_folder_above_or_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    above = refusal(tmp_path)
    assert above.startswith(f"{tmp_path}: no segmentation data set found. Expected images/training, annotations/tr")
    assert above.endswith(f"{root} has them: pass that folder.")
    assert "--set data.train_images=FOLDER" in refusal(root / "images")
    assert refusal(root / "gone") == f"{root}/gone: no such folder."
    assert refusal(root / "objectInfo150.txt") == f"{root}/objectInfo150.txt: a file, not a folder."


def test_an_image_without_annotation_is_refused(root: Path) -> None:
    lost = annotation(root, "validation", "deep/b.jpg")
    lost.unlink()
    assert refusal(root) == (
        f"{root}/images/validation: 1 image of 3 without an annotation: deep/b.jpg. Expected {lost}; "
        "add it or remove the image."
    )


def test_an_annotation_without_image_is_refused(root: Path) -> None:
    (root / "images/training/a.jpg").unlink()
    assert refusal(root) == (
        f"{root}/annotations/training: 1 annotation of 3 without an image: a.png. Expected an image of the same name "
        f"in {root}/images/training; add it or remove the annotation."
    )


def test_of_several_mistakes_the_first_is_named(root: Path) -> None:
    annotation(root, "training", "a.jpg").rename(annotation(root, "training", "x.jpg"))
    message = refusal(root)
    assert "images/training: 1 image of 3 without an annotation: a.jpg." in message
    check = f"backbench data check ade20k --data {root}"
    assert message.endswith(f" Other mistakes in this split: 1; `{check}` lists all.")
    spaced = root.rename(root.with_name("ADE 20K"))
    assert f"check ade20k --data '{spaced}'` lists all." in refusal(spaced)


def test_images_that_would_share_an_annotation_are_refused(root: Path) -> None:
    shutil.copy(root / "images/training/c.d.png", root / "images/training/a.png")
    assert "2 images that differ in nothing but the suffix, and would share an annotation: a.jpg, a.png" in refusal(
        root
    )


@pytest.mark.parametrize("part", ["images", "annotations"])
@pytest.mark.parametrize("split", ["training", "validation"])
def test_an_empty_split_is_refused(root: Path, part: str, split: str) -> None:
    folder = root / part / split
    shutil.rmtree(folder)
    key = f"{'train' if split == 'training' else 'val'}"
    places = f"--set data.{key}_images=FOLDER --set data.{key}_annotations=FOLDER"
    message = refusal(root)
    assert message.startswith(f"{folder}: no such folder. Expected a folder of {part}") and message.endswith(places)
    folder.mkdir()
    (folder / "notes.txt").touch()
    message = refusal(root)
    assert message.startswith(f"{folder}: no images found, the {key} split is empty. Expected {part}")
    assert "found 1 .txt file." in message and message.endswith(places)


# Before training


def test_sound_annotations_pass(root: Path) -> None:
    check_annotations(*open_set(root))


def test_images_are_held_upright_against_their_annotations(root: Path) -> None:
    """As mmsegmentation, which turns the image by its tag and never the label map."""
    assert check_annotations(*open_set(root)) == []
    upright, stored = (Image.new("RGB", size) for size in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)))
    save_tagged(upright, root / "images/training/a.jpg", 8)
    save_tagged(upright, root / "images/training/c.d.png", 2)
    save_tagged(stored, root / "images/training/deep/b.jpg", 7)
    for name, tag in ((NAMES[0], 6), (NAMES[1], 3)):
        label_map = annotation(root, "validation", name)
        with Image.open(label_map) as labels:
            labels.copy().save(label_map, exif=tagged(tag))
    train, val = open_set(root)
    assert check_annotations(train, val) == [
        "3 train images with an EXIF orientation, turned by it as detectron2 and mmcv do; not so 1 of them, which only "
        "unturned have the size of their annotations."
    ]
    assert val.labels(val.images[1]).shape == (HEIGHT, WIDTH)
    save_tagged(Image.new("RGB", (7, 9)), root / "images/training/a.jpg", 6)
    with pytest.raises(WrongLabels, match="has 7 × 9"):
        check_annotations(*open_set(root))


def oversize(path: Path) -> None:
    write_labels(path, np.ones((HEIGHT + 1, WIDTH), dtype=np.uint8))


def in_colour(path: Path) -> None:
    Image.open(path).convert("RGB").save(path)


def out_of_range(path: Path) -> None:
    write_labels(path, np.full((HEIGHT, WIDTH), 200, dtype=np.uint8))


MISTAKES = [
    (oversize, "8 × 7 pixels, but its image "),
    (in_colour, "a colour picture (RGB): expected "),
    (out_of_range, "label 200 out of range: expected, for 3 classes, 1 to 3"),
]


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize(("spoil", "expected"), MISTAKES)
def test_a_wrong_annotation_is_named(root: Path, split: str, spoil: Callable[[Path], None], expected: str) -> None:
    path = annotation(root, split, "deep/b.jpg")
    spoil(path)
    with pytest.raises(WrongLabels) as caught:
        check_annotations(*open_set(root))
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_of_many_wrong_annotations_three_are_named(root: Path) -> None:
    for split in ("training", "validation"):
        for name in NAMES[:2]:
            out_of_range(annotation(root, split, name))
    with pytest.raises(InputError) as caught:
        check_annotations(*open_set(root))
    message = str(caught.value)
    assert message.startswith(f"4 annotations cannot be used. {annotation(root, 'training', 'a.jpg')}: label 200 out")
    assert message.count("label 200 out of range") == 3
    assert message.endswith(" And 1 more; `backbench data check ade20k` lists all.")


def test_unreadable_files_are_passed_over(root: Path) -> None:
    cut(annotation(root, "training", "a.jpg"))
    (root / "images/training/deep/b.jpg").write_bytes(b"no picture")
    (root / "images/validation/c.d.png").write_bytes(b"")
    train, val = open_set(root)
    with pytest.raises(UnreadableImage):
        train.labels(train.images[0])
    check_annotations(train, val)
    for image in train.images:
        cut(image.annotation)
    check_annotations(train, val)


def test_both_splits_need_a_labelled_pixel(root: Path) -> None:
    nothing = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for name in NAMES:
        write_labels(annotation(root, "training", name), nothing)
        write_labels(annotation(root, "validation", name), nothing)
    train, val = open_set(root)
    with pytest.raises(InputError, match=r"no pixel of the 3 training annotations has a class .*/a\.png among them"):
        check_annotations(train, val)
    nothing[0, 0] = 1
    write_labels(annotation(root, "training", NAMES[2]), nothing)
    with pytest.raises(InputError, match=r"no pixel of the 3 evaluation annotations has a class .*data\.val_ann"):
        check_annotations(train, val)
    write_labels(annotation(root, "validation", NAMES[2]), nothing)
    check_annotations(train, val)
