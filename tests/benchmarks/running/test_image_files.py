"""Which images a command is given, and what they are called."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from backbones.errors import DataError
from benchmarks.running.image_files import find_image_files


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(given: Sequence[Path]) -> list[str]:
    return [each.name for each in find_image_files(given)]


def test_images_of_folders_keep_their_place(tmp_path: Path) -> None:
    touch(tmp_path, "b/c/2.JPG", "b/1.png", "a.txt", "b/.hidden.png", "b/notes.txt")
    assert names([tmp_path / "b"]) == ["1", "c/2"]


def test_files_are_called_by_their_own_names(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "y/2.odd")
    assert names([tmp_path / "y/2.odd", tmp_path / "x/1.png"]) == ["2", "1"]


def test_equal_names_in_different_folders_stay_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "y/1.png", "y/z/1.png")
    assert names([tmp_path / "x", tmp_path / "y"]) == ["x/1", "y/1", "y/z/1"]
    assert names([tmp_path / "x/1.png", tmp_path / "y/1.png"]) == ["x/1", "y/1"]


@pytest.mark.parametrize("other", ["1.jpg", "1.PNG", "A/../1.jpg"])
def test_equal_names_but_for_the_suffix_keep_it(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "A/0.png", "1.png", other)
    assert names([tmp_path / "1.png", tmp_path / other]) == ["1.png", Path(other).name]


def test_what_is_given_twice_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "x/2.png")
    assert names([tmp_path / "x/2.png", tmp_path / "x", tmp_path / "x/../x/1.png"]) == ["2", "1"]


def test_folders_that_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.png", "x/out/1.png", "x/outer/2.png")
    assert [each.name for each in find_image_files([tmp_path / "x"], [tmp_path / "x/out"])] == ["1", "outer/2"]


def test_telephones_images_are_not_passed_over_unseen(tmp_path: Path) -> None:
    touch(tmp_path, "1.HEIC", "2.png")
    assert names([tmp_path]) == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nowhere", "nowhere: no such file or folder"), ("empty", "empty: no images found. Expected files ending in")],
)
def test_what_is_not_there_is_told(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=expected):
        find_image_files([tmp_path / name])
