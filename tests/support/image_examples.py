"""A real photograph, images in memory and in files, how far two of them are apart, and what becomes of a picture."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
"""A photograph of 1984 by the US Navy, in the public domain, that matplotlib ships: 512 × 600 pixels."""


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def largest_difference(image: torch.Tensor, other: Image.Image) -> int:
    assert image.shape == (3, other.height, other.width)
    return int(np.abs(as_array(image).astype(int) - np.asarray(other)).max())


def decode_with_pillow(path: Path) -> np.ndarray | None:
    try:
        return np.array(Image.open(path).convert("RGB"))
    except Exception:
        return None


def palette_with_transparency(photo: Image.Image) -> bytes:
    return encode(photo.quantize(64), "PNG", transparency=bytes(range(0, 128, 2)))


_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera, turned so that its files bear this EXIF orientation, does to the scene."""


def save_tagged(upright: Image.Image, path: Path, tag: int, **options: object) -> None:
    """Store an image as a camera does that was turned: a viewer that heeds the EXIF orientation `tag` shows it upright.

    JPEGs have quality 95 unless told otherwise, and the suffix names the format.
    """
    stored = upright.transpose(_STORED[tag]) if tag in _STORED else upright
    stored.save(path, exif=tagged(tag), **{"quality": 95} | options)


def tagged(tag: int) -> Image.Exif:
    """EXIF data of which the orientation is `tag`."""
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


def assert_kept_where_saving_fails(path: Path, draw: Callable[[], object]) -> None:
    """A picture that is drawn anew stays as it is, and alone in its folder, if the disk fills up meanwhile."""
    before = path.read_bytes()

    def fail(self: Image.Image, target: BinaryIO, **options: Any) -> None:
        target.write(b"half a")
        raise OSError("no space left on device")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(OSError, match="no space"):
            draw()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
