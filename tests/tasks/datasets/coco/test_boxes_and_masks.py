"""What boxes and masks tell of each other: objects without a mask."""

from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from tests.support.coco_examples import content, ids, read


def without_masks(*numbers: int, null: bool = False) -> dict[str, Any]:
    data = content()
    for number in numbers:
        data["annotations"][number].pop("segmentation")
        if null:
            data["annotations"][number]["segmentation"] = None
    return data


@pytest.mark.parametrize("null", [False, True])
def test_an_object_without_segmentation_is_not_scored_against_its_box(tmp_path: Path, null: bool) -> None:
    data = without_masks(2, null=null)
    train = read(tmp_path, data)
    assert ids(train) == [5, 11]
    assert train.notes == ["1 train annotation with no segmentation: left out of training (ids 12)."]
    with pytest.raises(InputError, match=r"val2017\.json: 1 annotation with no segmentation.*scored: annotation 12\."):
        read(tmp_path, data, "val")
    every = without_masks(0, 1, 2, null=null)
    with pytest.raises(InputError, match=r"3 annotations with no segmentation .*: annotation 11, annotation 5, annot"):
        read(tmp_path, every, "val")
