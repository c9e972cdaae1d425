"""A packed sequence behaves as a list of the same things, and names survive whatever their bytes are."""

import os
from pathlib import Path

import pytest

from backbones.images.packed import Paths

NAMES = ["a.jpg", "deep/ä.png", os.fsdecode(b"\xff.jpg"), ""]


def test_paths_are_those_of_a_list(tmp_path: Path) -> None:
    paths, expected = Paths.of(tmp_path, NAMES), [tmp_path / name for name in NAMES]
    assert [*paths] == expected and paths == expected and len(paths) == 4
    assert paths[1:3] == expected[1:3] and paths[-2] == expected[-2] and paths[::2] == expected[::2]
    assert paths != expected[:3] and paths != [*expected[:3], tmp_path / "b"] and paths != Paths.of("/", NAMES)
    assert expected[1] in paths and Paths(tmp_path, **paths.arrays) == paths
    with pytest.raises(IndexError):
        paths[4]


def test_there_may_be_none(tmp_path: Path) -> None:
    assert [*Paths.of(tmp_path, [])] == []
