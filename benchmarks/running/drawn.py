"""What `backbench predict` leaves, its pictures and its document, told from others' files of the same names."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY, _VALUE = "Software", "backbench predict"
_MARK = f"tEXt{_KEY}\0{_VALUE}".encode()
_HEAD = 2**16


def save_picture(picture: Image.Image, file: BinaryIO) -> None:
    """Write a PNG that says who drew it."""
    info = PngInfo()
    info.add_text(_KEY, _VALUE)
    picture.save(file, format="png", pnginfo=info)


def is_drawn(path: Path) -> bool:
    """Whether `save_picture` wrote this file, and nobody has written it anew since."""
    head = _head(path)
    return head.startswith(_SIGNATURE) and _MARK in head


def is_document(path: Path) -> bool:
    """Whether this file begins as `backbench predict` begins its document."""
    return _head(path).startswith(b'{\n  "run": {')


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_HEAD)
