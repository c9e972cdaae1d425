"""A ViT's own attention, run over a map and within windows of it.   B images, H × W patches, N tokens, C channels"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.models.beit import Attention as BeitAttention
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor, nn

from backbones.linear import linear

SUPPORTED = (Attention, BeitAttention)

# (queries, keys, values, rows and columns of the map, scale, dropout) -> attended values; see `relative_position`. What
# there is more of than the map has patches are tokens before them.
Attend = Callable[[Tensor, Tensor, Tensor, tuple[int, int], float, float], Tensor]


class SpatialAttention(nn.Module):
    """Takes the place of a block's attention, whose layers it uses, so that the block runs on maps: (B, H, W, C).

    Without windows it runs on tokens as well, (B, N, C): a class token and whatever else comes before the patches, then
    the patches of a map, row by row. A block hands on nothing but the tokens: the map's size has to stand in `grid`.

    attention: one of SUPPORTED
    window:    side of the windows, which tile the map from the top left; None lets all tokens attend to each other.
               Where a window reaches over the edge, zeros fill it and take part (as in ViTDet's code)
    attend:    the relative positions, of this block alone if they are a module; None for none
    grid:      rows and columns of the patches to expect after tokens
    """

    def __init__(
        self, attention: nn.Module, window: int | None, attend: Attend | None, grid: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.attention: Any = attention
        self.window = window
        self.attend = attend or attend_plainly
        self.grid = grid

    def forward(self, x: Tensor, **masks: object) -> Tensor:
        """Attend, ignoring what else the block hands on (masks of token sequences)."""
        if x.ndim == 3:
            return self._project(self._mix_tokens(x, self.grid), x)
        if self.window is None:
            return self._project(self._mix(x), x)
        return self._project(self._mix_within_windows(x, self.window), x)

    def _mix_within_windows(self, x_BHWC: Tensor, window: int) -> Tensor:
        _, height, width, _ = x_BHWC.shape
        below, beside = -height % window, -width % window
        padded = F.pad(x_BHWC, (0, 0, 0, beside, 0, below)) if below or beside else x_BHWC
        windows = window_partition(padded, (window, window))
        mixed = window_reverse(self._mix(windows), (window, window), height + below, width + beside)
        return mixed[:, :height, :width]

    def _mix(self, x_BHWC: Tensor) -> Tensor:
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        return self._mix_tokens(x_BHWC.flatten(1, 2), grid).unflatten(1, grid)

    def _mix_tokens(self, x_BNC: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend, without the projection that follows."""
        attention = self.attention
        qkv = self._qkv(x_BNC).unflatten(2, (3, attention.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if isinstance(attention, Attention):
            q, k = attention.q_norm(q), attention.k_norm(k)
        dropout = attention.attn_drop.p if self.training else 0.0
        attended = self.attend(q, k, v, grid, attention.scale, dropout)
        return attended.transpose(1, 2).flatten(2)

    def _qkv(self, x_BNC: Tensor) -> Tensor:
        attention = self.attention
        if getattr(attention, "q_bias", None) is not None:  # BEiT's; its keys have none
            bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
            return linear(x_BNC, attention.qkv.weight, bias)
        return attention.qkv(x_BNC)

    def _project(self, mixed: Tensor, x: Tensor) -> Tensor:
        attention = self.attention
        if isinstance(attention, Attention):
            mixed = attention.norm(mixed)
            if attention.gate is not None:
                mixed = mixed * attention.gate(x).sigmoid()
        return attention.proj_drop(attention.proj(mixed))


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float, dropout: float) -> Tensor:
    """Attention without relative positions, in the form of those with them."""
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
