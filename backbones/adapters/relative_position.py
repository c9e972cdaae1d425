"""Relative positions in attention over a map, without ever holding the bias of all pairs of a large one.

B maps or windows, h heads, N = H × W patches, D channels a head. Each class here does the whole attention:
(B, h, N, D) queries, keys and values of an H × W map give (B, h, N, D). With T tokens before the patches, such as a
class token, there are T + N of each.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resize_rel_pos_bias_table
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.adapters.blockwise import (
    RowAndColumnTerms,
    SlidingTable,
    SlidingTableAndTokens,
    attend_blockwise,
    serves,
)

_MOST_SCORES = {"cpu": 2**24, "cuda": 2**30}
"""That one piece of `TableBias` takes at a time.

On processors all of them are held several times, 64 MiB each in single precision. On a GPU PyTorch has one kernel that
gives a bias its gradient, the memory-efficient one (flash attention takes no bias, cuDNN's none that is trained). Its
forward pass reads the bias of one map for all, and its backward pass writes the gradient for every map apart, before
they are summed (attention_backward.cu, `grad_bias`): 2 GiB in half precision, and as much again for a bias in single
precision and its gradient where there are few maps. A global block of ViT-B on 8 images of 1024 pixels goes in two
pieces, and a windowed one in one. A quarter was as fast on an H100, a sixty-fourth up to three times as slow.
"""
_MOST_KEPT = 2**26
"""Entries of a bias that a GPU keeps for the backward pass, 128 MiB in half precision; a larger one is made again."""

_OF_TOKENS = 3  # entries of a table
_WHOLE = 8  # kernels want head widths and rows of scores that are multiples of it


class DecomposedPositions(nn.Module):
    """Positions that depend on the query, apart for rows and columns (ViTDet, section 3; MViTv2, equation 4).

    To each score comes query · row table [row distance] + query · column table [column distance], with the query
    unscaled. Where `attend_blockwise` does not serve, they are written as extra channels: of queries, these products
    for every key row and column; of keys, ones where their row and their column is. That is an ordinary dot product,
    which the fused attention does.

    size:  rows and columns of the map that the tables are made for
    width: D
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size - 1, width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size - 1, width))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float, dropout: float) -> Tensor:
        """Attend. A map of another size than the tables' has them interpolated linearly."""
        height, width = grid
        query_BhHWD = q.unflatten(2, grid)
        for_rows = torch.einsum("bnhwd,hkd->bnhwk", query_BhHWD, _by_pair(self.rel_pos_h, height)).flatten(2, 3)
        for_columns = torch.einsum("bnhwd,wkd->bnhwk", query_BhHWD, _by_pair(self.rel_pos_w, width)).flatten(2, 3)
        if serves(q, dropout):
            terms = (for_rows.transpose(0, 1), for_columns.transpose(0, 1))
            return attend_blockwise(q, k, v, scale, grid, RowAndColumnTerms, *terms)
        long_q = _padded(torch.cat([q * scale, for_rows.to(q.dtype), for_columns.to(q.dtype)], -1))
        long_k = _padded(torch.cat([k, _places(grid, k).expand(*k.shape[:2], -1, -1)], -1))
        long_v = F.pad(v, (0, long_k.shape[-1] - v.shape[-1]))
        attended = F.scaled_dot_product_attention(long_q, long_k, long_v, dropout_p=dropout, scale=1.0)
        return attended[..., : v.shape[-1]]


def _places(grid: tuple[int, int], like: Tensor) -> Tensor:
    """Mark the row and the column of each token with a one, (N, H + W)."""
    rows = torch.eye(grid[0], dtype=like.dtype, device=like.device).repeat_interleave(grid[1], 0)
    columns = torch.eye(grid[1], dtype=like.dtype, device=like.device).repeat(grid[0], 1)
    return torch.cat([rows, columns], 1)


def _by_pair(table_LD: Tensor, size: int) -> Tensor:
    """Look up the table for each query and key position of one axis, (size, size, D)."""
    if len(table_LD) != 2 * size - 1:
        table_LD = F.interpolate(table_LD.t()[None], size=2 * size - 1, mode="linear")[0].t()
    position = torch.arange(size, device=table_LD.device)
    return table_LD[position[:, None] - position + size - 1]


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, (0, -x.shape[-1] % _WHOLE))


