"""Relative positions in attention against the plain formula, in all the ways that they are computed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import gen_relative_position_index
from torch import Tensor, nn

import backbones.adapters.blockwise
import backbones.adapters.relative_position as relative_position
from backbones.adapters.relative_position import DecomposedPositions, TableBias, interpolated_bias
from tests.support.waiting import fake, no_waiting

MAPS, HEADS, WIDTH, SIZE = 2, 3, 6, 5
GRIDS = [(5, 5), (5, 3), (4, 7)]  # the tables' own, and others, to which tables are interpolated


def operands(grid: tuple[int, int], dtype: torch.dtype = torch.float64, tokens: int = 0) -> list[Tensor]:
    """Queries, keys and values as views of one tensor, as attention has them, tokens before the patches included."""
    qkv = torch.randn(MAPS, tokens + grid[0] * grid[1], 3, HEADS, WIDTH, dtype=dtype)
    return [x.requires_grad_() for x in qkv.permute(2, 0, 3, 1, 4).unbind(0)]


def plainly(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    return (q @ k.mT * WIDTH**-0.5 + bias).softmax(-1) @ v


def decomposed_bias(q: Tensor, positions: DecomposedPositions, grid: tuple[int, int]) -> Tensor:
    """query · row table [row distance] + query · column table [column distance], pair by pair."""
    row_table, column_table = (
        table
        if len(table) == 2 * side - 1
        else nn.functional.interpolate(table.t()[None], size=2 * side - 1, mode="linear")[0].t()
        for table, side in [(positions.rel_pos_h, grid[0]), (positions.rel_pos_w, grid[1])]
    )
    rows, columns = torch.arange(grid[0]).repeat_interleave(grid[1]), torch.arange(grid[1]).repeat(grid[0])
    tables_NND = row_table[rows[:, None] - rows + grid[0] - 1] + column_table[columns[:, None] - columns + grid[1] - 1]
    return torch.einsum("bnqd,qkd->bnqk", q, tables_NND)


def table_bias(q: Tensor, positions: TableBias, grid: tuple[int, int]) -> Tensor:
    """The bias of all pairs by timm's index of BEiT's table, the class token left out."""
    table = positions.relative_position_bias_table
    if grid != (SIZE, SIZE):
        square = table.t().reshape(1, -1, 2 * SIZE - 1, 2 * SIZE - 1)
        size = (2 * grid[0] - 1, 2 * grid[1] - 1)
        table = nn.functional.interpolate(square, size=size, mode="bicubic").flatten(2)[0].t()
    return table[gen_relative_position_index(grid)[1:, 1:]].permute(2, 0, 1)


def table_bias_with_tokens(q: Tensor, positions: TableBias, grid: tuple[int, int], tokens: int) -> Tensor:
    """The same with timm's index of the class token too, which stands for every token."""
    patches, of_tokens = positions.relative_position_bias_table.split([(2 * SIZE - 1) ** 2, 3])
    square = patches.t().reshape(1, -1, 2 * SIZE - 1, 2 * SIZE - 1)
    if grid != (SIZE, SIZE):
        square = nn.functional.interpolate(square, size=(2 * grid[0] - 1, 2 * grid[1] - 1), mode="bicubic")
    table = torch.cat([square.flatten(2)[0].t(), of_tokens])
    place = torch.cat([torch.zeros(tokens, dtype=torch.long), torch.arange(grid[0] * grid[1]) + 1])
    return table[gen_relative_position_index(grid)[place][:, place]].permute(2, 0, 1)


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "decomposed": (lambda: DecomposedPositions(SIZE, WIDTH), decomposed_bias),
    "table": (lambda: TableBias(SIZE, HEADS), table_bias),
}


