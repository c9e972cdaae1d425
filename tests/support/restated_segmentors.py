"""BEiT's segmentation code and implus/mae_segmentation's, restated: their names, plain arithmetic.

Sources of the facts: microsoft/unilm, beit/semantic_segmentation/backbone/beit.py; implus/mae_segmentation,
backbone/mae.py. The heads are mmsegmentation's, as they are there.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import FCNHead, UPerHead
from torch import Tensor, nn

from tests.support.mmseg_files import CHANNELS, DEPTH, HEADS, WIDTH

IMAGENET_BYTES = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass(frozen=True)
class Variant:
    """The options of the two backbones, by what they do; the defaults are mae_segmentation's."""

    key_bias: bool = True
    positions: bool = True
    tables: bool = True
    shared_table: bool = False
    layer_scale: bool = True
    patch: int = 16
    auxiliary: bool = True

    @property
    def side(self) -> int:
        return 4 * self.patch


class _Attention(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=variant.key_bias)
        if not variant.key_bias:
            self.q_bias, self.v_bias = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)
        if variant.tables:
            _Table.add_to(self)

    def forward(self, x_BNC: Tensor, shared: Tensor | None) -> Tensor:
        queries, keys, values = self.qkv(x_BNC).chunk(3, dim=2)
        if self.qkv.bias is None:
            queries, values = queries + self.q_bias, values + self.v_bias
        q, k, v = (each.unflatten(2, (HEADS, -1)).transpose(1, 2) for each in (queries, keys, values))
        scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        if hasattr(self, "relative_position_index"):
            scores = scores + _looked_up(self)
        if shared is not None:
            scores = scores + shared
        return self.proj((scores.softmax(3) @ v).transpose(1, 2).flatten(2))


class _Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_to(self)

    @staticmethod
    def add_to(module: nn.Module) -> None:
        grid = 4
        entries = (2 * grid - 1) ** 2 + 3
        module.relative_position_bias_table = nn.Parameter(torch.zeros(entries, HEADS))
        index = torch.empty(grid**2 + 1, grid**2 + 1, dtype=torch.long)
        for query in range(grid**2):
            for key in range(grid**2):
                down, right = query // grid - key // grid, query % grid - key % grid
                index[1 + query, 1 + key] = (down + grid - 1) * (2 * grid - 1) + right + grid - 1
        index[0, :], index[:, 0], index[0, 0] = entries - 3, entries - 2, entries - 1
        module.register_buffer("relative_position_index", index)


def _looked_up(module: Any) -> Tensor:
    biases: Tensor = module.relative_position_bias_table[module.relative_position_index]
    return biases.permute(2, 0, 1)


class _Block(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = _Attention(variant)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)})
        self.scaled = variant.layer_scale
        if self.scaled:
            self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(WIDTH))

    def forward(self, x_BNC: Tensor, shared: Tensor | None) -> Tensor:
        first, second = (self.gamma_1, self.gamma_2) if self.scaled else (1, 1)
        x_BNC = x_BNC + first * self.attn(self.norm1(x_BNC), shared)
        return x_BNC + second * self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x_BNC))))


class _Backbone(nn.Module):
    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        if variant.positions:
            self.pos_embed = nn.Parameter(torch.zeros(1, 17, WIDTH))
        if variant.shared_table:
            self.rel_pos_bias = _Table()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, variant.patch, variant.patch)})
        self.blocks = nn.ModuleList(_Block(variant) for _ in range(DEPTH))

        def up() -> nn.Module:
            return nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2)

        doubled = nn.Sequential(up())
        if variant.patch == 16:
            self.fpn1 = nn.Sequential(up(), nn.SyncBatchNorm(WIDTH), nn.GELU(), up())
            self.fpn2, self.fpn3, self.fpn4 = doubled, nn.Identity(), nn.MaxPool2d(2)
        else:
            self.fpn1, self.fpn2 = doubled, nn.Identity()
            self.fpn3, self.fpn4 = nn.MaxPool2d(2), nn.MaxPool2d(4)

    def forward(self, images: Tensor) -> list[Tensor]:
        patches = self.patch_embed["proj"](images)
        x_BNC = torch.cat([self.cls_token.repeat(len(images), 1, 1), patches.flatten(2).transpose(1, 2)], 1)
        x_BNC = x_BNC + (self.pos_embed if hasattr(self, "pos_embed") else 0)
        shared = _looked_up(self.rel_pos_bias) if hasattr(self, "rel_pos_bias") else None
        maps = []
        for block in self.blocks:
            x_BNC = block(x_BNC, shared)
            maps.append(x_BNC[:, 1:].transpose(1, 2).reshape(patches.shape))
        return [fpn(one) for fpn, one in zip((self.fpn1, self.fpn2, self.fpn3, self.fpn4), maps, strict=True)]


class RestatedSegmentor(nn.Module):
    """The whole, in evaluation mode."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        self.variant, self.classes = variant, classes
        shared: dict[str, Any] = {"num_classes": classes, "norm_cfg": {"type": "SyncBN"}, "align_corners": False}
        self.backbone = _Backbone(variant)
        self.decode_head = UPerHead(
            in_channels=[WIDTH] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6), channels=CHANNELS, **shared
        )
        if variant.auxiliary:
            self.auxiliary_head = FCNHead(
                in_channels=WIDTH, in_index=2, channels=8, num_convs=1, concat_input=False, **shared
            )
        self.eval()

    def slide(self, image: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
        """Logits (1, K, H, W) of `size` from bytes (1, 3, h, w): means over windows, the last of which end at an edge.

        mmsegmentation 0.11, models/segmentors/encoder_decoder.py, `slide_inference`.
        """
        mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET_BYTES)
        pixels, side = (image - mean) / std, self.variant.side
        total, times = torch.zeros(1, self.classes, *image.shape[2:]), torch.zeros(image.shape[2:])
        for top in _starts(image.shape[2], side, stride):
            for left in _starts(image.shape[3], side, stride):
                window = (..., slice(top, top + side), slice(left, left + side))
                logits = self.decode_head(self.backbone(pixels[window]))
                total[window] += F.interpolate(logits, (side, side), mode="bilinear")
                times[window] += 1
        return F.interpolate(total / times, size, mode="bilinear")


def _starts(length: int, side: int, stride: int) -> list[int]:
    steps = math.ceil(max(length - side, 0) / stride)
    return [min(step * stride, length - side) for step in range(steps + 1)]
