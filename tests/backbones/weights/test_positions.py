"""Fixed position embeddings are told from learned ones, and MAE's from MoCo v3's."""

import pytest
import torch
from torch import Tensor
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from backbones.mae.positions import sincos_position_embedding
from backbones.weights.positions import kind_of_positions, may_have_grid
from tests.support.position_examples import interpolated, learned, mae, moco, trained

GRIDS = [(14, 14, 768), (16, 16, 1280), (14, 14, 384), (6, 6, 128), (3, 3, 64), (4, 9, 128), (9, 4, 128)]


def test_the_examples_are_the_references_formulas() -> None:
    """Against torch's grid as MoCo v3 builds it, against transformers' formula, and against our own encoder's."""
    torch.testing.assert_close(mae(6, 6, 128), sincos_position_embedding((6, 6), 128), rtol=0, atol=1e-6)
    frequencies = 10000 ** -(torch.arange(32) / 32)
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    by_row, by_column = (torch.outer(each.flatten(), frequencies) for each in (rows, columns))
    theirs = torch.cat([by_row.sin(), by_row.cos(), by_column.sin(), by_column.cos()], dim=1)
    torch.testing.assert_close(moco(6, 6, 128)[0, 1:], theirs, rtol=0, atol=1e-6)
    row_first = build_2d_sinusoidal_position_embedding(height=4, width=9, embed_dim=128, cls_token=True)
    row_first = row_first.reshape(1, 37, 128)
    torch.testing.assert_close(moco(4, 9, 128), row_first, rtol=0, atol=1e-6)
    column_first = torch.cat([row_first[..., 64:], row_first[..., :64]], dim=2)  # as transformers does for MAE's files
    torch.testing.assert_close(mae(4, 9, 128), column_first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows, columns, width", GRIDS)
def test_the_order_of_the_axes_is_told(rows: int, columns: int, width: int) -> None:
    grid = rows, columns
    for position, expected in ((mae(*grid, width), "column first"), (moco(*grid, width), "row first")):
        for variant in (position, position.half(), position.bfloat16(), trained(position), position[:, 1:]):
            assert kind_of_positions(variant, grid) == expected
    assert kind_of_positions(learned(*grid, width), grid) == "learned"


@pytest.mark.parametrize("side", [7, 10, 20, 28, 32, 64])
def test_interpolation_does_not_hide_it(side: int) -> None:
    grid = (side, side)
    assert kind_of_positions(interpolated(mae(14, 14, 768), 14, grid), grid) == "column first"
    assert kind_of_positions(trained(interpolated(moco(14, 14, 768), 14, grid)), grid) == "row first"
    assert kind_of_positions(interpolated(learned(14, 14, 768), 14, grid), grid) == "learned"
    assert kind_of_positions(interpolated(mae(14, 14, 768), 14, (side, 32)), (side, 32)) == "column first"


def test_learned_ones_are_not_mistaken() -> None:
    """Not even where every number is a mixture of sines of row and column, or nothing was learned yet."""
    mixture = torch.linalg.qr(torch.randn(768, 768, generator=torch.Generator().manual_seed(0)))[0]
    assert kind_of_positions(mae(14, 14, 768) @ mixture, (14, 14)) == "learned"
    for seed in range(5):
        assert kind_of_positions(learned(14, 14, 768, seed), (14, 14)) == "learned"
        start = 0.02 * torch.randn(1, 37, 128, generator=torch.Generator().manual_seed(seed))
        assert kind_of_positions(start, (6, 6)) == "learned"


@pytest.mark.parametrize(
    "position, grid",
    [
        (torch.zeros(1, 37, 128), (6, 6)),
        (torch.full((1, 37, 128), torch.nan), (6, 6)),
        (torch.randn(1, 5, 128), (2, 2)),
        (torch.randn(1, 13, 128), (2, 6)),
        (torch.randn(1, 37, 126), (6, 6)),
        (torch.randn(1, 30, 128), (6, 6)),
        (torch.randn(37, 128), (6, 6)),
        (torch.empty(1, 37, 128, device="meta"), (6, 6)),
    ],
)
def test_nothing_is_said_where_nothing_can_be_told(position: Tensor, grid: tuple[int, int]) -> None:
    assert kind_of_positions(position, grid) is None


def test_much_trained_fixed_ones_are_doubted_before_they_are_called_learned() -> None:
    assert kind_of_positions(trained(mae(14, 14, 768), 0.2), (14, 14)) == "column first"
    assert kind_of_positions(trained(mae(14, 14, 768), 0.3), (14, 14)) is None


@pytest.mark.parametrize("rows, columns, side", [(4, 9, 6), (9, 4, 6), (8, 18, 12), (18, 8, 12), (8, 32, 16)])
def test_a_number_of_patches_that_could_be_square_but_is_not(rows: int, columns: int, side: int) -> None:
    for make in (mae, moco, learned):
        assert not may_have_grid(make(rows, columns, 128), (side, side))
        assert may_have_grid(make(rows, columns, 128), (rows, columns))
        assert not may_have_grid(make(side, side, 128), (rows, columns))
        assert may_have_grid(make(side, side, 128), (side, side))
        assert may_have_grid(trained(make(side, side, 128), 0.3), (side, side))
    assert may_have_grid(torch.randn(1, 1 + side * side, 128), (side, side))
