"""Position embeddings: MAE's sin-cos layout, and interpolation to another grid."""

import pytest
import torch
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from backbones.errors import InputError
from backbones.positions import resize_position_embedding, sincos_position_embedding


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


def test_resize_to_the_same_grid_changes_nothing() -> None:
    embedding = torch.randn(1, 1 + 12, 8)
    assert torch.equal(resize_position_embedding(embedding, (3, 4), (3, 4)), embedding)


def test_resize_keeps_prefix_tokens_and_interpolates_rows_and_columns_apart() -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 6), torch.linspace(0, 1, 8), indexing="ij")
    grid = torch.stack([rows, columns], dim=-1).reshape(1, 48, 2)
    prefix = torch.full((1, 2, 2), 7.0)
    resized = resize_position_embedding(torch.cat([prefix, grid], dim=1), (6, 8), (12, 4), prefix_tokens=2)
    assert resized.shape == (1, 2 + 48, 2)
    assert torch.equal(resized[:, :2], prefix)
    new = resized[0, 2:].reshape(12, 4, 2)
    assert (new[1:, :, 0] > new[:-1, :, 0]).all()  # rows still grow downwards
    assert (new[:, 1:, 1] > new[:, :-1, 1]).all()  # columns still grow to the right
    torch.testing.assert_close(new[..., 0].std(dim=1), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(new[..., 1].std(dim=0), torch.zeros(4), atol=1e-5, rtol=0)


def test_resize_between_two_grids_of_equally_many_patches() -> None:
    embedding = sincos_position_embedding((2, 8), 16)
    resized = resize_position_embedding(embedding, (2, 8), (4, 4))
    assert resized.shape == embedding.shape
    assert not torch.allclose(resized, embedding)


def test_resize_refuses_an_embedding_of_another_length() -> None:
    with pytest.raises(InputError, match=r"\(1, 17, 8\): expected \(1, 10, width\)"):
        resize_position_embedding(torch.zeros(1, 17, 8), (3, 3), (4, 4))
