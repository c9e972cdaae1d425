"""Backbones as feature pyramids, for detection and segmentation.

pyramid = build_pyramid(create_backbone("mae_vit_base", FILE), "fpn", image_size=1024, window=16)
maps = pyramid(images)  # four, of strides 4, 8, 16 and 32
"""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from backbones.adapters.hierarchical import HierarchicalTrunk, stage_indices
from backbones.adapters.layer_decay import parameter_groups
from backbones.adapters.own_forward import OwnTrunk
from backbones.adapters.plain_vit import PlainTrunk, Positions, foreign_part
from backbones.adapters.pyramids import Norm, Pyramid, hierarchical_pyramid, simple_pyramid, tapped_pyramid
from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.weights.patches import PatchResampling

__all__ = ["Adapter", "Pyramid", "build_pyramid", "parameter_groups"]

Adapter = Literal["fpn", "simple", "beit"]


def build_pyramid(
    backbone: nn.Module,
    adapter: Adapter,
    *,
    image_size: int,
    window: int | None,
    position_embeddings: Literal["loaded", "sincos"] = "loaded",
    relative_position: bool = True,
    shared_positions: bool = True,
    taps: Sequence[int] | None = None,
    layer_scale: float | None = None,
    norm: Norm = nn.BatchNorm2d,
    channels: int = 256,
    patch_resampling: PatchResampling = "pseudo_inverse",
    activation_checkpointing: bool = False,
) -> Pyramid:
    """Turn a backbone into a feature pyramid; the backbone is taken over and must not be used afterwards.

    adapter:                  "fpn" (Li et al. 2021, the MAE paper's protocol): four blocks of a plain ViT give one map
                              each, as wide as the ViT; hierarchical models (Swin, ConvNeXt, ResNet) give their own
                              maps, and `image_size` and `activation_checkpointing` alone concern them. "simple"
                              (ViTDet): all maps from the last of a plain ViT, or from the one that any other backbone's
                              `forward_features` gives, with its own attention over the whole image: then without
                              windows, relative positions and layer scale. "beit" (BEiT's segmentation code, the MAE
                              paper's protocol on ADE20K): as `fpn`, but a plain ViT keeps its class token through
                              all blocks, trains position embeddings that were interpolated once, to `image_size`, and
                              has a batch norm in the finest map's pyramid
    image_size:               side in pixels of the images to expect; plain ViTs take others as well
    window:                   side in patches of the attention windows of a plain ViT, 16 in `fpn` and 14 in `simple`,
                              to which all blocks but the last of each quarter are confined; None for no windows, as
                              it has to be in `beit`
    position_embeddings:      of a plain ViT that has some, "loaded", its own, interpolated to each image's patches
                              (ViTDet) or as `beit` says; or "sincos", new ones for `image_size` (MIMDet)
    relative_position:        add zero-initialised relative positions to a plain ViT: bias tables in `fpn` and `beit`,
                              decomposed ones in `simple`. A BEiT has its own and keeps them either way
    shared_positions:         of the bias tables of `fpn`, make one for all windowed blocks and one for all global ones
                              (Li et al. 2021, MIMDet) instead of one for each block, which `beit` always does
    taps:                     the four blocks of a plain ViT, from 0, whose outputs `fpn` and `beit` bring to strides 4,
                              8, 16 and 32: ascending, ending with the last; None for the last block of each quarter
    layer_scale:              initial value of the layer scale to add to a plain ViT that has none, such as 1
                              (mae_segmentation); None to add none
    norm:                     the norm in the finest map's pyramid of `beit`, for a number of channels
    channels:                 of each map of `simple`
    patch_resampling:         how the patch filters of a plain ViT come to a power of two: "pseudo_inverse" (timm) or
                              "bicubic" (EVA)
    activation_checkpointing: compute the trunk's activations again in the backward pass instead of keeping them

    Raises InputError for a backbone that has no such maps, and for settings that do not fit.
    """
    if adapter not in get_args(Adapter):
        raise InputError(f"adapter {adapter!r}: no such adapter. There are fpn, simple and beit.")
    for name, value in {
        "image size": image_size,
        "window": window,
        "layer scale": layer_scale,
        "channels": channels,
    }.items():
        if value is not None and not value > 0:
            raise InputError(f"{name} {value}: expected a positive number.")
    if (foreign := foreign_part(backbone)) is None:
        if adapter == "simple" and taps is not None:
            raise InputError(
                f'key "model.taps": {list(taps)}: the adapter `simple` makes all maps from the last block. Use '
                "--set model.taps=null, or the adapter `fpn`."
            )
        if adapter == "beit" and window is not None:
            raise InputError(f"window {window}: the adapter `beit` has no windows: its class token sees all.")
        beit = adapter == "beit"
        added: dict[Adapter, Positions] = {
            "fpn": "shared tables" if shared_positions else "tables",
            "simple": "decomposed",
            "beit": "tables",
        }
        trunk = PlainTrunk(
            backbone,
            image_size=image_size,
            window=window,
            tokens=beit,
            position_embeddings="resized" if beit and position_embeddings == "loaded" else position_embeddings,
            positions=added[adapter] if relative_position else None,
            taps=taps,
            last=1 if adapter == "simple" else None,
            layer_scale=layer_scale,
            patch_resampling=patch_resampling,
            activation_checkpointing=activation_checkpointing,
        )
        return simple_pyramid(trunk, channels) if adapter == "simple" else tapped_pyramid(trunk, norm if beit else None)
    if stage_indices(backbone) is not None and callable(getattr(backbone, "forward_intermediates", None)):
        _refuse_simple(backbone, adapter)
        return hierarchical_pyramid(HierarchicalTrunk(backbone, image_size, activation_checkpointing))
    unmet = {
        "adapter=simple": adapter != "simple",
        "window=null": window is not None,
        "relative_position=false": relative_position,
        "taps=null": taps is not None,
        "layer_scale=null": layer_scale is not None,
    }
    needed = " ".join(f"--set model.{setting}" for setting, is_unmet in unmet.items() if is_unmet)
    own = _own_trunk(backbone, foreign, image_size, activation_checkpointing)
    if len(own.widths) > 1:
        _refuse_simple(backbone, adapter)
        return hierarchical_pyramid(own)
    if needed:
        raise InputError(
            f"{type(backbone).__name__} gives one map, of stride {own.stride}, which these settings are not for "
            f"({foreign}). Use {needed}"
        )
    return simple_pyramid(own, channels)


def _own_trunk(backbone: nn.Module, foreign: str, image_size: int, activation_checkpointing: bool) -> OwnTrunk:
    """The trunk of a backbone that is neither a plain ViT nor hierarchical, as `foreign` says."""
    if not isinstance(backbone, Backbone):
        raise InputError(
            f"{type(backbone).__name__} has no spatial feature maps that an adapter can use: {foreign}, and no "
            "forward_features. Use timm's VisionTransformer or BEiT with their own attention, a hierarchical model "
            "such as Swin, ConvNeXt or ResNet, or a module whose forward_features gives a map."
        )
    return OwnTrunk(backbone, image_size, activation_checkpointing)


def _refuse_simple(backbone: nn.Module, adapter: Adapter) -> None:
    if adapter == "simple":
        raise InputError(
            f"{type(backbone).__name__}: the adapter `simple` needs a plain ViT, and this model is a pyramid already. "
            "Use the adapter `fpn`."
        )
