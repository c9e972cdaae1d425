"""A small segmentation set in ADE20K's layout, sound as it stands, for the tests to change."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("deep/b.jpg", "a.jpg", "c.d.png")
HEIGHT, WIDTH = 6, 8
CLASSES = ["wall", "door", "screen door"]
CLASS_TABLE = (
    "Idx\tRatio\tTrain\tVal\tName\n"
    "1\t0.1576\t11664\t1172\twall\n"
    "2 \t0.0118\t6666\t796\tdoor, double door \n"
    "3\t0.0015\t139\t18\tscreen door, screen\n"
)


def numbers(number: int) -> np.ndarray:
    """The stored labels of the image `number`, (6, 8): a row of each from 0 to 3, the rest of one class."""
    labels = np.full((HEIGHT, WIDTH), 1 + number % 3, dtype=np.uint8)
    labels[:4] = np.arange(4, dtype=np.uint8)[:, None]
    return labels


def write_labels(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)
    return path


def write_set(root: Path) -> Path:
    """Three images a split, one of them in a sub-folder, of three classes."""
    generator = np.random.default_rng(0)
    for split in ("training", "validation"):
        for number, name in enumerate(NAMES):
            image = root / "images" / split / name
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(image)
            write_labels(annotation(root, split, name), numbers(number))
    (root / "objectInfo150.txt").write_text(CLASS_TABLE)
    return root


def annotation(root: Path, split: str, name: str) -> Path:
    return (root / "annotations" / split / name).with_suffix(".png")


def cut(path: Path) -> Path:
    """Keep of a PNG its header and nothing of its pixels."""
    path.write_bytes(path.read_bytes()[:45])
    return path


def grey_png(labels: np.ndarray, bits: int) -> bytes:
    """A greyscale PNG of `bits` a pixel, written from the specification: Pillow writes none of 2 or 4 bits."""
    height, width = labels.shape
    rows = b""
    for row in labels:
        binary = "".join(f"{value:0{bits}b}" for value in row.tolist())
        binary += "0" * (-len(binary) % 8)
        rows += b"\0" + bytes(int(binary[start : start + 8], 2) for start in range(0, len(binary), 8))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
