"""Classes of both splits that differ in nothing but their spelling: which one is meant is said."""

from pathlib import Path

import pytest

from backbones.errors import InputError
from tasks.datasets.class_folders.layout import ClassFolders
from tasks.datasets.coco.layout import compare_categories

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
SPELLINGS = {
    "accents": (COMPOSED, DECOMPOSED, "with accents encoded in another way"),
    "capitals": ("cat", "Cat", "in other capitals"),
    "both": (COMPOSED, DECOMPOSED.upper(), "in other capitals"),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_the_class_that_is_meant_is_named(tmp_path: Path, case: str) -> None:
    train, val, why = SPELLINGS[case]
    for name in (f"train/{train}", "train/dog", f"val/{val}", "val/dog", "val/cow"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.jpg").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        ClassFolders.open(tmp_path, "val")
    assert f"{val} (train/ has {train}, {why})" in str(caught.value)
    assert "cow (" not in str(caught.value)


@pytest.mark.parametrize("case", SPELLINGS)
def test_the_category_that_is_meant_is_named(case: str) -> None:
    train, val, why = SPELLINGS[case]
    difference = compare_categories({1: train, 2: "dog"}, {1: val, 2: "cow"})
    assert difference == (
        f"1 is {train!r} in train, {val!r} ({why}) in val, 2 is 'dog' in train, 'cow' in val. "
        "Give both files the same ids and names."
    )
