"""A plain ViT as the trunk of a feature pyramid: its blocks on whole maps, or most of them within windows.

B images, H × W patches, T tokens before them, C channels
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
from backbones.adapters.position_embeddings import (
    PositionEmbeddings,
    has_registers,
    position_parameter,
    resized,
)
from backbones.adapters.relative_position import DecomposedPositions, TableBias, interpolated_bias
from backbones.contract import changed_by_others
from backbones.errors import InputError
from backbones.images.sizes import in_words
from backbones.linear import replace_linear_layers
from backbones.weights.patches import FILTERS, PatchResampling, pyramid_side, resample_filters

Positions = Literal["decomposed", "tables", "shared tables"]
_MAPS = 4
_TOKENS = ("cls_token", "dist_token", "reg_token")  # of timm's ViTs, in the order in which they precede the patches


def foreign_part(backbone: nn.Module) -> str | None:
    """Say what keeps a model from being a plain ViT that can be confined to windows; None if it is one."""
    if changed := changed_by_others(backbone):
        return f"it has its own {changed}"
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
    """The patch embedding and the blocks of a plain ViT, without final norm and patch dropout.

    With windows, the blocks fall into four quarters: the last of each attends to the whole map, the others within
    windows (Li et al. 2021, section 2; ViTDet, section 3). Without, all attend to the whole map. Position embeddings
    are interpolated to each image's patches if those are of another number.

    backbone:                 a plain ViT (no `foreign_part`), whose parts are taken over: do not use it afterwards
    image_size:               side in pixels of the images that global relative positions, and position embeddings other
                              than those that were loaded, are made for; others have them interpolated
    window:                   side of the windows in patches. If it covers such an image, or is None, all blocks are
                              global
    tokens:                   keep what the backbone has before its patches, class token and registers, through all
                              blocks; without windows only
    position_embeddings:      see `position_parameter`
    positions:                zero-initialised relative positions to add to blocks without some of their own:
                              "decomposed", two tables a block; "tables", a bias table a block; "shared tables", one
                              bias table for all windowed blocks and one for all global ones; None
    taps:                     the four blocks whose outputs become maps, from 0, ascending, the last block among them;
                              None for the last of each quarter
    last:                     make maps of so many last blocks alone, whatever the taps; None for the taps
    layer_scale:              initial value of the layer scale to add to blocks without; None to add none
    patch_resampling:         how the filters of patches whose side is no power of two come to the next larger one: 14
                              becomes 16, as in ViTDet's ViT-H. The backbone's `load_report` tells of it. None for
                              patches as they are
    activation_checkpointing: keep only the blocks' inputs for the backward pass

    Raises InputError if the taps are no such blocks, if there are fewer than `last`, if windows or maps need quarters
    and the number of blocks is no multiple of four, if a block has no place for layer scale, or if the patches are not
    square.
    """

    def __init__(
        self,
        backbone: Any,
        *,
        image_size: int,
        window: int | None,
        tokens: bool,
        position_embeddings: PositionEmbeddings,
        positions: Positions | None,
        taps: Sequence[int] | None,
        last: int | None,
        layer_scale: float | None,
        patch_resampling: PatchResampling | None,
        activation_checkpointing: bool,
    ) -> None:
        super().__init__()
        depth = len(backbone.blocks)
        if last is not None:
            self.taps = _last(last, depth)
        else:
            self.taps = _ends_of_quarters(depth) if taps is None else _checked_taps(taps, depth)
        self.global_blocks = range(depth) if window is None else _ends_of_quarters(depth)
        self.layer_matcher = backbone.group_matcher()
        self.activation_checkpointing = activation_checkpointing
        pretrained_grid: tuple[int, int] = backbone.patch_embed.grid_size
        self.patch_embed = _with_power_of_two(backbone, patch_resampling)
        self.pos_drop = getattr(backbone, "pos_drop", nn.Identity())
        self.norm_pre = getattr(backbone, "norm_pre", nn.Identity())
        self.blocks = nn.ModuleList(backbone.blocks)
        self.stride: int = self.patch_embed.patch_size[0]
        self.width: int = self.patch_embed.proj.out_channels
        grid = -(-image_size // self.stride)
        for name in _TOKENS if tokens else ():
            setattr(self, name, getattr(backbone, name, None))
        self.has_tokens = any(getattr(self, name, None) is not None for name in _TOKENS)
        self.pos_embed = position_parameter(backbone, pretrained_grid, grid, position_embeddings, self.has_tokens)
        self.antialias = has_registers(backbone)
        self.position_grid = pretrained_grid if position_embeddings == "loaded" else (grid, grid)
        shared_bias = getattr(backbone, "rel_pos_bias", None)
        replace_linear_layers(self.blocks)
        if layer_scale is not None:
            for block in self.blocks:
                _add_layer_scale(block, self.width, layer_scale)
        self._attend_over_maps(grid, window, positions, shared_bias)

    fixed_size = None

    @property
    def layered(self) -> nn.Module:
        """The module that `layer_matcher` knows the parameters of."""
        return self

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Return the map after each tap, (B, C, rows, columns) of patches.

        Images are padded with zeros on the right and at the bottom to whole patches.
        """
        x_BHWC = self._embed_patches(images_B3HW)
        grid = (x_BHWC.shape[1], x_BHWC.shape[2])
        x = self._with_tokens(x_BHWC.flatten(1, 2), grid) if self.has_tokens else self._with_positions(x_BHWC)
        x = self.norm_pre(self.pos_drop(x))
        maps = []
        for index, block in enumerate(self.blocks):
            run = partial(checkpoint, _run, use_reentrant=False) if self.activation_checkpointing else _run
            x = run(block, x, grid)
            if index in self.taps:
                map_BHWC = x[:, -grid[0] * grid[1] :].unflatten(1, grid) if self.has_tokens else x
                maps.append(map_BHWC.permute(0, 3, 1, 2))
        return maps

    def _embed_patches(self, images_B3HW: Tensor) -> Tensor:
        below, beside = (-side % self.stride for side in images_B3HW.shape[2:])
        x_BCHW = self.patch_embed.proj(F.pad(images_B3HW, (0, beside, 0, below)))
        # All that follows takes over this layout, and would copy another one at every step.
        embedded: Tensor = self.patch_embed.norm(x_BCHW.permute(0, 2, 3, 1).contiguous())
        return embedded

    def _with_positions(self, x_BHWC: Tensor) -> Tensor:
        if self.pos_embed is None:
            return x_BHWC
        return x_BHWC + resized(self.pos_embed, (x_BHWC.shape[1], x_BHWC.shape[2]), self.antialias)

    def _with_tokens(self, x_BNC: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put the tokens before the patches and add position embeddings, (B, T + H × W, C)."""
        tokens = [getattr(self, name).expand(len(x_BNC), -1, -1) for name in _TOKENS if getattr(self, name) is not None]
        x_BNC = torch.cat([*tokens, x_BNC], 1)
        if self.pos_embed is None:
            return x_BNC
        own = self.position_grid[0] * self.position_grid[1]
        of_tokens, of_patches = self.pos_embed.tensor_split((self.pos_embed.shape[1] - own,), 1)
        of_patches = resized(of_patches.unflatten(1, self.position_grid), grid, self.antialias).flatten(1, 2)
        without = x_BNC.shape[1] - of_tokens.shape[1] - of_patches.shape[1]  # tokens that have no position embeddings
        return x_BNC + F.pad(torch.cat([of_tokens, of_patches], 1), (0, 0, without, 0))

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
                attend = interpolated_bias(shared_bias or attention, side, self.has_tokens)
                attention.relative_position_bias_table = attention.relative_position_index = None
            elif positions == "decomposed":
                attend = DecomposedPositions(side, attention.qkv.out_features // (3 * attention.num_heads))
            elif positions == "tables":
                attend = TableBias(side, attention.num_heads, self.has_tokens)
            elif positions == "shared tables":  # bound methods, so that the tables are the trunk's, not the blocks'
                attend = (self.global_positions if is_global else self.windowed_positions).forward
            block.attn = SpatialAttention(attention, window if side < grid else None, attend, (grid, grid))


def _run(block: Any, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Run a block on maps, or on tokens with patches of that grid.

    Here, so that the backward pass of activation checkpointing does it again.
    """
    if x.ndim == 3:
        block.attn.grid = grid
    output: Tensor = block(x)
    return output


def _ends_of_quarters(depth: int) -> tuple[int, ...]:
    if depth % _MAPS:
        raise InputError(
            f"a ViT of {depth} blocks: windows and the maps of `fpn` and `beit` go by four quarters of them, so their "
            "number must be a multiple of 4. It may be any with --set model.adapter=simple --set model.window=null, "
            "and in segmentation where model.taps names the four blocks to take maps from."
        )
    return tuple(depth * quarter // _MAPS - 1 for quarter in range(1, _MAPS + 1))


def _last(count: int, depth: int) -> tuple[int, ...]:
    if count > depth:
        raise InputError(f'key "features.layers": {count}: this ViT has {depth} block(s). Use --set features.layers=1')
    return tuple(range(depth - count, depth))


def _checked_taps(taps: Sequence[int], depth: int) -> tuple[int, ...]:
    if len(taps) != _MAPS or list(taps) != sorted(set(taps)) or taps[0] < 0 or taps[-1] != depth - 1:
        raise InputError(
            f'key "model.taps": {list(taps)}: expected the numbers of {_MAPS} blocks, counted from 0 and ascending, '
            f"the last of them {depth - 1}, for this ViT has {depth} blocks. Adapt them to it"
            f"{'' if depth % _MAPS else ', or take the ends of its quarters with --set model.taps=null'}"
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


def _with_power_of_two(backbone: Any, resampling: PatchResampling | None) -> PatchEmbed:
    """The patch embedding, its filters resampled if that is wanted and the side of its patches is no power of two."""
    patch_embed: PatchEmbed = backbone.patch_embed
    height, width = patch_embed.patch_size
    if height != width:
        raise InputError(f"patches of {in_words(height, width)}: maps need square ones.")
    if resampling is not None and (side := pyramid_side(height)) != height:
        resample_filters(patch_embed, side, resampling)
        if report := getattr(backbone, "load_report", None):
            done = f"{height}×{height} → {side}×{side} pixels, {resampling}"
            report.converted[FILTERS] = ", ".join(filter(None, (report.converted.get(FILTERS), done)))
    return patch_embed
