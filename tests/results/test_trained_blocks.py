"""Columns that tell how many of the last blocks were trained."""

import pytest

from results.tables import _by_size
from results.trained_blocks import in_order_of_blocks, read_column, trained_column


@pytest.mark.parametrize("model", ["ViT-B", "ViT-H-448", "my model, small"])
@pytest.mark.parametrize("blocks", [0, 1, 2, 12])
def test_a_column_is_read_as_it_is_written(model: str, blocks: int) -> None:
    assert read_column(trained_column(model, blocks)) == (model, blocks)


def test_other_columns_tell_of_no_blocks() -> None:
    assert read_column("ViT-B") is None and in_order_of_blocks("ViT-B") == "ViT-B"


def test_columns_stand_by_model_and_number_of_blocks() -> None:
    ordered = [trained_column(model, blocks) for model in ("ViT-B", "ViT-L", "mini") for blocks in (0, 1, 2, 10)]
    assert sorted(sorted(ordered), key=_by_size) == ordered
    assert trained_column("ViT-B", 0) == "ViT-B, head only" and trained_column("ViT-B", 1) == "ViT-B, last 1 block"
