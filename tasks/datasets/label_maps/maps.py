"""Label maps: PNGs that hold, for each pixel of an image, the number of its class.

Two conventions are in use. ADE20K's, with `reduce_zero_label` (mmseg's name for it): 0 is unlabelled and k the k-th
class. And the plain one: k is class k, counted from 0. In both 255 is unlabelled.
"""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from backbones.errors import DataError
from backbones.images.reading import UnreadableImage, find_fault, open_file
from tasks.datasets.wording import counted, name_some

IGNORED = 255
"""Marks the pixels without a class: they take no part in the loss and in the scores."""

MAX_CLASSES = 254
"""What 8 bits hold beside `IGNORED` and, with `reduce_zero_label`, the zero."""

_OUT_OF_RANGE = 254
"""Stands for a label of no class in the translation tables; the largest class number is one less."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH, _COLOUR_TYPE = 24, 25
"""Where a PNG says how its pixels are stored (PNG specification, 11.2.1): its first chunk is the header."""

_PALETTE = 3
_COLOURS = {2: "a colour picture (RGB)", 4: "a grey picture with transparency (LA)", 6: "a colour picture (RGBA)"}
_GREY_STEPS = {1: 1, 2: 85, 4: 17}
"""What Pillow multiplies greyscale of so many bits by. It makes one bit boolean and the others' brightest 255."""

_EXPECTED = "expected a PNG with one number a pixel, greyscale or with a palette, of up to 8 bits"


class WrongLabels(DataError):  # noqa: N818 - reads as the sentence it is
    """An annotation that can be read but not used: `path` is the file, `why` says the reason and what to do."""

    def __init__(self, path: str | Path, why: str) -> None:
        super().__init__(f"{path}: {why}.")
        self.path = Path(path)
        self.why = why

    def __reduce__(self) -> tuple[type["WrongLabels"], tuple[Path, str]]:
        """Survive the way from a worker process to its parent."""
        return type(self), (self.path, self.why)


def read_label_map(path: Path, classes: int, *, reduce_zero_label: bool) -> np.ndarray:
    """Read the PNG at `path`: uint8 (H, W), class numbers from 0 to `classes` - 1, and `IGNORED` elsewhere.

    A palette's colours mean nothing here, its indices are the labels. Fewer bits than 8 are fine.
    Raises UnreadableImage for what cannot be decoded, and WrongLabels for colour, 16 bits, other formats than PNG, and
    a label that is none of the `classes`, which are at most `MAX_CLASSES`.
    """
    stored = _decode(path)
    labels = np.take(_translation(classes, reduce_zero_label), stored)
    if (labels == _OUT_OF_RANGE).any():
        raise WrongLabels(path, _describe_range(stored, labels, classes, reduce_zero_label))
    return labels


def has_palette(path: Path) -> bool:
    """Whether `path` is a PNG with a palette. Raises OSError if it cannot be opened."""
    with open_file(path) as file:
        header = file.read(_COLOUR_TYPE + 1)
    return header.startswith(_SIGNATURE) and header[_COLOUR_TYPE:] == bytes([_PALETTE])


def _decode(path: Path) -> np.ndarray:
    """The numbers as the file has them, uint8 (H, W)."""
    try:
        with open_file(path) as file:
            data = file.read()
        refusal = _refuse(data)
        if refusal is None:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                return _unstretch(np.asarray(image), data)
    # On damaged data Pillow raises nearly everything: OSError, SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise UnreadableImage(path, find_fault(path) or str(error)) from None
    if fault := find_fault(path):
        raise UnreadableImage(path, fault)
    raise WrongLabels(path, refusal)


def _refuse(data: bytes) -> str | None:
    """Why the header tells that a file is no label map, and what to do; None if it may be one."""
    if not data.startswith(_SIGNATURE):
        return f"not a PNG, whatever its name: {_EXPECTED}. Write the class numbers as PNG"
    if kind := _COLOURS.get(data[_COLOUR_TYPE]):
        return f"{kind}: {_EXPECTED}. If it was a palette PNG once, save it with its palette, else as greyscale"
    if data[_BIT_DEPTH] == 16:
        return f"greyscale of 16 bits: {_EXPECTED}. Save the class numbers with 8 bits"
    return None


def _unstretch(pixels: np.ndarray, data: bytes) -> np.ndarray:
    """The file's own numbers again, where Pillow has made them booleans or greys."""
    if data[_COLOUR_TYPE] == _PALETTE or data[_BIT_DEPTH] == 8:
        return pixels
    return pixels.astype(np.uint8) // _GREY_STEPS[data[_BIT_DEPTH]]


@functools.cache
def _translation(classes: int, reduce_zero_label: bool) -> np.ndarray:
    """What each of the 256 labels a file may hold becomes."""
    if not 0 < classes <= MAX_CLASSES:
        raise ValueError(f"{classes} classes; a label map holds 1 to {MAX_CLASSES}")
    table = np.full(256, _OUT_OF_RANGE, dtype=np.uint8)
    first = int(reduce_zero_label)
    table[first : first + classes] = np.arange(classes)
    table[:first] = table[255] = IGNORED
    return table


def _describe_range(stored: np.ndarray, labels: np.ndarray, classes: int, reduce_zero_label: bool) -> str:
    wrong = np.unique(stored[labels == _OUT_OF_RANGE]).tolist()
    if reduce_zero_label:
        expected = f"1 to {classes}, and 0 or 255 where there is none"
        remedy = "Correct the annotation, or list all classes in data.classes"
    else:
        expected = f"0 to {classes - 1}, and 255 where there is none"
        remedy = (
            "Correct the annotation, list all classes in data.classes, or, where 0 means no class and 1 the first, "
            "leave data.reduce_zero_label at true"
        )
    plural = "s" if len(wrong) > 1 else ""
    return (
        f"label{plural} {name_some(wrong, len(wrong))} out of range: expected, for "
        f"{counted(classes, 'class', 'classes')}, {expected}. {remedy}"
    )
