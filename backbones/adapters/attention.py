"""A ViT's own attention, run over a map and within windows of it.   B images, H × W tokens, C channels"""

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

# (queries, keys, values, rows and columns of the map, scale, dropout) -> attended values; see `relative_position`
Attend = Callable[[Tensor, Tensor, Tensor, tuple[int, int], float, float], Tensor]


class SpatialAttention(nn.Module):
    """Takes the place of a block's attention, whose layers it uses, so that the block runs on maps: (B, H, W, C).

    attention: one of SUPPORTED
    window:    side of the windows, which tile the map from the top left; None lets all tokens attend to each other.
               Where a window reaches over the edge, zeros fill it and take part (as in ViTDet's code)
    attend:    the relative positions, of this block alone if they are a module; None for none
    """

    def __init__(self, attention: nn.Module, window: int | None, attend: Attend | None) -> None:
        super().__init__()
        self.attention: Any = attention
        self.window = window
        self.attend = attend or attend_plainly

    def forward(self, x_BHWC: Tensor, **masks: object) -> Tensor:
        """Attend, ignoring what else the block hands on (masks of token sequences)."""
        if self.window is None:
            return self._project(self._mix(x_BHWC), x_BHWC)
        _, height, width, _ = x_BHWC.shape
        below, beside = -height % self.window, -width % self.window
        padded = F.pad(x_BHWC, (0, 0, 0, beside, 0, below)) if below or beside else x_BHWC
        windows = window_partition(padded, (self.window, self.window))
        mixed = window_reverse(self._mix(windows), (self.window, self.window), height + below, width + beside)
        return self._project(mixed[:, :height, :width], x_BHWC)

    def _mix(self, x_BHWC: Tensor) -> Tensor:
        """Attend, without the projection that follows."""
        attention = self.attention
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        qkv = self._qkv(x_BHWC.flatten(1, 2)).unflatten(2, (3, attention.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if isinstance(attention, Attention):
            q, k = attention.q_norm(q), attention.k_norm(k)
        dropout = attention.attn_drop.p if self.training else 0.0
        attended = self.attend(q, k, v, grid, attention.scale, dropout)
        return attended.transpose(1, 2).flatten(2).unflatten(1, grid)

    def _qkv(self, x_BNC: Tensor) -> Tensor:
        attention = self.attention
        if getattr(attention, "q_bias", None) is not None:  # BEiT's; its keys have none
            bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
            return linear(x_BNC, attention.qkv.weight, bias)
        return attention.qkv(x_BNC)

    def _project(self, mixed_BHWC: Tensor, x_BHWC: Tensor) -> Tensor:
        attention = self.attention
        if isinstance(attention, Attention):
            mixed_BHWC = attention.norm(mixed_BHWC)
            if attention.gate is not None:
                mixed_BHWC = mixed_BHWC * attention.gate(x_BHWC).sigmoid()
        return attention.proj_drop(attention.proj(mixed_BHWC))


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int], scale: float, dropout: float) -> Tensor:
    """Attention without relative positions, in the form of those with them."""
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
