"""Reading images, against Pillow and OpenCV."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from backbones.images.reading import read_image
from tests.support.image_examples import (
    PHOTOGRAPH,
    as_array,
    decode_with_pillow,
    encode,
    largest_difference,
    palette_with_transparency,
)


def test_photograph_has_pillows_pixels() -> None:
    image = read_image(PHOTOGRAPH)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 600, 512)
    assert np.array_equal(as_array(image), np.array(Image.open(PHOTOGRAPH).convert("RGB")))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2, "4:1:1"])
def test_every_kind_of_jpeg_has_pillows_pixels(
    photo: Image.Image, tmp_path: Path, subsampling: int | str, progressive: bool
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(photo.resize((301, 203)), subsampling=subsampling, progressive=progressive, quality=80))
    assert np.array_equal(as_array(read_image(path)), decode_with_pillow(path))


def test_cmyk_jpeg_keeps_its_colours(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    path.write_bytes(encode(photo.convert("CMYK"), quality=100, subsampling=0))
    assert Image.open(path).mode == "CMYK"
    image = read_image(path)
    assert np.abs(as_array(image).astype(int) - np.asarray(photo)).mean() < 2
    assert np.array_equal(as_array(image), decode_with_pillow(path))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    path = tmp_path / f"grey{suffix}"
    path.write_bytes(cv2.imencode(".pgm" if suffix == ".ppm" else suffix, grey)[1].tobytes())
    image = as_array(read_image(path))
    assert np.abs(image - grey[..., None] / 257).max() <= 1
    assert np.array_equal(image[..., 0], image[..., 1])


def test_16_bit_grey_looks_like_16_bit_colour(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    (tmp_path / "grey.png").write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    (tmp_path / "colour.png").write_bytes(cv2.imencode(".png", np.stack([grey] * 3, -1))[1].tobytes())
    assert torch.equal(read_image(tmp_path / "grey.png"), read_image(tmp_path / "colour.png"))


def _with_alpha(photo: Image.Image) -> Image.Image:
    image = photo.copy()
    image.putalpha(77)
    return image


LOSSLESS: dict[str, Callable[[Image.Image], bytes]] = {
    "rgba.png": lambda photo: encode(_with_alpha(photo), "PNG"),
    "lossless.webp": lambda photo: encode(photo, "WEBP", lossless=True),
    "plain.bmp": lambda photo: encode(photo, "BMP"),
    "plain.ppm": lambda photo: encode(photo, "PPM"),
    "lzw.tiff": lambda photo: encode(photo, "TIFF", compression="tiff_lzw"),
    "named_wrongly.jpg": lambda photo: encode(photo, "PNG"),
}
CONVERTED: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {
    "grey.jpg": ("L", lambda photo: encode(photo.convert("L"), quality=100)),
    "grey.png": ("L", lambda photo: encode(photo.convert("L"), "PNG")),
    "grey_alpha.png": ("L", lambda photo: encode(_with_alpha(photo).convert("LA"), "PNG")),
    "grey.pgm": ("L", lambda photo: encode(photo.convert("L"), "PPM")),
    "bilevel.pbm": ("1", lambda photo: encode(photo.convert("1"), "PPM")),
    "bilevel.png": ("1", lambda photo: encode(photo.convert("1"), "PNG")),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_return_the_pixels_that_were_saved(photo: Image.Image, tmp_path: Path, name: str) -> None:
    small = photo.resize((61, 47))
    (tmp_path / name).write_bytes(LOSSLESS[name](small))
    assert largest_difference(read_image(tmp_path / name), small) == 0


@pytest.mark.parametrize("name", CONVERTED)
def test_grey_and_bilevel_images_become_rgb(photo: Image.Image, tmp_path: Path, name: str) -> None:
    mode, save = CONVERTED[name]
    (tmp_path / name).write_bytes(save(photo))
    difference = largest_difference(read_image(tmp_path / name), photo.convert(mode).convert("RGB"))
    assert difference <= (3 if name.endswith("jpg") else 0)


@pytest.mark.filterwarnings("ignore:Palette images")
def test_palette_keeps_its_colours_with_and_without_transparency(photo: Image.Image, tmp_path: Path) -> None:
    small = photo.resize((61, 47))
    expected = small.quantize(64).convert("RGB")
    (tmp_path / "plain.png").write_bytes(encode(small.quantize(64), "PNG"))
    (tmp_path / "transparent.png").write_bytes(palette_with_transparency(small))
    assert Image.open(tmp_path / "transparent.png").info["transparency"]
    assert largest_difference(read_image(tmp_path / "plain.png"), expected) == 0
    assert largest_difference(read_image(tmp_path / "transparent.png"), expected) == 0


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / "two.gif").n_frames == 2
    assert largest_difference(read_image(tmp_path / "two.gif"), frames[0]) == 0


def test_exif_orientation_is_ignored_as_in_the_reference(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.resize((40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 30, 40)
