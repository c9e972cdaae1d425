"""The fixed sin-cos position embeddings of MAE."""

import torch
from torch import Tensor

from backbones.errors import InputError

_TEMPERATURE = 10_000.0  # Vaswani et al. 2017, "Attention is all you need", section 3.5


def _sincos(positions_N: Tensor, width: int) -> Tensor:
    """Sines, then cosines, of each position at width / 2 frequencies: (N,) gives (N, width)."""
    frequencies = _TEMPERATURE ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.outer(positions_N, frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_position_embedding(
    grid: tuple[int, int], width: int, class_token: bool = True, rows_first: bool = False
) -> Tensor:
    """The fixed two-dimensional sin-cos position embedding of the published MAE checkpoints.

    Each of the grid's (rows, columns) patches, row by row, gets `width` numbers: the first half encodes its column,
    the second half its row; with `rows_first` the other way round, as in MIMDet (models/benchmarking.py:601-624, where
    `torch.meshgrid` puts what it calls columns along the first axis). A class token comes first and gets zeros.
    Returns (1, rows × columns [+ 1], width) in single precision.
    Raises InputError if the width is not a multiple of 4.
    """
    if width % 4:
        raise InputError(f"a sin-cos position embedding of width {width}: expected a multiple of 4.")
    rows, columns = grid
    row_L, column_L = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    axes = (row_L, column_L) if rows_first else (column_L, row_L)
    embedding_LD = torch.cat([_sincos(axis_L.flatten(), width // 2) for axis_L in axes], dim=1)
    if class_token:
        embedding_LD = torch.cat([embedding_LD.new_zeros(1, width), embedding_LD])
    return embedding_LD.float().unsqueeze(0)
