"""Decode an image file to RGB bytes: a fast path for JPEG, Pillow for everything else, one error for what is broken.

Pillow is the yardstick. A file is readable if Pillow decodes all of it, and the pixels are those of
`PIL.Image.open(path).convert("RGB")`, which is what torchvision's ImageFolder and the MAE reference train on. Hence:

- The EXIF orientation is ignored, as there. Detection and segmentation read through `upright`, which turns by it.
- Transparency is dropped: a transparent pixel shows the colour that is stored beneath.
- An animation gives its first frame.

The one difference: 16-bit greyscale keeps its high byte, as Pillow does with 16-bit colour, where Pillow's own
conversion would clip every value above 255 to white.
"""

import codecs
import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from backbones.errors import InputError

MAX_PIXELS = 178_956_970
"""Pixels above which Pillow refuses an image as a decompression bomb (twice `PIL.Image.MAX_IMAGE_PIXELS`)."""

# Whatever a file is called, only these decoders see it: some of Pillow's others start a subprocess (EPS: Ghostscript).
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
"""Of images that are coded as HEVC video (ISO/IEC 23008-12), which Pillow does not decode."""

_TAIL_BYTES = 256

# Pillow warns about metadata, palettes and large images that it then reads without fault. A filter set once, unlike
# warnings.catch_warnings, holds in every thread.
warnings.filterwarnings("ignore", module=r"PIL\.")
_stderr_lock = threading.Lock()


class UnreadableImage(InputError):  # noqa: N818 - reads as the sentence it is
    """An image file that cannot be decoded in full: `path` is the file, `why` the reason in a few words."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(f"{path}: unreadable image: {why}. Replace the file or remove it.")
        self.path = Path(path)
        self.why = why

    def __reduce__(self) -> tuple[type["UnreadableImage"], tuple[Path, str]]:
        """Survive the way from a worker process to its parent."""
        return type(self), (self.path, self.why)


def read_image(path: str | Path) -> Tensor:
    """Decode one image file, recognised by its content whatever its name.

    Args:
        path: JPEG (CMYK included), PNG, WebP, BMP, TIFF, GIF, PPM, JPEG 2000 or AVIF; in colour,
            grey or with a palette, of up to 16 bits.

    Returns:
        uint8 (3, H, W), RGB, stored channels last, as the decoder writes it.

    Raises:
        UnreadableImage: the file is missing, empty, truncated, corrupt, not an image, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    return torch.from_numpy(decode(path, read_file(path))).permute(2, 0, 1)


def read_with_pillow(path: str | Path) -> Image.Image:
    """Decode one image file by Pillow alone, as torchvision's ImageFolder does: `convert("RGB")`, whatever the pixels.

    That clips 16-bit greyscale at 255, where `read_image` keeps the high byte. Raises UnreadableImage as that does.
    """
    path = Path(path)
    return _open_with_pillow(path, read_file(path), lambda image: image.convert("RGB"))


def open_file(path: str | Path) -> BinaryIO:
    """Open a file to be read. Raises OSError where there is none, and for what is none, such as a named pipe, at once:
    opening that waits for somebody to write to it, and a device may never end."""
    return open(path, "rb", opener=_open_without_waiting)


def _open_without_waiting(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, os.strerror(number) if stat.S_ISDIR(mode) else "a pipe or a device, not a file", path)


def read_file(path: Path) -> bytes:
    """What is in the file. Raises UnreadableImage if it is missing or empty."""
    try:
        with open_file(path) as file:
            data = file.read()
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error)) from None
    if not data:
        raise UnreadableImage(path, "the file is empty")
    return data


def decode(path: Path, data: bytes) -> np.ndarray:
    """The pixels (H, W, 3), as stored, of the file `path` that holds `data`. Raises UnreadableImage."""
    pixels = _decode_jpeg(data) if data.startswith(b"\xff\xd8") else None
    return np.array(_open_with_pillow(path, data, _convert_to_rgb)) if pixels is None else pixels


def find_fault(path: str | Path) -> str | None:
    """Decode the whole file: why it is unreadable, or None."""
    try:
        read_image(path)
    except UnreadableImage as error:
        return error.why
    return None


def quick_check(path: str | Path) -> str | None:
    """Look at a file's first and last few hundred bytes: why it is unreadable, or None if it looks whole.

    Cheap enough for every evaluation image before a long training. It finds missing, empty and foreign files and the
    truncated among JPEG, PNG, GIF and WebP, but no damage in the middle. A file that looks suspicious is decoded in
    full, so that nothing readable is ever reported.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(16)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    return None if _looks_whole(head, tail, size) else find_fault(path)


def _looks_whole(head: bytes, tail: bytes, size: int) -> bool:
    if head.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" in tail
    if head.startswith((b"GIF87a", b"GIF89a")):
        return tail.endswith(b";")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return size >= int.from_bytes(head[4:8], "little") + 8
    return head.startswith((b"BM", b"II*\0", b"MM\0*", b"P3", b"P5", b"P6")) and size > len(head)


def _decode_jpeg(data: bytes) -> np.ndarray | None:
    """The pixels (H, W, 3), or None where Pillow has to judge: at the decoder's least complaint, and for CMYK.

    Discrete cosine transform and chroma upsampling stay at the decoder's exact settings, which are Pillow's.
    """
    try:
        height, width, colour_space, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS or colour_space in ("CMYK", "YCCK"):
            return None
        return simplejpeg.decode_jpeg(data)
    except ValueError:
        return None


def _open_with_pillow(path: Path, data: bytes, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            if image.format == "TIFF":
                with _silent_stderr():
                    image.load()
            return convert(image)
    except UnidentifiedImageError:
        raise UnreadableImage(path, _foreign(data[:1024])) from None
    except Image.DecompressionBombError:
        raise UnreadableImage(path, f"it claims more than {MAX_PIXELS:,} pixels") from None
    # On damaged data Pillow's plugins raise nearly everything: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise UnreadableImage(path, str(error).rstrip(".") or type(error).__name__) from None


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels, whose range is unknown; store them with 8 or 16 bits")
    return image.convert("RGB")


def _foreign(head: bytes) -> str:
    """Why a file that begins so is no image in a known format."""
    if head[4:8] == b"ftyp" and any(brand in head[8:64] for brand in HEIC_BRANDS):
        return "HEIC, as telephones write it, which is not read. Convert it to JPEG"
    return "text, not an image" if _is_text(head) else "not an image in a known format"


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut in two
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep libtiff, which reports damage straight to file descriptor 2, from doing so."""
    with _stderr_lock:
        stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(null)