class TableBias(nn.Module):
    """A bias for each row and column distance and head, from a table (Swin, equation 4; BEiT).

    size:   rows and columns of the map or window that the table is made for
    heads:  h
    tokens: whether there are tokens before the patches. They have no place, and the table ends with three entries for
            them: of tokens' queries for patches, of patches' for tokens, and of tokens' for tokens (the class token in
            BEiT's segmentation code, backbone/beit.py, and in mmsegmentation's `BEiTAttention`)
    """

    def __init__(self, size: int, heads: int, tokens: bool = False) -> None:
        super().__init__()
        self.size = size
        entries = (2 * size - 1) ** 2 + (_OF_TOKENS if tokens else 0)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(entries, heads))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float, dropout: float) -> Tensor:
        """Attend. A map of another size than the table's has it interpolated bicubically.

        Where `attend_blockwise` does not serve, it goes by some rows of queries at a time, whose scores are computed
        again in the backward pass. A GPU sums up the table's gradient in the table's own precision.
        """
        table = self._table_for(grid)
        table = table if _on_gpu(q) else table.to(q.dtype)
        k, v = k.flip(2), v.flip(2)  # against reversed keys the bias is a sliding window over the table
        tokens = q.shape[2] - grid[0] * grid[1]
        if not tokens:
            return _attend_from_patches(q, k, v, [table], grid, scale, dropout)
        spare = -k.shape[2] % _WHOLE  # keys that nothing attends to: rows of scores are then aligned
        k, v = (F.pad(x, (0, 0, 0, spare)) for x in (k, v))
        to_patches, to_tokens, among_tokens = self.relative_position_bias_table[-_OF_TOKENS:]
        of_tokens, of_patches = q.tensor_split((tokens,), 2)
        # Softmax sees differences only: all on the tokens' own keys, so that no gradient is a sum that nearly cancels.
        bias_hT = (among_tokens - to_patches).to(q.dtype)[:, None].expand(-1, tokens)
        bias_hK = F.pad(F.pad(bias_hT, (q.shape[2] - tokens, 0)), (0, spare), value=-torch.inf)
        from_tokens = F.scaled_dot_product_attention(
            of_tokens, k, v, attn_mask=bias_hK[None, :, None], dropout_p=dropout, scale=scale
        )
        to_tokens_hT = to_tokens.to(q.dtype)[:, None].expand(-1, tokens)
        terms = [table, F.pad(to_tokens_hT, (0, spare), value=-torch.inf)]
        return torch.cat([from_tokens, _attend_from_patches(of_patches, k, v, terms, grid, scale, dropout)], 2)

    def _table_for(self, grid: tuple[int, int]) -> Tensor:
        """Bring the table to (h, 2 H - 1, 2 W - 1)."""
        side = 2 * self.size - 1
        table = self.relative_position_bias_table[: side**2].t().unflatten(1, (side, side))
        if grid == (self.size, self.size):
            return table
        return F.interpolate(table[None], size=(2 * grid[0] - 1, 2 * grid[1] - 1), mode="bicubic")[0]


def _attend_from_patches(
    q: Tensor, k: Tensor, v: Tensor, terms: list[Tensor], grid: tuple[int, int], scale: float, dropout: float
) -> Tensor:
    """Attend for the queries of all patches; keys and values are in reverse order.

    terms: the table (h, 2 H - 1, 2 W - 1), and if there are more keys than patches what is added for each, (h, T)
    """
    if serves(q, dropout):
        bias = SlidingTable if len(terms) == 1 else SlidingTableAndTokens
        return attend_blockwise(q, k, v, scale, grid, bias, *terms)
    (maps, heads, queries, _), keys, on_gpu = q.shape, k.shape[2], _on_gpu(q)
    rows = max(1, _MOST_SCORES["cuda" if on_gpu else "cpu"] // (maps * heads * keys * grid[1]))
    keeps_bias = on_gpu and heads * queries * keys <= _MOST_KEPT
    attend = _attend_rows if keeps_bias else partial(checkpoint, _attend_rows, use_reentrant=False)
    parts = [
        attend(part, k, v, terms, row, grid, scale, dropout)
        for part, row in zip(q.split(rows * grid[1], 2), range(0, grid[0], rows), strict=True)
    ]
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _attend_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    terms: list[Tensor],
    first: int,
    grid: tuple[int, int],
    scale: float,
    dropout: float,
) -> Tensor:
    """Attend for the queries of whole rows from `first` on; the rest as `_attend_from_patches` has it."""
    (height, width), table = grid, terms[0]
    rows = q.shape[2] // width
    slices = table[:, first : first + rows + height - 1].unfold(1, height, 1).unfold(2, width, 1)
    bias_hqN = slices.reshape(len(table), rows * width, height * width)
    for others_hT in terms[1:]:
        bias_hqN = torch.cat([bias_hqN, others_hT[:, None].expand(-1, rows * width, -1)], 2)
    bias = bias_hqN[None].to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)


def _on_gpu(q: Tensor) -> bool:
    return q.device.type == "cuda"


def interpolated_bias(source: Any, size: int, tokens: bool = False) -> TableBias:
    """Return BEiT's table of biases, of attention or shared, for a window or map of another size.

    Distances are spaced geometrically, as in BEiT's own fine-tuning. The last three entries, which concern the class
    token, are left out unless there are `tokens` as in `TableBias`.
    """
    table = source.relative_position_bias_table
    bias = TableBias(size, table.shape[1], tokens)
    shape = ((2 * size - 1) ** 2 + _OF_TOKENS, table.shape[1])
    resized = resize_rel_pos_bias_table(table.detach(), (size, size), shape, source.window_size)
    kept = resized[: len(bias.relative_position_bias_table)].clone()
    bias.relative_position_bias_table = nn.Parameter(kept, requires_grad=table.requires_grad)
    return bias
