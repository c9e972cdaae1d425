"""Images turned by their EXIF orientation, against detectron2, mmcv and Pillow."""

import io
import struct
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image as read_with_detectron2
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from backbones.images.reading import UnreadableImage, read_image
from backbones.images.upright import Orientation, read_upright, read_upright_size
from tests.support.image_examples import as_array, encode, largest_difference, save_tagged

TAGS = range(1, 9)
HEIGHT, WIDTH = 47, 61


@pytest.fixture
def small(photo: Image.Image) -> Image.Image:
    return photo.resize((WIDTH, HEIGHT))


def by_detectron2(path: Path) -> np.ndarray:
    return read_with_detectron2(str(path), "RGB")


def by_mmcv(path: Path) -> np.ndarray:
    """As `LoadImageFromFile` of mmsegmentation's pipelines reads it."""
    return mmcv.imread(str(path), flag="color", channel_order="rgb", backend="cv2")


def exif(kind: int, value: bytes, *, count: int = 1, order: str = "<", tag: int = 0x0112) -> bytes:
    """EXIF data with one entry, whose type is `kind`: 2 text, 3 short, 4 long."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


SHORT_6 = exif(3, b"\6")
TURNING = {
    "short": SHORT_6,
    "long": exif(4, b"\6"),
    "big-endian": exif(3, b"\0\6", order=">"),
    "two numbers": exif(3, b"\6\0\3\0", count=2),
    "without an end": SHORT_6[:-4],
}
"""Each says 6."""

NOT_TURNING = {
    "0": exif(3, b"\0"),
    "9": exif(3, b"\11"),
    "65535": exif(3, b"\xff\xff"),
    "text": exif(2, b"abc", count=4),
    "the text 6": exif(2, b"6", count=2),
    "another tag": exif(3, b"\6", tag=0x0113),
    "cut within the entry": SHORT_6[:20],
    "cut within the header": SHORT_6[:8],
    "nothing": SHORT_6[:6],
    "noise": b"Exif\0\0" + b"\xff" * 40,
    "far away": b"Exif\0\0II*\0" + b"\xff\xff\xff\x7f" + bytes(20),
}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("tag", TAGS)
def test_pixels_are_those_of_detectron2_and_mmcv(small: Image.Image, tmp_path: Path, tag: int, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    save_tagged(small, path, tag, **{"lossless": True} if suffix == "webp" else {})
    image, orientation = read_upright(path, (HEIGHT, WIDTH))
    assert image.dtype == torch.uint8 and image.permute(1, 2, 0).is_contiguous()
    assert np.array_equal(as_array(image), by_detectron2(path))
    assert np.array_equal(as_array(image), by_mmcv(path))
    assert np.abs(as_array(image).astype(int) - np.asarray(small)).mean() <= (5 if suffix == "jpg" else 0)
    assert orientation == Orientation(tag)
    assert orientation.tagged == (tag > 1)
    assert read_upright_size(path, (HEIGHT, WIDTH)) == ((HEIGHT, WIDTH), orientation)


@pytest.mark.parametrize("tag", TAGS)
def test_classification_reads_what_is_stored(small: Image.Image, tmp_path: Path, tag: int) -> None:
    save_tagged(small, tmp_path / "x.jpg", tag)
    assert np.array_equal(as_array(read_image(tmp_path / "x.jpg")), np.array(Image.open(tmp_path / "x.jpg")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.filterwarnings("ignore:Metadata Warning", "ignore:Corrupt EXIF")
@pytest.mark.parametrize("said", TURNING)
def test_every_way_to_write_the_tag_is_understood(small: Image.Image, tmp_path: Path, said: str, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(encode(small, kind, exif=TURNING[said]))
    image, orientation = read_upright(path, None)
    assert orientation == Orientation(6)
    assert np.array_equal(as_array(image), by_detectron2(path))
    assert np.array_equal(as_array(image), by_mmcv(path))
    assert read_upright_size(path, None) == ((WIDTH, HEIGHT), orientation)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("said", NOT_TURNING)
def test_damaged_and_meaningless_tags_turn_nothing(small: Image.Image, tmp_path: Path, said: str, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(encode(small, kind, exif=NOT_TURNING[said]))
    image, orientation = read_upright(path, None)
    assert orientation == Orientation(1) and not orientation.tagged
    assert np.array_equal(as_array(image), by_detectron2(path))
    assert np.array_equal(as_array(image), by_mmcv(path))
    assert torch.equal(image, read_image(path))
    assert read_upright_size(path, None) == ((HEIGHT, WIDTH), orientation)


def test_cmyk_and_grey_jpegs_are_turned(small: Image.Image, tmp_path: Path) -> None:
    for mode in ("CMYK", "L"):
        path = tmp_path / f"{mode}.jpg"
        save_tagged(small.convert(mode), path, 6)
        image, _ = read_upright(path, (HEIGHT, WIDTH))
        assert image.shape == (3, HEIGHT, WIDTH)
        assert np.array_equal(as_array(image), by_detectron2(path))


def test_a_png_may_say_it_after_its_pixels(small: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    data = encode(small, "PNG", exif=SHORT_6)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    path.write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    image, orientation = read_upright(path, None)
    assert orientation == Orientation(6)
    assert np.array_equal(as_array(image), by_detectron2(path))
    assert read_upright_size(path, None) == ((WIDTH, HEIGHT), orientation)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_xmp_alone_turns_as_in_detectron2(small: Image.Image, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    path.write_bytes(encode(small, kind, **{"pnginfo": text} if kind == "PNG" else {"xmp": XMP}))
    image, orientation = read_upright(path, None)
    assert orientation == Orientation(6)
    assert np.array_equal(as_array(image), by_detectron2(path))
    assert read_upright_size(path, None) == ((WIDTH, HEIGHT), orientation)


def test_tiff_is_turned_once(small: Image.Image, tmp_path: Path) -> None:
    for tag in TAGS:
        save_tagged(small, tmp_path / "x.tiff", tag)
        image, orientation = read_upright(tmp_path / "x.tiff", (HEIGHT, WIDTH))
        assert largest_difference(image, small) == 0
        assert torch.equal(image, read_image(tmp_path / "x.tiff"))
        assert orientation == Orientation(1)
        assert read_upright_size(tmp_path / "x.tiff", None) == ((HEIGHT, WIDTH), orientation)


@pytest.mark.parametrize(
    ("tag", "size", "kept"),
    [
        (6, (WIDTH, HEIGHT), True),  # annotated as it is stored
        (6, (HEIGHT, WIDTH), False),
        (6, (5, 5), False),  # fits neither way
        (6, None, False),
        (3, (HEIGHT, WIDTH), False),  # fits both ways
        (1, (HEIGHT, WIDTH), False),
    ],
)
def test_only_where_nothing_else_fits_an_image_stays_as_stored(
    small: Image.Image, tmp_path: Path, tag: int, size: tuple[int, int] | None, kept: bool
) -> None:
    path = tmp_path / "x.png"
    save_tagged(small, path, tag)
    image, orientation = read_upright(path, size)
    assert orientation == Orientation(tag, kept)
    assert np.array_equal(as_array(image), np.array(Image.open(path)) if kept else np.array(small))
    assert read_upright_size(path, size) == (image.shape[1:], orientation)


def test_a_square_is_turned(small: Image.Image, tmp_path: Path) -> None:
    square = small.crop((0, 0, 40, 40))
    save_tagged(square, tmp_path / "x.png", 8)
    image, orientation = read_upright(tmp_path / "x.png", (40, 40))
    assert orientation == Orientation(8)
    assert largest_difference(image, square) == 0


def test_looking_for_the_tag_decodes_no_png(
    small: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.png").write_bytes(encode(small, "PNG"))
    save_tagged(small, tmp_path / "tagged.png", 6)
    loads: list[Any] = []
    original = PngImageFile.load_end
    monkeypatch.setattr(PngImageFile, "load_end", lambda self: loads.append(self) or original(self))
    for name in ("x.png", "tagged.png"):
        read_upright(tmp_path / name, None)
        read_upright_size(tmp_path / name, None)
    assert len(loads) == 2


def test_the_size_of_a_png_is_told_without_its_pixels(small: Image.Image, tmp_path: Path) -> None:
    data = encode(small, "PNG")
    (tmp_path / "x.png").write_bytes(data[: data.index(b"IDAT") + 4])
    assert read_upright_size(tmp_path / "x.png", None) == ((HEIGHT, WIDTH), Orientation(1))


def test_broken_files_are_refused_for_what_they_are(small: Image.Image, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", exif=SHORT_6)
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:-200])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    for name, why in (("cut", "truncated"), ("empty", "the file is empty"), ("text", "text, not"), ("no", "No such")):
        for read in (read_upright, *([] if name == "cut" else [read_upright_size])):
            with pytest.raises(UnreadableImage, match=why):
                read(tmp_path / f"{name}.jpg", None)