@pytest.fixture(params=["whole maps", "rows", "elsewhere", "elsewhere, rows", "gpu", "gpu, again", "gpu, rows, again"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How it is computed: by blocks of several maps or of a few rows; or as elsewhere, likewise.

    Elsewhere is half precision on a processor, or a GPU, which computes a large bias again in the backward pass.
    """
    if "elsewhere" in request.param or "gpu" in request.param:
        monkeypatch.setattr(relative_position, "serves", lambda q, dropout: False)
    if "gpu" in request.param:
        monkeypatch.setattr(relative_position, "_on_gpu", lambda q: True)
    if "again" in request.param:
        monkeypatch.setattr(relative_position, "_MOST_KEPT", 0)
    if "rows" in request.param:
        monkeypatch.setattr(backbones.adapters.blockwise, "_BLOCK", 100)
        monkeypatch.setattr(relative_position, "_MOST_SCORES", {"cpu": 500, "cuda": 500})
    return request.param


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_equal_those_of_the_plain_formula(kind: str, grid: tuple[int, int], way: str) -> None:
    torch.manual_seed(0)
    make, bias_of = KINDS[kind]
    positions = make().double()
    for parameter in positions.parameters():
        nn.init.normal_(parameter)
    q, k, v = operands(grid)
    found = positions(q, k, v, grid, WIDTH**-0.5, 0.0)
    expected = plainly(q, k, v, bias_of(q, positions, grid))
    torch.testing.assert_close(found, expected)
    direction, inputs = torch.randn_like(expected), [q, k, v, *positions.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, direction), torch.autograd.grad(expected, inputs, direction)
    )


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("grid", GRIDS)
def test_so_do_those_of_tokens_before_the_patches(tokens: int, grid: tuple[int, int], way: str) -> None:
    torch.manual_seed(0)
    positions = TableBias(SIZE, HEADS, tokens=True).double()
    table = nn.init.normal_(positions.relative_position_bias_table)
    q, k, v = operands(grid, tokens=tokens)
    found = positions(q, k, v, grid, WIDTH**-0.5, 0.0)
    expected = plainly(q, k, v, table_bias_with_tokens(q, positions, grid, tokens))
    torch.testing.assert_close(found, expected)
    direction, inputs = torch.randn_like(expected), [q, k, v, table]
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, direction), torch.autograd.grad(expected, inputs, direction)
    )


def test_half_precision_keeps_the_gradients_of_the_tokens_entries() -> None:
    """Of a large map, where the gradients of a thousand scores that nearly cancel would be rounded one by one."""
    grid, found = (32, 32), {}
    for dtype in (torch.float64, torch.bfloat16):
        torch.manual_seed(0)
        positions = TableBias(32, HEADS, tokens=True)
        nn.init.normal_(positions.relative_position_bias_table, std=0.5)
        q, k, v, direction = (torch.randn(2, HEADS, 1025, WIDTH).bfloat16().to(dtype) for _ in range(4))
        attended = positions.to(torch.float64 if dtype == torch.float64 else torch.float32)(q, k, v, grid, 0.3, 0.0)
        (gradient,) = torch.autograd.grad(attended, [*positions.parameters()], direction)
        found[dtype] = gradient[-3:].double()
    exact, rounded = found.values()
    assert ((rounded - exact).norm(dim=1) < 0.01 * exact.norm(dim=1)).all()


@pytest.mark.parametrize("rows", [32, 7])
def test_on_a_gpu_half_precision_sums_up_the_tables_gradient_in_full(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry's is a sum over up to a thousand pairs of patches, in pieces of as many rows."""
    monkeypatch.setattr(relative_position, "serves", lambda q, dropout: False)
    monkeypatch.setattr(relative_position, "_on_gpu", lambda q: True)
    grid, found = (32, 32), {}
    monkeypatch.setattr(relative_position, "_MOST_SCORES", {"cuda": rows * 2 * HEADS * 32 * 1024})
    for dtype in (torch.float64, torch.bfloat16):
        torch.manual_seed(0)
        positions = TableBias(32, HEADS)
        nn.init.normal_(positions.relative_position_bias_table, std=0.5)
        q, k, v, direction = (torch.randn(2, HEADS, 1024, WIDTH).bfloat16().to(dtype) for _ in range(4))
        attended = positions.to(torch.float64 if dtype == torch.float64 else torch.float32)(q, k, v, grid, 0.3, 0.0)
        (found[dtype],) = torch.autograd.grad(attended, [*positions.parameters()], direction)
    exact, rounded = (gradient.double() for gradient in found.values())
    assert (rounded - exact).norm() < 0.004 * exact.norm()


@pytest.mark.parametrize(
    ("maps", "side", "tokens", "pieces", "again"),
    [(8, 64, 0, 2, True), (1, 64, 0, 1, True), (8 * 16, 16, 0, 1, False), (2, 32, 1, 1, False), (8, 96, 0, 8, True)],
    ids=["8 × 1024 pixels", "1024 pixels", "windows of 8 images", "2 × 512 pixels, class token", "8 × 1536 pixels"],
)
def test_a_gpu_takes_few_pieces_of_a_large_map(
    maps: int, side: int, tokens: int, pieces: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-B's blocks, on a GPU that is only claimed: of no piece a gradient of more than 2 GiB in half precision."""
    whole, repeated, sizes = relative_position._attend_rows, relative_position.checkpoint, list[int]()
    repeats = list[int]()

    def attend(q: Tensor, k: Tensor, *others: Any) -> Tensor:
        sizes.append(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2])
        return whole(q, k, *others)

    def repeat(*arguments: Any, **options: Any) -> Tensor:
        repeats.append(1)
        return repeated(*arguments, **options)

    monkeypatch.setattr(relative_position, "_attend_rows", attend)
    monkeypatch.setattr(relative_position, "checkpoint", repeat)
    with no_waiting() as mode:
        positions = TableBias(side, 12, tokens=bool(tokens))
        table = fake(mode, positions.relative_position_bias_table.detach(), "cuda")
        positions.relative_position_bias_table = nn.Parameter(table)
        q, k, v = (
            torch.zeros(maps, 12, tokens + side**2, 64, dtype=torch.bfloat16, device="cuda", requires_grad=True)
            for _ in range(3)
        )
        attended = positions(q, k, v, (side, side), 0.125, 0.0)
    assert attended.shape == q.shape and attended.dtype == torch.bfloat16
    assert len(sizes) == pieces and max(sizes) <= 2**30
    assert len(repeats) == (pieces if again else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_tables_change_nothing(kind: str) -> None:
    q, k, v = operands((SIZE, SIZE), torch.float32)
    positions = KINDS[kind][0]()
    torch.testing.assert_close(positions(q, k, v, (SIZE, SIZE), WIDTH**-0.5, 0.0), plainly(q, k, v, torch.zeros(())))


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_scores_stay_finite(kind: str) -> None:
    positions = KINDS[kind][0]()
    q, k, v = operands((SIZE, SIZE), torch.float32)
    found = positions(1e4 * q, 1e4 * k, v, (SIZE, SIZE), 1.0, 0.0)
    torch.testing.assert_close(found, (1e4 * q @ (1e4 * k).mT).softmax(-1) @ v)
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in positions.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_and_dropout_take_the_other_way(kind: str) -> None:
    torch.manual_seed(0)
    positions = KINDS[kind][0]()
    q, k, v = operands((SIZE, SIZE), torch.float32)
    exact = positions(q, k, v, (SIZE, SIZE), WIDTH**-0.5, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = positions(q.bfloat16(), k.bfloat16(), v.bfloat16(), (SIZE, SIZE), WIDTH**-0.5, 0.0)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
    dropped = positions(q, k, torch.ones_like(v), (SIZE, SIZE), WIDTH**-0.5, 0.5)
    assert dropped.min() < 0.9  # without dropout the weights sum to one


@pytest.mark.parametrize("size", [4, 6, 9])
def test_the_table_of_beit_is_interpolated_as_timm_does_it_without_the_class_token(size: int) -> None:
    attention = BeitAttention(12, HEADS, window_size=(6, 6))
    nn.init.normal_(attention.relative_position_bias_table)
    bias = interpolated_bias(attention, size)
    attention.set_window_size((size, size))
    torch.testing.assert_close(bias.relative_position_bias_table, attention.relative_position_bias_table[:-3])
    assert bias.relative_position_bias_table.requires_grad
