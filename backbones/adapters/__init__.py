"""Backbones as feature pyramids, for detection and segmentation.

pyramid = build_pyramid(create_backbone("mae_vit_base", FILE), "fpn", image_size=1024, window=16)
maps = pyramid(images)  # four, of strides 4, 8, 16 and 32
"""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from backbones.adapters.hierarchical import HierarchicalTrunk, stage_indices
from backbones.adapters.layer_decay import parameter_groups
from backbones.adapters.plain_vit import PlainTrunk, Positions, foreign_part
from backbones.adapters.pyramids import Pyramid, hierarchical_pyramid, simple_pyramid, tapped_pyramid
from backbones.errors import InputError
from backbones.weights.patches import PatchResampling

__all__ = ["Adapter", "Pyramid", "build_pyramid", "parameter_groups"]

Adapter = Literal["fpn", "simple"]


def build_pyramid(
    backbone: nn.Module,
    adapter: Adapter,
    *,
    image_size: int,
    window: int | None,
    relative_position: bool = True,
    shared_positions: bool = True,
    taps: Sequence[int] | None = None,
    layer_scale: float | None = None,
    channels: int = 256,
    patch_resampling: PatchResampling = "pseudo_inverse",
    activation_checkpointing: bool = False,
) -> Pyramid:
    """Turn a backbone into a feature pyramid; the backbone is taken over and must not be used afterwards.

    adapter:                  "fpn" (Li et al. 2021, the MAE paper's protocol): four blocks of a plain ViT give one map
                              each, as wide as the ViT; hierarchical models (Swin, ConvNeXt, ResNet) give their own
                              maps, and `image_size` and `activation_checkpointing` alone concern them. "simple"
                              (ViTDet): all maps from the last, plain ViTs only
    image_size:               side in pixels of the images to expect; plain ViTs take others as well
    window:                   side in patches of the attention windows of a plain ViT, 16 in `fpn` and 14 in `simple`,
                              to which all blocks but the last of each quarter are confined; None for no windows (BEiT
                              and mae_segmentation on ADE20K)
    relative_position:        add zero-initialised relative positions to a plain ViT: bias tables in `fpn`, decomposed
                              ones in `simple`. A BEiT has its own and keeps them either way
    shared_positions:         of the bias tables of `fpn`, make one for all windowed blocks and one for all global ones
                              (Li et al. 2021, MIMDet) instead of one for each block (BEiT, mae_segmentation)
    taps:                     the four blocks of a plain ViT, from 0, whose outputs `fpn` brings to strides 4, 8, 16 and
                              32: ascending, ending with the last; None for the last block of each quarter
    layer_scale:              initial value of the layer scale to add to a plain ViT that has none, such as 1
                              (mae_segmentation); None to add none
    channels:                 of each map of `simple`
    patch_resampling:         how the patch filters of a plain ViT come to a power of two: "pseudo_inverse" (timm) or
                              "bicubic" (EVA)
    activation_checkpointing: compute the trunk's activations again in the backward pass instead of keeping them

    Raises InputError for a backbone that has no such maps, and for settings that do not fit.
    """
    if adapter not in get_args(Adapter):
        raise InputError(f"adapter {adapter!r}: no such adapter. There are fpn and simple.")
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
        tables: Positions = "shared tables" if shared_positions else "tables"
        positions: Positions = tables if adapter == "fpn" else "decomposed"
        trunk = PlainTrunk(
            backbone,
            image_size=image_size,
            window=window,
            positions=positions if relative_position else None,
            taps=taps,
            layer_scale=layer_scale,
            patch_resampling=patch_resampling,
            activation_checkpointing=activation_checkpointing,
        )
        return tapped_pyramid(trunk) if adapter == "fpn" else simple_pyramid(trunk, channels)
    if stage_indices(backbone) is None:
        raise InputError(
            f"{type(backbone).__name__} has no spatial feature maps that an adapter can use: {foreign}, and its "
            "feature_info lacks the strides 4, 8, 16 and 32. Use timm's VisionTransformer or BEiT with their own "
            "attention, or a hierarchical model such as Swin, ConvNeXt or ResNet."
        )
    if adapter == "simple":
        raise InputError(
            f"{type(backbone).__name__}: the adapter `simple` needs a plain ViT, and this model is a pyramid already. "
            "Use the adapter `fpn`."
        )
    return hierarchical_pyramid(HierarchicalTrunk(backbone, image_size, activation_checkpointing))
