"""Trained segmentors in the files of others: what each is, and how its names become ours.

Known are UPerNets on a plain ViT or a BEiT: those of mmsegmentation (configs/mae, configs/beit), of
implus/mae_segmentation, and of BEiT's code (microsoft/unilm, beit/semantic_segmentation).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.registry import find_backbone
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.openmmlab import stated_classes, stated_configuration
from tasks.segmentation.published_names import (
    LOGITS,
    allow_no_auxiliary_head,
    from_beits_code,
    from_mmsegmentation,
    norms_of,
    require_class_count,
    take_off_wrapper,
)
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.stated import (
    require_as_built,
    stated_epsilon,
    stated_inference,
    stated_normalisation,
    stated_taps,
)
from tasks.trained import PublishedNetwork

_KNOWN = (
    "Known are UPerNets of mmsegmentation on its MAE and BEiT, of implus/mae_segmentation and of BEiT's code "
    "(microsoft/unilm); and the weights.safetensors of a run"
)
_CLASS_TOKEN_ENTRIES = 3  # at the end of a table of relative positions (backbones/adapters/relative_position.py)

_SIZES = {(768, 12, 16): "base", (1024, 24, 16): "large", (1280, 32, 16): "huge", (128, 4, 8): "mini"}
"""Width, depth and patches of the sizes that have a name."""

_PLAIN = {
    "base": "vit_base_patch16_224",
    "large": "vit_large_patch16_224",
    "huge": "vit_huge_patch14_224",
    "mini": "vit_mini_patch8_48",
}
_BEIT = {"base": "beit_base_patch16_224", "large": "beit_large_patch16_224"}

_TAPS = {12: (3, 5, 7, 11), 24: (7, 11, 15, 23)}
"""The blocks whose outputs become maps, by their number: `out_indices` in the configurations of all three code bases
(mmsegmentation's configs/mae and configs/beit; mae_segmentation's configs/mae; beit/semantic_segmentation/configs)."""


@dataclass(frozen=True)
class _Release:
    """A released file, by the first digits of its SHA-256, which its name has; what it was trained from, and scored."""

    sha256_prefix: str
    backbone: str
    pretrain_data: str
    mean_iou: float
    source: str


_RELEASES = (
    _Release("f92a2975", "mae_vit_base", "IN1K", 48.13, "mmsegmentation, configs/mae/metafile.yaml:8"),
    _Release(
        *("eead221d", "beit_vit_base", "IN22K+DALLE, then IN22K w/ labels", 53.08),
        "mmsegmentation, configs/beit/metafile.yaml:8",
    ),
    _Release(
        *("8fc0dd5d", "beit_vit_large", "IN22K+DALLE, then IN22K w/ labels", 56.33),
        "mmsegmentation, configs/beit/metafile.yaml:30",
    ),
)


@dataclass(frozen=True)
class _Facts:
    """What the tensors of a file tell of its network.

    naming: whose names they have
    beit:   whether the trunk is a BEiT, whose keys have no bias; else a plain ViT
    side:   of the images that it was trained on, in pixels
    """

    naming: str
    beit: bool
    width: int
    depth: int
    patch: int
    side: int
    channels: int
    auxiliary_channels: int | None
    layer_scale: bool
    relative_position: bool
    position_embeddings: bool


def recognise(checkpoint: Checkpoint, recipe: SegmentationRecipe, backbone: str | None = None) -> PublishedNetwork:
    """What a file of a whole segmentor is, by the names of its tensors; `backbone` says which model its trunk is.

    Its sizes are read from the tensors. What those do not tell is taken from the configuration beside them, where there
    is one: the taps, the windows, the size of images, the normalisation. A row of the tables it has if it is a file
    that is known by its bytes, or by the name that `backbone` gives it.

    Raises InputError for a file that is none of those that are known here.
    """
    facts = _facts_of(checkpoint)
    released = next((each for each in _RELEASES if checkpoint.sha256.startswith(each.sha256_prefix)), None)
    name = backbone or (released.backbone if released else _backbone_of(facts, checkpoint))
    entry = find_backbone(released.backbone if released else name, with_checkpoint=True)
    is_random = entry.method == "random"
    configuration = stated_configuration(checkpoint.meta)
    try:
        require_as_built(configuration)
        normalisation = stated_normalisation(configuration) or IMAGENET
    except InputError as error:
        raise InputError(f"{checkpoint.name}: its configuration (meta): {error}") from error
    return PublishedNetwork(
        kind=f"a UPerNet on {'BEiT' if facts.beit else 'a plain ViT'}, named as by {facts.naming}",
        backbone=name,
        steps=(
            take_off_wrapper,
            from_mmsegmentation,
            from_beits_code,
            require_class_count,
            allow_no_auxiliary_head,
            *filter(None, [norms_of(stated_epsilon(configuration))]),
        ),
        normalisation=normalisation,
        settings=_settings_of(facts, configuration, recipe),
        classes=stated_classes(checkpoint.meta),
        method="custom" if is_random else entry.method,
        pretrain_data=released.pretrain_data if released else "unstated" if is_random else entry.pretrain_data,
        model=entry.model,
        expected={"mIoU": released.mean_iou} if released else {},
        source=released.source if released else "",
    )


def _facts_of(checkpoint: Checkpoint) -> _Facts:
    tensors = {name.removeprefix("module."): tensor for name, tensor in checkpoint.state_dict.items()}
    blocks, naming = _require_upernet(checkpoint, tensors)

    def need(name: str, dimensions: int) -> Tensor:
        tensor = tensors.get(name)
        if tensor is None or tensor.ndim != dimensions:
            found = "it is not there" if tensor is None else f"found {tuple(tensor.shape)}"
            raise InputError(
                f"{checkpoint.name}: {name}: expected a tensor of {dimensions} dimensions, as each UPerNet by {naming} "
                f"has it, and {found}. The file is damaged, or of another network"
            )
        return tensor

    filters = need(f"backbone.patch_embed.{'projection' if blocks == 'layers' else 'proj'}.weight", 4)
    need(f"{LOGITS}.weight", 4)
    numbers = {int(found[1]) for name in tensors if (found := re.match(rf"backbone\.{blocks}\.(\d+)\.", name))}
    tables = {name: len(tensor) for name, tensor in tensors.items() if name.endswith("relative_position_bias_table")}
    auxiliary = tensors.get("auxiliary_head.convs.0.conv.weight")
    return _Facts(
        naming=naming,
        beit=f"backbone.{blocks}.0.attn.q_bias" in tensors,
        width=filters.shape[0],
        depth=max(numbers) + 1,
        patch=filters.shape[2],
        side=filters.shape[2] * _grid_of(checkpoint, tensors.get("backbone.pos_embed"), tables),
        channels=len(need("decode_head.fpn_bottleneck.conv.weight", 4)),
        auxiliary_channels=None if auxiliary is None else len(auxiliary),
        layer_scale=any(name.endswith(".gamma_1") for name in tensors),
        relative_position=bool(tables),
        position_embeddings="backbone.pos_embed" in tensors,
    )


def _require_upernet(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    """What the file calls its blocks, and whose names these are. Raises InputError for another network."""

    def has(beginning: str) -> bool:
        return any(name.startswith(beginning) for name in tensors)

    why = ""
    if not has("decode_head."):
        why = "it has no decoder (decode_head)"
    elif not has("decode_head.lateral_convs.") or not has("decode_head.psp_modules."):
        why = "its decoder is no UPerNet"
    elif has("backbone.layers.0.ln1.") and not has("backbone.ln1."):
        return "layers", "mmsegmentation"
    elif has("backbone.blocks.0.norm1.") and not has("backbone.norm."):
        return "blocks", "BEiT's segmentation code"
    else:
        normed = has("backbone.layers.0.ln1.") or has("backbone.blocks.0.norm1.")
        why = "its backbone is no plain ViT by their names"
        why = "its ViT has a norm behind the last block, which none of theirs has" if normed else why
    raise InputError(f"{checkpoint.name}: no segmentor that is known here: {why}. {_KNOWN}")


def _grid_of(checkpoint: Checkpoint, positions: Tensor | None, tables: Mapping[str, int]) -> int:
    """Rows, and columns, of the patches that positions are made for: g² and a class token, or (2 g - 1)² and three."""
    sides = {name: _root(entries - _CLASS_TOKEN_ENTRIES) for name, entries in tables.items()}
    grids = {name: (side + 1) // 2 if side % 2 else 0 for name, side in sides.items()}
    if positions is not None:
        grids["backbone.pos_embed"] = _root(positions.shape[1] - 1) if positions.ndim == 3 else 0
    if not grids:
        raise InputError(
            f"{checkpoint.name}: has neither position embeddings nor relative positions, so the size of the images "
            "that it was trained on is not known. All segmentors that are known here have one or the other"
        )
    grid = max(grids.values())
    if odd := next((name for name, found in grids.items() if found != grid), None) if grid else next(iter(grids)):
        raise InputError(
            f"{checkpoint.name}: {odd} is made for no square image, or for another than the other positions are. "
            "Expected those of one square crop, as all of these segmentors are trained on"
        )
    return grid


def _root(number: int) -> int:
    """The square root of a square number; 0 of any other."""
    root = math.isqrt(max(number, 0))
    return root if root * root == number else 0


def _backbone_of(facts: _Facts, checkpoint: Checkpoint) -> str:
    size = _SIZES.get((facts.width, facts.depth, facts.patch), "")
    if facts.beit and facts.position_embeddings and size == "base":
        return "beit_vit_base_in1k"
    if name := (_BEIT if facts.beit else _PLAIN).get(size):
        return name
    family = "BEiT" if facts.beit else "ViT"
    raise InputError(
        f"{checkpoint.name}: its {family} has {facts.depth} blocks of {facts.width} channels and patches of "
        f"{facts.patch} pixels, a size without a name here. Say which model it is, with --backbone NAME"
    )


def _settings_of(facts: _Facts, configuration: Mapping[str, Any], recipe: SegmentationRecipe) -> dict[str, object]:
    """The settings of the network and of its own evaluation that the recipe has otherwise."""
    model, inference = recipe.model, recipe.inference
    found: dict[str, object] = {
        "model.adapter": "beit",
        "model.image_size": facts.side,
        "model.taps": stated_taps(configuration) or _TAPS.get(facts.depth) or model.taps,
        "model.relative_position": facts.relative_position,
        "model.layer_scale": (model.layer_scale or 1.0) if facts.layer_scale else None,
        "model.channels": facts.channels,
        "model.auxiliary_channels": facts.auxiliary_channels or model.auxiliary_channels,
        **_usual_inference(facts, recipe),
        **stated_inference(configuration),
    }
    sections = {"model": model, "inference": inference}
    asked = {key: getattr(sections[key.partition(".")[0]], key.partition(".")[2]) for key in found}
    return {key: value for key, value in found.items() if value != asked[key]}


def _usual_inference(facts: _Facts, recipe: SegmentationRecipe) -> dict[str, object]:
    """What the code bases have for images of another side than the recipe's.

    Windows advance by two thirds of their side, and images become as large as fits four sides by one: 341 and
    (2048, 512) at 512 pixels, 426 and (2560, 640) at 640 (mmsegmentation's configs/beit, BEiT's configs).
    """
    if facts.side == recipe.model.image_size:
        return {}
    windows = {"inference.stride": facts.side * 2 // 3} if recipe.inference.mode == "slide" else {}
    return {"inference.resize": (4 * facts.side, facts.side), **windows}
