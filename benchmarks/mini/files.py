"""The files of the generated data: how an image is encoded, and that each appears complete or not at all."""

import io
from pathlib import Path
from typing import Any

import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from backbones.training.writing import written_whole

# Full colour resolution: the usual halving would blur objects of this size.
JPEG_QUALITY = 95
JPEG_SUBSAMPLING = "444"


def encode(image: NDArray[Any], suffix: str) -> bytes:
    """A colour image (H, W, 3) as the content of a .jpg or .png file, or a grey one (H, W) as that of a .png; uint8."""
    if suffix == ".jpg":
        return simplejpeg.encode_jpeg(image, JPEG_QUALITY, colorsubsampling=JPEG_SUBSAMPLING)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write an image, as `encode` takes it, to a .jpg or .png file, making its folder if there is none."""
    with written_whole(path, several_writers=False, safe_from_power_cuts=False) as file:
        file.write(encode(image, path.suffix))


def write_text(path: Path, text: str) -> None:
    """Write a text file, in place of the one that may be there, making its folder if there is none."""
    with written_whole(path, several_writers=False, safe_from_power_cuts=False) as file:
        file.write(text.encode())
