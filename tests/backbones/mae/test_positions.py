"""Position embeddings: MAE's sin-cos layout, and interpolation to another grid."""

import pytest
import torch
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from backbones.errors import InputError
from backbones.mae.positions import sincos_position_embedding


@pytest.mark.parametrize("grid", [(14, 14), (3, 5), (7, 1)])
def test_sincos_equals_an_independent_source(grid: tuple[int, int]) -> None:
    width = 32
    rows_first = build_2d_sinusoidal_position_embedding(*grid, embed_dim=width, cls_token=True)
    columns_first = torch.cat([rows_first[:, width // 2 :], rows_first[:, : width // 2]], dim=1)
    torch.testing.assert_close(sincos_position_embedding(grid, width)[0], columns_first, rtol=0, atol=1e-6)


def test_sincos_at_positions_worked_out_by_hand() -> None:
    embedding = sincos_position_embedding((2, 3), 8)[0]
    assert embedding.shape == (7, 8)
    assert embedding[0].count_nonzero() == 0  # class token
    row, column = 1, 2
    expected = [value for p in (column, row) for f in (torch.sin, torch.cos) for value in (f(_at(p)), f(_at(p / 100)))]
    torch.testing.assert_close(embedding[1 + row * 3 + column], torch.stack(expected).float())


def _at(position: float) -> torch.Tensor:
    return torch.tensor(position, dtype=torch.float64)


def test_sincos_without_class_token_leaves_out_the_first_row() -> None:
    with_token = sincos_position_embedding((4, 4), 16)
    assert torch.equal(sincos_position_embedding((4, 4), 16, class_token=False), with_token[:, 1:])


def test_sincos_needs_a_multiple_of_four() -> None:
    with pytest.raises(InputError, match="width 18"):
        sincos_position_embedding((4, 4), 18)
