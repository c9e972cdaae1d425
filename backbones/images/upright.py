"""Images the right way up, for tasks whose annotations name places in them: turned by their EXIF orientation.

A camera stores what its sensor saw, and beside it how to turn that. People annotate what a viewer shows, so detectron2
(detection_utils.py, `_apply_exif_orientation`) and mmcv (image/io.py: OpenCV, flag "color") turn an image when they
read it; mmsegmentation leaves label maps as they are stored (flag "unchanged"). So here, with Pillow and therefore
detectron2 as the yardstick of which tag a file has: the few files of which the two libraries think differently are
malformed, tagged in XMP alone, or AVIF.

Beyond both, an image whose annotations are for the size that is stored stays as it is stored, where detectron2 raises
SizeMismatchError: its annotations were made without turning. Where both sizes agree (tags 2 to 4, squares), the size
cannot tell, and the tag is followed.

TIFF is turned by Pillow itself: no tag is seen here, for classification either. (detectron2 turns it a second time.)
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from backbones.images.reading import PILLOW_FORMATS, UnreadableImage, decode, find_fault, open_file, read_file

Size = tuple[int, int]
"""Height and width in pixels."""

UNTURNED = 1

_FLIPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""The orientations that ask for a turn (EXIF 2.32, tag 274): the steps down and across, after exchanging rows and
columns from 5 on. Any other value asks for nothing."""

_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_PNG_KEYWORDS = (b"exif\0", b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Of the text chunks of a PNG in which Pillow looks for an orientation."""


@dataclass(frozen=True)
class Orientation:
    """How an image's file says that it is to be turned, 1 (not at all) to 8, and whether it was left as stored."""

    tag: int
    kept: bool = False

    @property
    def tagged(self) -> bool:
        return self.tag != UNTURNED

    @property
    def applied(self) -> int:
        """By which orientation the image was turned."""
        return UNTURNED if self.kept else self.tag


def read_upright(path: str | Path, size: Size | None) -> tuple[Tensor, Orientation]:
    """`read_image`, turned by the file's orientation unless only the stored size is `size`, the annotations'.

    The tensor is uint8 (3, H, W), RGB, stored channels last. Without a `size` the tag alone decides.
    Raises UnreadableImage.
    """
    path = Path(path)
    data = read_file(path)
    pixels = decode(path, data)
    orientation = _choose(_find_tag(data), pixels.shape[:2], size)
    return torch.from_numpy(_turn(pixels, orientation.applied)).permute(2, 0, 1), orientation


def read_upright_size(path: str | Path, size: Size | None) -> tuple[Size, Orientation]:
    """Height and width of the image that `read_upright` would return, mostly from the file's header alone.

    Raises UnreadableImage where there is no header to be read; what follows it may be damaged all the same.
    """
    try:
        with open_file(path) as file:
            stored, tag = _look(file)
    # As in decoding, damage shows as nearly any exception.
    except Exception as error:
        raise UnreadableImage(path, find_fault(path) or str(error)) from None
    orientation = _choose(tag, stored, size)
    return _turned(stored, orientation.applied), orientation


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W, 3) turned. Moves three bytes at once, which for photographs takes a third of Pillow's time."""
    if orientation == UNTURNED:
        return pixels
    down, across = _FLIPS[orientation]
    whole = pixels.view("V3")[..., 0]
    turned = np.ascontiguousarray((whole.T if orientation >= 5 else whole)[::down, ::across])
    return turned.view(np.uint8).reshape(*turned.shape, 3)


def _turned(size: Size, orientation: int) -> Size:
    return size[::-1] if orientation >= 5 else size


def _choose(tag: int, stored: tuple[int, ...], size: Size | None) -> Orientation:
    height, width = stored
    fits_unturned_alone = (height, width) == size != _turned((height, width), tag)
    return Orientation(tag, kept=fits_unturned_alone)


def _find_tag(data: bytes) -> int:
    """The orientation of an image that can be decoded: some 40 µs, where decoding takes over 600."""
    try:
        return _look(io.BytesIO(data))[1]
    except Exception:
        return UNTURNED


def _look(file: BinaryIO) -> tuple[Size, int]:
    """The stored size and the orientation: 1 for what is damaged or no orientation, as in detectron2."""
    with Image.open(file, formats=PILLOW_FORMATS) as image:
        size = image.height, image.width
        if image.format == "TIFF" or (image.format == "PNG" and not _png_may_be_tagged(file)):
            return size, UNTURNED
        try:
            tag = image.getexif().get(ExifTags.Base.Orientation)
        except Exception:
            return size, UNTURNED
    return size, next((turn for turn in _FLIPS if turn == tag), UNTURNED)


def _png_may_be_tagged(file: BinaryIO) -> bool:
    """Whether a PNG has a chunk that may hold an orientation, before its pixels or after them.

    Pillow would decode the pixels of every PNG without a tag to look behind them.
    """
    place = file.tell()
    position = 8
    try:
        while len(head := _peek(file, position, 8 + 24)) >= 8:
            length, kind, start = int.from_bytes(head[:4], "big"), head[4:8], head[8:]
            if kind == b"eXIf" or (kind in _PNG_TEXT and start.startswith(_PNG_KEYWORDS)):
                return True
            position += 12 + length
        return False
    finally:
        file.seek(place)


def _peek(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
