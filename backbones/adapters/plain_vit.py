"""A plain ViT as the trunk of a feature pyramid: its blocks on whole maps, or most of them within windows.

B images, H × W patches, C channels
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import LayerScale, PatchEmbed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from backbones.adapters.attention import SUPPORTED, Attend, SpatialAttention
from backbones.adapters.relative_position import DecomposedPositions, TableBias, interpolated_bias
from backbones.errors import InputError
from backbones.linear import replace_linear_layers
from backbones.weights.patches import FILTERS, PatchResampling, pyramid_side, resample_filters

Positions = Literal["decomposed", "tables", "shared tables"]
_MAPS = 4


def foreign_part(backbone: nn.Module) -> str | None:
    """Say what keeps a model from being a plain ViT that can be confined to windows; None if it is one."""
    blocks = list(getattr(backbone, "blocks", []))
    if not blocks or not all(hasattr(block, "attn") for block in blocks):
        return "it has no blocks with attention"
    foreign = next((type(block.attn) for block in blocks if type(block.attn) not in SUPPORTED), None)
    if foreign is not None:
        return f"its attention is {foreign.__module__}.{foreign.__qualname__}"
    embedding = type(getattr(backbone, "patch_embed", None))
    return (
        None if embedding is PatchEmbed else f"its patch embedding is {embedding.__module__}.{embedding.__qualname__}"
    )


class PlainTrunk(nn.Module):
    """The patch embedding and the blocks of a plain ViT, without class token, final norm and patch dropout.

    With windows, the blocks fall into four quarters: the last of each attends to the whole map, the others within
    windows (Li et al. 2021, section 2; ViTDet, section 3). Without, all attend to the whole map. Position embeddings
    are interpolated to each image's patches.

    backbone:                 a plain ViT (no `foreign_part`), whose parts are taken over: do not use it afterwards
    image_size:               side in pixels of the images that global relative positions are made for; others have them
                              interpolated
    window:                   side of the windows in patches. If it covers such an image, or is None, all blocks are
                              global
    positions:                zero-initialised relative positions to add to blocks without some of their own:
                              "decomposed", two tables a block; "tables", a bias table a block; "shared tables", one
                              bias table for all windowed blocks and one for all global ones; None
    taps:                     the four blocks whose outputs become maps, from 0, ascending, the last block among them;
                              None for the last of each quarter
    layer_scale:              initial value of the layer scale to add to blocks without; None to add none
    patch_resampling:         how the filters of patches whose side is no power of two come to the next larger one: 14
                              becomes 16, as in ViTDet's ViT-H. The backbone's `load_report` tells of it
    activation_checkpointing: keep only the blocks' inputs for the backward pass

    Raises InputError if the taps are no such blocks, if windows or maps need quarters and the number of blocks is no
    multiple of four, if a block has no place for layer scale, or if the patches are not square.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        image_size: int,
        window: int | None,
        positions: Positions | None,
        taps: Sequence[int] | None,
        layer_scale: float | None,
        patch_resampling: PatchResampling,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        depth = len(backbone.blocks)
        self.taps = _ends_of_quarters(depth) if taps is None else _checked_taps(taps, depth)
        self.global_blocks = range(depth) if window is None else _ends_of_quarters(depth)
        self.layer_matcher = backbone.group_matcher()
        self.activation_checkpointing = activation_checkpointing
        self.pos_embed = _patch_positions(backbone)
        self.patch_embed = _with_power_of_two(backbone, patch_resampling)
        self.pos_drop = getattr(backbone, "pos_drop", nn.Identity())
        self.norm_pre = getattr(backbone, "norm_pre", nn.Identity())
        self.blocks = nn.ModuleList(backbone.blocks)
        self.stride: int = self.patch_embed.patch_size[0]
        self.width: int = self.patch_embed.proj.out_channels
        shared_bias = getattr(backbone, "rel_pos_bias", None)
        replace_linear_layers(self.blocks)
        if layer_scale is not None:
            for block in self.blocks:
                _add_layer_scale(block, self.width, layer_scale)
        self._attend_over_maps(-(-image_size // self.stride), window, positions, shared_bias)

    fixed_size = None

    @property
    def layered(self) -> nn.Module:
        """The module that `layer_matcher` knows the parameters of."""
        return self

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Return the map after each tap, (B, C, rows, columns) of patches.

        Images are padded with zeros on the right and at the bottom to whole patches.
        """
        x_BHWC = self._embed(images_B3HW)
        maps = []
        for index, block in enumerate(self.blocks):
            run = partial(checkpoint, block, use_reentrant=False) if self.activation_checkpointing else block
            x_BHWC = run(x_BHWC)
            if index in self.taps:
                maps.append(x_BHWC.permute(0, 3, 1, 2))
        return maps

    def _embed(self, images_B3HW: Tensor) -> Tensor:
        below, beside = (-side % self.stride for side in images_B3HW.shape[2:])
        x_BCHW = self.patch_embed.proj(F.pad(images_B3HW, (0, beside, 0, below)))
        # All that follows takes over this layout, and would copy another one at every step.
        x_BHWC = self.patch_embed.norm(x_BCHW.permute(0, 2, 3, 1).contiguous())
        if self.pos_embed is not None:
            x_BHWC = x_BHWC + _resized(self.pos_embed, x_BHWC.shape[1:3])
        return self.norm_pre(self.pos_drop(x_BHWC))

    def _attend_over_maps(
        self, grid: int, window: int | None, positions: Positions | None, shared_bias: nn.Module | None
    ) -> None:
        """Let the blocks attend over maps, to all of one or within windows, and put relative positions into it."""
        first: Any = self.blocks[0].attn
        window_side = min(window or grid, grid)
        if positions == "shared tables" and not _has_own_bias(first, shared_bias):
            self.global_positions = TableBias(grid, first.num_heads)
            if len(self.global_blocks) < len(self.blocks):
                self.windowed_positions = TableBias(window_side, first.num_heads)
        for index, block in enumerate(self.blocks):
            attention: Any = block.attn
            is_global = index in self.global_blocks
            side = grid if is_global else window_side
            attend: Attend | None = None
            if _has_own_bias(attention, shared_bias):
                attend = interpolated_bias(shared_bias or attention, side)
                attention.relative_position_bias_table = attention.relative_position_index = None
            elif positions == "decomposed":
                attend = DecomposedPositions(side, attention.qkv.out_features // (3 * attention.num_heads))
            elif positions == "tables":
                attend = TableBias(side, attention.num_heads)
            elif positions == "shared tables":  # bound methods, so that the tables are the trunk's, not the blocks'
                attend = (self.global_positions if is_global else self.windowed_positions).forward
            block.attn = SpatialAttention(attention, window if side < grid else None, attend)


def _ends_of_quarters(depth: int) -> tuple[int, ...]:
    if depth % _MAPS:
        raise InputError(
            f"a ViT of {depth} blocks: windows and maps go by four quarters of them, so their number must be a "
            'multiple of 4. Without windows it may be any if key "model.taps" names the four blocks to take maps from.'
        )
    return tuple(depth * quarter // _MAPS - 1 for quarter in range(1, _MAPS + 1))


def _checked_taps(taps: Sequence[int], depth: int) -> tuple[int, ...]:
    if len(taps) != _MAPS or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] != depth - 1:
        raise InputError(
            f'key "model.taps": {list(taps)}: expected the numbers of {_MAPS} blocks, counted from 0 and ascending, '
            f"the last of them {depth - 1}, for this ViT has {depth} blocks. Adapt them to it, or take the ends of its "
            "quarters with --set model.taps=null"
        )
    return tuple(taps)


def _add_layer_scale(block: Any, width: int, value: float) -> None:
    """Give a block layer scale, where timm has it; a block that has some keeps its own."""
    if hasattr(block, "ls1"):
        for name in ("ls1", "ls2"):
            if isinstance(getattr(block, name), nn.Identity):
                setattr(block, name, LayerScale(width, value))
    elif hasattr(block, "gamma_1"):  # BEiT's
        if block.gamma_1 is None:
            block.gamma_1, block.gamma_2 = (nn.Parameter(torch.full((width,), value)) for _ in range(2))
    else:
        raise InputError(
            f'key "model.layer_scale": {type(block).__name__} has no place for layer scale. Use '
            "--set model.layer_scale=null"
        )


def _has_own_bias(attention: nn.Module, shared_bias: nn.Module | None) -> bool:
    return shared_bias is not None or getattr(attention, "relative_position_bias_table", None) is not None


def _patch_positions(backbone: Any) -> nn.Parameter | None:
    """Take the patches' part of the position embeddings, (1, H, W, C); class and register tokens come before it."""
    position = getattr(backbone, "pos_embed", None)
    if position is None:
        return None
    grid = backbone.patch_embed.grid_size
    patches = position.detach()[:, position.shape[1] - grid[0] * grid[1] :].unflatten(1, grid).clone()
    return nn.Parameter(patches, requires_grad=position.requires_grad)


def _with_power_of_two(backbone: Any, resampling: PatchResampling) -> PatchEmbed:
    """The patch embedding, its filters resampled if the side of its patches is no power of two."""
    patch_embed: PatchEmbed = backbone.patch_embed
    height, width = patch_embed.patch_size
    if height != width:
        raise InputError(f"patches of {height} × {width}: a pyramid needs square ones.")
    if (side := pyramid_side(height)) != height:
        resample_filters(patch_embed, side, resampling)
        if report := getattr(backbone, "load_report", None):
            done = f"{height}×{height} → {side}×{side} pixels, {resampling}"
            report.converted[FILTERS] = ", ".join(filter(None, (report.converted.get(FILTERS), done)))
    return patch_embed


def _resized(position_1HWC: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate as the fine-tuning codes of MAE, BEiT and ViTDet do: bicubic without antialiasing."""
    if position_1HWC.shape[1:3] == size:
        return position_1HWC
    position = F.interpolate(position_1HWC.permute(0, 3, 1, 2), size=size, mode="bicubic")
    return position.permute(0, 2, 3, 1)
