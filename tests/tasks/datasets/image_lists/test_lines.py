"""Lists of labelled images: what they say however they are written, and what is said of lines that say nothing."""

import random
import re
from pathlib import Path

import pytest

from backbones.errors import DataError
from tasks.datasets.image_lists import lines
from tasks.datasets.image_lists.lines import ImageList, read_list

ENTRIES = {"a/b/1.jpg": 0, "a/b c/2.jpg": 12, "ä/3.jpg": 100_000_000}
PLAIN = "".join(f"{name} {label}\n" for name, label in ENTRIES.items())


def entries(images: ImageList) -> dict[str, int]:
    names = [path.as_posix() for path in images.paths(Path())]
    assert names == sorted(names, key=str.encode)
    return dict(zip(names, images.labels.tolist(), strict=True))


def read(path: Path, data: bytes) -> ImageList:
    path.write_bytes(data)
    return read_list(path)


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (PLAIN.encode(), None),
        (PLAIN.strip().encode(), None),
        (PLAIN.replace("a/b", "/a/b").replace("\n", " \n\n").encode(), None),
        (PLAIN.replace(".jpg ", ".jpg  ").encode(), None),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "byte-order mark"),
        (PLAIN.replace("\n", "\r\n").encode(), "Windows line ends"),
        (PLAIN.replace(".jpg ", ".jpg\t").encode(), "a tab before the class"),
        (PLAIN.replace(".jpg ", ".jpg, ").encode(), None),
        (PLAIN.replace(".jpg ", ".jpg,").encode(), "a comma before the class"),
    ],
)
def test_a_list_says_the_same_however_it_is_written(tmp_path: Path, data: bytes, flaw: str | None) -> None:
    images = read(tmp_path / "list.txt", data)
    assert entries(images) == ENTRIES
    assert len(images.flaws) == (flaw is not None) and images.faults == ()
    assert flaw is None or flaw in images.flaws[0]


def test_arrays_are_as_a_loop_over_the_lines_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_AT_ONCE", 7)
    rng = random.Random(0)
    names = [
        "/".join("ab-"[rng.randrange(3)] * rng.randint(1, 3) for _ in range(rng.randint(1, 4))) + f"/{number}"
        for number in range(200)
    ]
    expected = {name: rng.randrange(10 ** rng.randint(1, 9)) for name in names}
    images = read(tmp_path / "list.txt", "".join(f"/{name} {label}\n" for name, label in expected.items()).encode())
    assert entries(images) == expected
    folders, of_images = images.folders()
    assert [folders[at] for at in of_images] == [name.rpartition("/")[0] for name in entries(images)]
    assert len({*folders}) == len(folders)


def test_an_image_named_twice_counts_once(tmp_path: Path) -> None:
    images = read(tmp_path / "list.txt", b"b 1\na 0\nb 1\nb 1\n")
    assert entries(images) == {"a": 0, "b": 1}
    assert "2 lines of images named before, b among them" in images.flaws[0] and not images.faults


def test_an_image_of_two_classes_is_a_fault(tmp_path: Path) -> None:
    images = read(tmp_path / "list.txt", b"b 1\na 0\nb 2\n")
    assert "1 image named twice with different classes: b among them" in images.faults[0] and not images.flaws


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        ("a 1\n".encode("utf-16"), "UTF-16"),
        (b"a/1.jpg\nb/2.jpg\n", "no line gives an image and its class; line 1 is 'a/1.jpg'"),
        (b"path,label\na 1\n", "line 1: no image with its class: 'path,label'"),
        (b"a 1\n\nb\nc\n", "line 3 and 1 more: no image with its class: 'b'"),
        (b"a 1\nb -1\n", "line 2: no image with its class: 'b -1'"),
        (b"a 1\nb 1.0\n", "line 2: .*'b 1.0'"),
        (b"a 1\nb 1234567890\n", "line 2: .*'b 1234567890'"),
        (b"a 1\n/ 2\n", "line 2: .*'/ 2'"),
        (b"a 1\n" + b"x" * 600 + b" 2\n", "line 2: .*x{80}…"),
        (b"a 1\nb/2.jp", "line 2: .*'b/2.jp'"),
    ],
)
def test_lines_that_say_nothing_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(str(tmp_path / 'list.txt'))}.*{message}"):
        read(tmp_path / "list.txt", data)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt: the file cannot be read: No such file"):
        read_list(tmp_path / "list.txt")
