"""Label maps: what is read from every kind of PNG, and what is refused."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from backbones.errors import InputError
from backbones.images.reading import UnreadableImage
from tasks.datasets.label_maps.maps import IGNORED, MAX_CLASSES, WrongLabels, has_palette, read_label_map
from tests.support.ade20k_examples import grey_png, write_labels


def random_labels(classes: int, height: int = 37, width: int = 53) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, (height, width), dtype=np.uint8)


def refusal(path: Path, classes: int = 3, reduce_zero_label: bool = True) -> str:
    with pytest.raises(WrongLabels) as caught:
        read_label_map(path, classes, reduce_zero_label=reduce_zero_label)
    assert caught.value.path == path
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.endswith(".") and "\n" not in message
    return message


# What is read


@pytest.mark.parametrize("reduce_zero_label", [True, False])
@pytest.mark.filterwarnings("ignore:`reduce_zero_label` will be deprecated")
def test_labels_are_mmsegs(tmp_path: Path, reduce_zero_label: bool) -> None:
    stored = random_labels(150)
    stored[:5] = 255
    stored[5:10] = 0
    path = write_labels(tmp_path / "a.png", stored)
    load = LoadAnnotations(reduce_zero_label=reduce_zero_label, imdecode_backend="pillow")
    reference = load({"seg_map_path": str(path), "reduce_zero_label": reduce_zero_label, "seg_fields": []})
    labels = read_label_map(path, 150, reduce_zero_label=reduce_zero_label)
    assert labels.dtype == np.uint8 and labels.shape == (37, 53) and labels.flags.writeable
    np.testing.assert_array_equal(labels, reference["gt_seg_map"])


def test_with_reduce_zero_label_zero_is_unlabelled_and_one_the_first_class(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.png", np.array([[0, 1, 2, 255]], dtype=np.uint8))
    assert read_label_map(path, 2, reduce_zero_label=True).tolist() == [[IGNORED, 0, 1, IGNORED]]


def test_without_it_zero_is_the_first_class(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.png", np.array([[0, 1, 2, 255]], dtype=np.uint8))
    assert read_label_map(path, 3, reduce_zero_label=False).tolist() == [[0, 1, 2, IGNORED]]


@pytest.mark.parametrize("reduce_zero_label", [True, False])
def test_as_many_classes_as_8_bits_hold(tmp_path: Path, reduce_zero_label: bool) -> None:
    first = int(reduce_zero_label)
    stored = np.arange(first, first + MAX_CLASSES, dtype=np.uint8)[None]
    path = write_labels(tmp_path / "a.png", stored)
    assert read_label_map(path, MAX_CLASSES, reduce_zero_label=reduce_zero_label).tolist() == [list(range(254))]
    with pytest.raises(ValueError, match="255 classes; a label map holds 1 to 254"):
        read_label_map(path, 255, reduce_zero_label=reduce_zero_label)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_greyscale_of_few_bits_gives_its_numbers_not_its_greys(tmp_path: Path, bits: int) -> None:
    stored = random_labels(min(2**bits, 200))
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(stored, bits))
    np.testing.assert_array_equal(read_label_map(path, 200, reduce_zero_label=False), stored)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palettes_indices_are_the_labels(tmp_path: Path, bits: int) -> None:
    stored = random_labels(min(2**bits, 200))
    image = Image.fromarray(stored).convert("L")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes())
    path = tmp_path / "a.png"
    image.save(path, bits=bits, transparency=0)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(read_label_map(path, 200, reduce_zero_label=False), stored)
    assert has_palette(path)
    assert not has_palette(write_labels(tmp_path / "b.png", stored))


# What is refused


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "colour"), ("RGBA", "colour"), ("LA", "grey")])
def test_colours_are_refused(tmp_path: Path, mode: str, kind: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(random_labels(3)).convert(mode).save(path)
    message = refusal(path)
    assert re.search(rf": a {kind} picture .*\({mode}\): expected a PNG with one number a pixel", message)
    assert "save it with its palette" in message


def test_16_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(random_labels(3).astype(np.uint16)).save(path)
    assert ": greyscale of 16 bits: expected " in refusal(path)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_other_formats_under_the_name_of_png_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(random_labels(3)).save(path, kind)
    assert ": not a PNG, whatever its name: " in refusal(path)


@pytest.mark.parametrize(
    ("reduce_zero_label", "classes", "expected"),
    [
        (True, 150, "label 200 out of range: expected, for 150 classes, 1 to 150, and 0 or 255 where"),
        (False, 150, "label 200 out of range: expected, for 150 classes, 0 to 149, and 255 where"),
        (True, 2, "labels 3, 200 out of range: expected, for 2 classes, 1 to 2, and"),
        (False, 3, "labels 3, 200 out of range: expected, for 3 classes, 0 to 2, and"),
        (False, 1, "labels 1, 2, 3, 200 out of range: expected, for 1 class, 0 to 0, and"),
    ],
)
def test_labels_out_of_range_are_named(tmp_path: Path, reduce_zero_label: bool, classes: int, expected: str) -> None:
    path = write_labels(tmp_path / "a.png", np.array([[0, 1, 2, 3, 200, 255]], dtype=np.uint8))
    message = refusal(path, classes, reduce_zero_label)
    assert message.startswith(f"{path}: {expected}")
    assert ("data.reduce_zero_label" in message) is not reduce_zero_label


def test_of_many_labels_out_of_range_five_are_named(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.png", np.arange(12, dtype=np.uint8)[None])
    assert ": labels 4, 5, 6, 7, 8 and 3 more out of range" in refusal(path, 3)


def test_few_bits_out_of_range_are_named_by_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(grey_png(np.array([[0, 3]]), 2))
    assert ": label 3 out of range" in refusal(path, 2)


def test_the_refusal_survives_the_way_from_a_worker(tmp_path: Path) -> None:
    error = WrongLabels(tmp_path / "a.png", "label 9 out of range")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, InputError)
    assert (str(copy), copy.path, copy.why) == (str(error), error.path, error.why)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("empty", "the file is empty"),
        ("text", "text, not an image"),
        ("header", "Truncated File Read"),
        ("cut", "truncated"),
        ("cut colour", "truncated"),
        ("gone", "No such file or directory"),
    ],
)
def test_what_cannot_be_decoded_is_unreadable(tmp_path: Path, damage: str, why: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(random_labels(200)).convert("RGB" if damage == "cut colour" else "L").save(path)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"no picture", "header": data[:20]}.get(damage, data[: len(data) // 2]))
    with pytest.raises(UnreadableImage, match=why) as caught:
        read_label_map(path, 200, reduce_zero_label=False)
    assert caught.value.path == path


def test_a_named_pipe_is_no_label_map(tmp_path: Path) -> None:
    """Opening it waited for somebody to write to it."""
    os.mkfifo(tmp_path / "labels.png")
    with pytest.raises(UnreadableImage, match="a pipe or a device, not a file"):
        read_label_map(tmp_path / "labels.png", 3, reduce_zero_label=False)
