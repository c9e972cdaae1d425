"""The way from the names of others' detectors to those of `Detector`, which has most of them from detectron2 as well.

Each step takes the weights and the detector that they are meant for. What no step explains is an error.
"""

import math
from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.weights.conversion import Weights

_BUFFERS = r"pixel_(?:mean|std)$|proposal_generator\.anchor_generator\.cell_anchors\."
_FIRST_CONVOLUTION = {2: 4, 3: 1, 4: 0, 5: 1}
"""By stage of ViTDet's pyramid, the place of its first convolution to the pyramid's channels."""


def read_detectron2(weights: Weights, network: nn.Module) -> None:
    """ViTDet's `SimpleFeaturePyramid` (detectron2, modeling/backbone/vit.py), whose convolutions hold their norms.

    Raises InputError if there are position embeddings for no square of patches.
    """
    trunk = "backbone.pyramid.trunk."
    _drop_computed(weights)
    weights.rename(r"backbone\.net\.", trunk)
    _rename_attention(weights, trunk)
    for stage, place in _FIRST_CONVOLUTION.items():
        old, new = rf"backbone\.simfp_{stage}\.", f"backbone.pyramid.levels.{stage - 2}."
        for convolution, own in ((place, place), (place + 1, place + 2)):
            weights.rename(rf"{old}{convolution}\.norm\.", f"{new}{own + 1}.")
            weights.rename(rf"{old}{convolution}\.", f"{new}{own}.")
        weights.rename(old, new)
    _place_positions(weights, network, trunk, tokens=1)


def read_mimdet(weights: Weights, network: nn.Module) -> None:
    """MIMDet's pyramid on four quarters of a ViT (models/benchmarking.py, `BenchmarkingViTDet`).

    Raises InputError if there are position embeddings for no square of patches.
    """
    old, trunk = r"backbone\.bottom_up\.", "backbone.bottom_up.pyramid.trunk."
    _drop_computed(weights)
    weights.rename(old + r"ms_adaptor\.1\.", "backbone.bottom_up.pyramid.levels.1.0.")
    weights.rename(old + r"ms_adaptor\.", "backbone.bottom_up.pyramid.levels.")
    weights.rename(old + r"windowed_rel_pos_bias\.", trunk + "windowed_positions.")
    weights.rename(old + r"global_rel_pos_bias\.", trunk + "global_positions.")
    weights.rename(old + r"(blocks\.|patch_embed\.|pos_embed$)", trunk + r"\1")
    _rename_attention(weights, trunk)
    _place_positions(weights, network, trunk, tokens=0)


def require_categories(weights: Weights, network: nn.Module) -> None:
    """Raise InputError unless the head knows as many categories as the network."""
    name = "roi_heads.box_predictor.cls_score.weight"
    found, wanted = weights.tensors.get(name), network.state_dict()[name]
    if found is not None and found.shape[0] != wanted.shape[0]:
        raise InputError(
            f"it finds {found.shape[0] - 1} categories, and the data have {wanted.shape[0] - 1}. Give data of the "
            "categories that it was trained for"
        )


def _drop_computed(weights: Weights) -> None:
    weights.drop(weights.names(_BUFFERS), "a constant of the configuration")
    weights.drop(weights.names(r".*relative_position_index$"), "computed from the image size")


def _rename_attention(weights: Weights, trunk: str) -> None:
    block = "(" + trunk.replace(".", r"\.") + r"blocks\.\d+\.attn\.)"
    weights.rename(block + r"((?:qkv|proj)\.)", r"\1attention.\2")
    weights.rename(block + r"(rel_pos_[hw]$)", r"\1attend.\2")


def _place_positions(weights: Weights, network: Any, trunk: str, tokens: int) -> None:
    """Lay position embeddings out as rows and columns, without those of tokens, which a pyramid has not.

    They are for as many patches as the file's, of which the detector interpolates them to each image's. That is another
    number in ViT-H, of 14 × 14 as if its patches had 16 pixels before (detectron2, mask_rcnn_vitdet.py).
    """
    name = trunk + "pos_embed"
    position, own = weights.tensors.get(name), network.pyramid.trunk.pos_embed
    if position is None or own is None:
        return
    patches = position.shape[1] - tokens if position.ndim == 3 else 0
    side = math.isqrt(max(patches, 0))
    if side == 0 or side * side != patches:
        raise InputError(f"its position embeddings {tuple(position.shape)} are for no square of patches")
    maps = position[:, tokens:].unflatten(1, (side, side))
    if maps.shape[3] == own.shape[3] and maps.shape != own.shape:
        network.pyramid.trunk.pos_embed = nn.Parameter(own.new_empty(maps.shape), requires_grad=own.requires_grad)
    source = weights.sources[name]
    weights.tensors[name] = maps
    weights.sources[name] = source
    weights.converted[name] = f"{side}×{side} rows and columns" + (", without the class token's" if tokens else "")
