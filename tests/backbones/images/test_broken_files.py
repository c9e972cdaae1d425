"""Files that are no images, or are damaged, are named with the reason; harmless oddities are read."""

import os
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.errors import InputError
from backbones.images.reading import UnreadableImage, find_fault, quick_check, read_image
from backbones.images.upright import read_upright_size
from tests.support.image_examples import PHOTOGRAPH, as_array, decode_with_pillow, encode, palette_with_transparency


def _claiming_huge_sides(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">HH", 60000, 60000) + jpeg[start + 4 :]


BROKEN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "empty.jpg": ("empty", lambda _: b""),
    "text.jpg": ("text, not an image", lambda _: "Grüße, this is a text.\n".encode() * 99),
    "noise.png": ("known format", lambda _: random.Random(0).randbytes(999)),
    "cut.jpg": ("truncated", lambda jpeg: jpeg[: len(jpeg) // 2]),
    "without_end.jpg": ("truncated", lambda jpeg: jpeg[:-2]),
    "only_start.jpg": ("known format", lambda _: b"\xff\xd8"),
    "zeros_after_half.jpg": ("truncated", lambda jpeg: jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2)),
    "huge.jpg": ("178,956,970 pixels", _claiming_huge_sides),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    why, breaks = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(breaks(PHOTOGRAPH.read_bytes()))
    with pytest.raises(UnreadableImage, match=why) as caught:
        read_image(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert find_fault(path) == caught.value.why


def test_missing_file_and_folder_are_unreadable(tmp_path: Path) -> None:
    assert find_fault(tmp_path / "absent.jpg") == "No such file or directory" == quick_check(tmp_path / "absent.jpg")
    assert find_fault(tmp_path) == "Is a directory" == quick_check(tmp_path)


def test_32_bit_pixels_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    assert "range is unknown" in (find_fault(tmp_path / "float.tiff") or "")


def test_cut_and_damaged_jpegs_are_judged_as_pillow_judges_them(photo: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "damaged.jpg"
    verdicts = []
    for seed in range(300):
        rng = random.Random(seed)
        jpeg = bytearray(encode(photo.resize((90, 70)), quality=85, progressive=seed % 2 == 0))
        damage = rng.choice(("cut", "drop", "overwrite"))
        start = rng.randrange(2, len(jpeg))
        if damage == "cut":
            del jpeg[start:]
        elif damage == "drop":
            del jpeg[start : start + rng.randint(1, 300)]
        else:
            jpeg[start] = rng.randrange(256)
        path.write_bytes(jpeg)
        expected, why = decode_with_pillow(path), find_fault(path)
        assert (expected is None) == (why is not None), (seed, damage, why)
        if expected is None:
            assert damage != "cut" or quick_check(path) == why
        else:
            assert np.array_equal(as_array(read_image(path)), expected), seed
            assert quick_check(path) is None, seed
        verdicts.append(why is None)
    assert 50 < sum(verdicts) < 250


def test_harmless_oddities_are_read(tmp_path: Path) -> None:
    jpeg = PHOTOGRAPH.read_bytes()
    for name, data in {"trailing": jpeg + b"x" * 5000, "before_end": jpeg[:-2] + b"abc" + jpeg[-2:]}.items():
        (tmp_path / name).write_bytes(data)
        assert quick_check(tmp_path / name) is None
        assert torch.equal(read_image(tmp_path / name), read_image(PHOTOGRAPH))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "JPEG"])
def test_quick_check_sees_truncation_and_passes_whole_files(photo: Image.Image, tmp_path: Path, kind: str) -> None:
    data = encode(photo, kind)
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "cut").write_bytes(data[: len(data) * 2 // 3])
    assert quick_check(tmp_path / "whole") is None
    assert quick_check(tmp_path / "cut") is not None


def test_quick_check_does_not_decode_a_file_that_looks_whole(tmp_path: Path) -> None:
    jpeg = PHOTOGRAPH.read_bytes()
    (tmp_path / "hollow.jpg").write_bytes(jpeg[:300] + jpeg[-300:])
    assert find_fault(tmp_path / "hollow.jpg") is not None
    assert quick_check(tmp_path / "hollow.jpg") is None


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "the file is empty")))
    assert (error.path, error.why) == (Path("a.jpg"), "the file is empty")
    assert "a.jpg" in str(error)


def test_nothing_is_written_to_stderr(photo: Image.Image, tmp_path: Path) -> None:
    tiff = bytearray(encode(photo, "TIFF", compression="tiff_lzw"))
    tiff[2000:2100] = bytes(255 for _ in range(100))
    (tmp_path / "damaged.tiff").write_bytes(tiff)
    (tmp_path / "transparent.png").write_bytes(palette_with_transparency(photo.resize((61, 47))))
    (tmp_path / "large.png").write_bytes(encode(photo, "PNG"))
    (tmp_path / "cut.jpg").write_bytes(PHOTOGRAPH.read_bytes()[:9999])
    program = (
        "import sys; from pathlib import Path; from PIL import Image; from backbones.images.reading import find_fault\n"
        "Image.MAX_IMAGE_PIXELS = 200_000  # Pillow warns of large.png\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()): print(path.name, find_fault(path) is None)"
    )
    result = subprocess.run([sys.executable, "-W", "always", "-c", program, tmp_path], capture_output=True, text=True)
    assert result.stdout.split() == [
        *("cut.jpg", "False", "damaged.tiff", "False", "large.png", "True", "transparent.png", "True"),
    ]
    assert result.stderr == ""


@pytest.mark.parametrize("kind", ["named pipe", "device"])
def test_what_never_ends_is_no_image(tmp_path: Path, kind: str) -> None:
    """Nobody writes to the pipe: opening it waited for that. The device gives zeros without end."""
    path = tmp_path / "image.jpg"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    assert quick_check(path) == find_fault(path) == "a pipe or a device, not a file"
    with pytest.raises(UnreadableImage, match="a pipe or a device, not a file"):
        read_upright_size(path, None)
