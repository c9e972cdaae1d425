"""Attention with relative positions on processors: exact, with a cache's worth of scores at a time, also in training.

PyTorch's fused attention for processors gives no gradient of a bias, and its plain one holds all scores several times.

h heads, B maps, N = H × W patches, D channels a head; L queries of one block. Keys may be more than the patches, by T
tokens; then N + T stands for N where keys are counted.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scores in a block, 8 MiB. On AMD Zen 4, 4 MiB took as long, 16 MiB a sixth longer; in smaller blocks the threads would
# wait for each other more often, which is slow on a busy machine.
_BLOCK = 2**21

# A head, maps and queries, to index (h, B, N, …) with.
Block = tuple[int, slice, slice]


class Bias(Protocol):
    """What is added to the scores, by terms that are tensors with a gradient."""

    @staticmethod
    def write(scores_BLN: Tensor, terms: Sequence[Tensor], block: Block, grid: tuple[int, int]) -> None:
        """Overwrite a block of scores by its bias."""

    @staticmethod
    def collect(gradients: Sequence[Tensor], scores_BLN: Tensor, block: Block, grid: tuple[int, int]) -> None:
        """Add to the terms' gradients what comes from a block of the scores' gradient."""


class RowAndColumnTerms:
    """Terms for_rows (h, B, N, H) and for_columns (h, B, N, W): what a query adds for each key row and column."""

    @staticmethod
    def write(scores_BLN: Tensor, terms: Sequence[Tensor], block: Block, grid: tuple[int, int]) -> None:
        for_rows, for_columns = terms
        torch.add(for_rows[block][..., None], for_columns[block][:, :, None], out=scores_BLN.unflatten(2, grid))

    @staticmethod
    def collect(gradients: Sequence[Tensor], scores_BLN: Tensor, block: Block, grid: tuple[int, int]) -> None:
        for_rows, for_columns = gradients
        scores_BLHW = scores_BLN.unflatten(2, grid)
        for_rows[block].add_(scores_BLHW.sum(3))
        for_columns[block].add_(scores_BLHW.sum(2))


class SlidingTable:
    """One term (h, 2 H - 1, 2 W - 1): a bias for each row and column of the query plus those of the key."""

    @staticmethod
    def write(scores_BLN: Tensor, terms: Sequence[Tensor], block: Block, grid: tuple[int, int]) -> None:
        (height, width), (head, _, queries) = grid, block
        first, rows = queries.start // width, scores_BLN.shape[1] // width
        table = terms[0][head, first : first + rows + height - 1]
        scores_BLN.view(-1, rows, width, *grid).copy_(table.unfold(0, height, 1).unfold(1, width, 1))

    @staticmethod
    def collect(gradients: Sequence[Tensor], scores_BLN: Tensor, block: Block, grid: tuple[int, int]) -> None:
        (height, width), (head, _, queries) = grid, block
        first, rows = queries.start // width, scores_BLN.shape[1] // width
        # Lay each query column's scores one further to the right, so that one sum brings equal distances together.
        skewed = scores_BLN.new_zeros(rows, width, height, 2 * width)
        strides = (skewed.stride(0), skewed.stride(1) + 1, skewed.stride(2), 1)
        skewed.as_strided((rows, width, height, width), strides).copy_(scores_BLN.sum(0).view(rows, width, *grid))
        by_row = skewed.sum(1)[..., :-1]
        for row in range(rows):
            gradients[0][head, first + row : first + row + height].add_(by_row[row])


class SlidingTableAndTokens:
    """The term of `SlidingTable` for the keys of patches, and one (h, T) for those after them."""

    @staticmethod
    def write(scores_BLN: Tensor, terms: Sequence[Tensor], block: Block, grid: tuple[int, int]) -> None:
        of_patches, of_tokens = scores_BLN.tensor_split((grid[0] * grid[1],), 2)
        SlidingTable.write(of_patches, terms[:1], block, grid)
        of_tokens.copy_(terms[1][block[0]])

    @staticmethod
    def collect(gradients: Sequence[Tensor], scores_BLN: Tensor, block: Block, grid: tuple[int, int]) -> None:
        of_patches, of_tokens = scores_BLN.tensor_split((grid[0] * grid[1],), 2)
        SlidingTable.collect(gradients[:1], of_patches, block, grid)
        gradients[1][block[0]].add_(of_tokens.sum((0, 1)))


def serves(q: Tensor, dropout: float) -> bool:
    """Whether `attend_blockwise` is the one to choose: on processors, in full precision."""
    return (
        q.device.type == "cpu"
        and q.dtype in (torch.float32, torch.float64)
        and dropout == 0.0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def attend_blockwise(
    q_BhND: Tensor,
    k_BhND: Tensor,
    v_BhND: Tensor,
    scale: float,
    grid: tuple[int, int],
    bias: type[Bias],
    *terms: Tensor,
) -> Tensor:
    """Attend with a bias: softmax(scale × q kᵀ + bias) v, (B, h, N, D). Differentiable once.

    The queries are those of a map's patches; keys and values may be more, if the bias is made for it.
    """
    q, k, v = (x.transpose(0, 1) for x in (q_BhND, k_BhND, v_BhND))
    return _Blockwise.apply(q, k, v, scale, grid, bias, *terms).transpose(0, 1)


class _Blockwise(torch.autograd.Function):
    """Keeps the operands alone, and computes the weights again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, grid: tuple[int, int], bias: type[Bias], *terms: Tensor
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, *terms)
        ctx.scale, ctx.grid, ctx.bias = scale, grid, bias
        # In the order (B, N, h, D) the projection can follow without a copy.
        out = q.new_empty([q.shape[axis] for axis in (1, 2, 0, 3)]).permute(2, 0, 1, 3)
        for head, blocks in enumerate(_blocks(q, k, grid)):
            queries, keys, values = (x[head].contiguous() for x in (q, k, v))
            for block, scores in blocks:
                maps, here = block[1], block[1:]
                bias.write(scores, terms, block, grid)
                scores.baddbmm_(queries[here], keys[maps].mT, alpha=scale)
                out[block] = torch.bmm(torch.softmax(scores, 2, out=scores), values[maps])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        q, k, v, *terms = ctx.saved_tensors
        for_q, for_k, for_v, *for_terms = (torch.zeros_like(x) for x in (q, k, v, *terms))
        for head, blocks in enumerate(_blocks(q, k, ctx.grid)):
            queries, keys, values, direction = (x[head].contiguous() for x in (q, k, v, gradient))
            for block, scores in blocks:
                maps, here = block[1], block[1:]
                ctx.bias.write(scores, terms, block, ctx.grid)
                scores.baddbmm_(queries[here], keys[maps].mT, alpha=ctx.scale)
                weights = torch.softmax(scores, 2, out=scores)
                for_v[head, maps].baddbmm_(weights.mT, direction[here])
                for_weights = torch.bmm(direction[here], values[maps].mT)
                for_scores = torch._softmax_backward_data(for_weights, weights, 2, weights.dtype)
                for_q[block] = torch.bmm(for_scores, keys[maps])
                for_k[head, maps].baddbmm_(for_scores.mT, queries[here])
                ctx.bias.collect(for_terms, for_scores, block, ctx.grid)
        return for_q.mul_(ctx.scale), for_k.mul_(ctx.scale), for_v, None, None, None, *for_terms


def _blocks(q_hBND: Tensor, k_hBND: Tensor, grid: tuple[int, int]) -> Iterator[Iterator[tuple[Block, Tensor]]]:
    """Yield, for each head, its blocks, of whole maps or of whole rows of queries, with memory for their scores."""
    (heads, maps, patches, _), keys = q_hBND.shape, k_hBND.shape[2]
    at_once = max(1, _BLOCK // (patches * keys))
    queries = min(max(1, _BLOCK // (grid[1] * keys)), grid[0]) * grid[1]
    memory = q_hBND.new_empty(min(at_once, maps) * queries * keys)

    def of_head(head: int) -> Iterator[tuple[Block, Tensor]]:
        for first_map in range(0, maps, at_once):
            for first_query in range(0, patches, queries):
                shape = (min(at_once, maps - first_map), min(queries, patches - first_query), keys)
                block = (head, slice(first_map, first_map + at_once), slice(first_query, first_query + queries))
                yield block, memory[: math.prod(shape)].view(shape)

    return (of_head(head) for head in range(heads))
