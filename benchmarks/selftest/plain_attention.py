"""Attention with relative positions as the papers write it: every pair of a query and a key, one head after the other.

Written for the self-test alone, which holds the models' own attention against it, so nothing here is shared with them.

B maps or windows, N = H × W patches, T tokens before them, C channels, D channels a head.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Weights = Mapping[str, Tensor]
"""`qkv.weight`, `qkv.bias`, `proj.weight`, `proj.bias`; and either `table`, an entry for each row and column distance
(and three more for tokens) and head, or `rows` and `columns`, a vector for each distance."""


def plain_attention(x: Tensor, weights: Weights, heads: int, window: int | None, grid: tuple[int, int]) -> Tensor:
    """Attention over maps (B, H, W, C), within windows if there are some, or over tokens and patches (B, T + N, C)."""
    if x.ndim == 3:
        return _attended(x, weights, heads, grid)
    if window is None:
        return _attended(x.flatten(1, 2), weights, heads, grid).unflatten(1, grid)
    height, width = grid
    padded = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    mixed = torch.empty_like(padded)
    for top in range(0, padded.shape[1], window):
        for left in range(0, padded.shape[2], window):
            place = (slice(None), slice(top, top + window), slice(left, left + window))
            tokens = padded[place].flatten(1, 2)
            mixed[place] = _attended(tokens, weights, heads, (window, window)).unflatten(1, (window, window))
    return mixed[:, :height, :width]


def _attended(x_BNC: Tensor, weights: Weights, heads: int, grid: tuple[int, int]) -> Tensor:
    qkv = F.linear(x_BNC, weights["qkv.weight"], weights["qkv.bias"])
    queries, keys, values = (part.unflatten(2, (heads, -1)) for part in qkv.chunk(3, dim=2))
    of_heads = [
        checkpoint(_head, queries[:, :, h], keys[:, :, h], values[:, :, h], weights, h, grid, use_reentrant=False)
        for h in range(heads)
    ]
    return F.linear(torch.cat(of_heads, dim=2), weights["proj.weight"], weights["proj.bias"])


def _head(q_BND: Tensor, k_BND: Tensor, v_BND: Tensor, weights: Weights, head: int, grid: tuple[int, int]) -> Tensor:
    scores = q_BND @ k_BND.mT / q_BND.shape[2] ** 0.5
    if "table" in weights:
        tokens = q_BND.shape[1] - grid[0] * grid[1]
        scores = scores + _table_bias(weights["table"][:, head], tokens, grid)
    elif "rows" in weights:
        scores = scores + _decomposed_bias(q_BND, weights["rows"], weights["columns"], grid)
    return scores.softmax(dim=2) @ v_BND


def _distances(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """How many rows and columns each query lies beyond each key, from 0 on: (N, N) each."""
    height, width = grid
    row = torch.arange(height, device=device).repeat_interleave(width)
    column = torch.arange(width, device=device).repeat(height)
    return row[:, None] - row + height - 1, column[:, None] - column + width - 1


def _table_bias(table: Tensor, tokens: int, grid: tuple[int, int]) -> Tensor:
    """One head's bias of all pairs, (T + N, T + N); the table is made for this grid (Swin, equation 4; BEiT)."""
    rows, columns = _distances(grid, table.device)
    bias = table[rows * (2 * grid[1] - 1) + columns]
    if not tokens:
        return bias
    to_patches, to_tokens, among_tokens = table[-3:]
    above = torch.cat([among_tokens.expand(tokens, tokens), to_patches.expand(tokens, len(bias))], dim=1)
    return torch.cat([above, torch.cat([to_tokens.expand(len(bias), tokens), bias], dim=1)])


def _decomposed_bias(q_BND: Tensor, rows: Tensor, columns: Tensor, grid: tuple[int, int]) -> Tensor:
    """The products of each query with the vectors of its distances to each key (MViTv2, equation 4), (B, N, N)."""
    far = _distances(grid, q_BND.device)
    return sum(  # type: ignore[return-value]
        (q_BND @ vectors.T).gather(2, distance.expand(len(q_BND), -1, -1))
        for vectors, distance in zip((rows, columns), far, strict=True)
    )
