"""Trained detectors in the files of others: what each is, and how its names become ours."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.registry import find_backbone
from backbones.weights.checkpoints import Checkpoint
from tasks.detection.naming import read_detectron2, read_mimdet, require_categories
from tasks.detection.recipe import DetectionRecipe, DetectorSettings
from tasks.trained import PublishedNetwork

_STRIDE = 16
_TRUNKS = {
    (192, 12): "vit_tiny_patch16_224",
    (384, 12): "vit_small_patch16_224",
    (768, 12): "vit_base_patch16_224",
    (1024, 24): "vit_large_patch16_224",
    (1280, 32): "vit_huge_patch14_224",
}
"""By width and number of blocks, the ViT that a trunk is."""


@dataclass(frozen=True)
class _Released:
    """A file that is published with its numbers: whose trunk it has, AP of boxes and masks, and the page."""

    backbone: str
    box: float
    mask: float
    page: str


_VITDET = "detectron2, projects/ViTDet/README.md"
_MIMDET = "hustvl/MIMDet, README.md"
# By file name: neither page prints a digest. detectron2 ends each name with digits that no two of its files share.
_RELEASED = {
    "model_final_61ccd1.pkl": _Released("mae_vit_base", 51.6, 45.9, _VITDET),
    "model_final_6146ed.pkl": _Released("mae_vit_large", 55.5, 49.2, _VITDET),
    "model_final_7224f1.pkl": _Released("mae_vit_huge", 56.7, 50.2, _VITDET),
    "benchmarking_mask_rcnn_base_FPN_25ep_LSJ_mae.pth": _Released("mae_vit_base", 48.0, 43.0, _MIMDET),
    "benchmarking_mask_rcnn_base_FPN_50ep_LSJ_mae.pth": _Released("mae_vit_base", 50.2, 44.9, _MIMDET),
    "benchmarking_mask_rcnn_base_FPN_100ep_LSJ_mae.pth": _Released("mae_vit_base", 50.4, 44.9, _MIMDET),
}

_UNKNOWN = {
    r"roi_heads\.box_(?:head|predictor)\.\d+\.": "a Cascade Mask R-CNN, of whose three box heads the detector here has "
    "one. Of ViTDet's released files give one of those without cascade",
    r"backbone\.bottom_up\.encoder\.": "MIMDet's own detector, with a stem of convolutions before its ViT, which is "
    "not known here. Of MIMDet's files give one of its ViT-FPN (benchmarking_mask_rcnn_…)",
    r"roi_heads\.|proposal_generator\.": "a detector of detectron2's on a backbone that is not ViTDet's plain ViT",
    r"(?:roi_head|bbox_head|rpn_head)\.": "a detector of mmdetection's, whose names are not known here",
}
"""By the beginning of a name, what such a file is, and what to do."""


def recognise(checkpoint: Checkpoint, recipe: DetectionRecipe, backbone: str | None = None) -> PublishedNetwork:
    """What a file of a whole detector is, by the names of its tensors; `backbone` says which model its trunk is.

    Known are ViTDet (detectron2) and the ViT with FPN of Li et al. 2021 in MIMDet's code. A file that is called as a
    released one, and has COCO's 80 categories, is taken for it. Raises InputError for any other.
    """
    tensors = checkpoint.state_dict
    cascade = next(iter(_UNKNOWN))
    if _any(tensors, r"backbone\.simfp_\d\.") and _any(tensors, r"backbone\.net\.") and not _any(tensors, cascade):
        kind, reading, trunk, settings = "detectron2's ViTDet", read_detectron2, "backbone.net.", _of_vitdet(checkpoint)
    elif _any(tensors, r"backbone\.bottom_up\.ms_adaptor\.") and not _any(tensors, cascade):
        trunk = "backbone.bottom_up."
        kind, reading, settings = "MIMDet's ViT with FPN", read_mimdet, _of_mimdet(checkpoint)
    else:
        raise InputError(f"{checkpoint.name}: {_what_else(tensors)}")
    _require_imagenet(checkpoint)
    classes = _classes(tensors)
    released = _RELEASED.get(checkpoint.path.name) if classes == 80 else None
    name = backbone or (released.backbone if released else _trunk(checkpoint, trunk))
    entry = find_backbone(name, with_checkpoint=True)
    return PublishedNetwork(
        kind=kind,
        backbone=name,
        steps=(reading, require_categories),
        normalisation=IMAGENET,
        settings=settings | _of_heads(tensors),
        classes=coco_categories() if released else (),
        method=entry.method,
        pretrain_data=entry.pretrain_data,
        model=entry.model,
        expected={"AP_box": released.box, "AP_mask": released.mask} if released else {},
        source=f"{released.page}, of a file of this name" if released else "",
    )


def coco_categories() -> tuple[str, ...]:
    """The names of COCO's 80 categories in the order of their ids."""
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

    return tuple(str(each["name"]) for each in COCO_CATEGORIES if each["isthing"])


def _any(tensors: Mapping[str, Tensor], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in tensors)


def _what_else(tensors: Mapping[str, Tensor]) -> str:
    for pattern, told in _UNKNOWN.items():
        if _any(tensors, pattern):
            return told
    return (
        "no detector that is known here, which are detectron2's ViTDet, MIMDet's ViT with FPN, and runs of our own. "
        "Weights of a backbone alone are fine-tuned first, by `backbench run --backbone NAME=FILE`"
    )


def _classes(tensors: Mapping[str, Tensor]) -> int | None:
    scores = tensors.get("roi_heads.box_predictor.cls_score.weight")
    return None if scores is None else scores.shape[0] - 1


def _trunk(checkpoint: Checkpoint, prefix: str) -> str:
    """The ViT of the file's width and depth."""
    projection, depth = checkpoint.state_dict.get(f"{prefix}patch_embed.proj.weight"), _depth(checkpoint, prefix)
    width = 0 if projection is None else projection.shape[0]
    if (width, depth) not in _TRUNKS:
        raise InputError(
            f"{checkpoint.name}: its trunk has {depth} blocks of {width} channels, as no ViT that is known here. Say "
            "which model it is, --backbone NAME"
        )
    return _TRUNKS[width, depth]


def _depth(checkpoint: Checkpoint, prefix: str) -> int:
    pattern = re.escape(prefix) + r"blocks\.(\d+)\."
    return len({found[1] for name in checkpoint.state_dict if (found := re.match(pattern, name))})


def _of_heads(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Widths as the file has them, and what its configuration has that leaves no trace in it."""
    plain = DetectorSettings.model_fields
    settings: dict[str, object] = {f"model.{name}": plain[name].default for name in ("anchor_sizes", "proposals")}
    for name, tensor in (
        ("channels", "proposal_generator.rpn_head.conv.conv0.weight"),
        ("box_features", "roi_heads.box_head.fc1.weight"),
    ):
        if tensor in tensors:
            settings[f"model.{name}"] = tensors[tensor].shape[0]
    return settings


def _of_vitdet(checkpoint: Checkpoint) -> dict[str, object]:
    """The sizes of maps and windows, in patches, by the tables of relative positions.

    Raises InputError if other blocks than the last of each quarter look at the whole map.
    """
    pattern = r"backbone\.net\.blocks\.(\d+)\.attn\.rel_pos_h$"
    sides = {
        int(found[1]): (len(tensor) + 1) // 2
        for name, tensor in checkpoint.state_dict.items()
        if (found := re.match(pattern, name))
    }
    settings: dict[str, object] = {"model.adapter": "simple", "model.position_embeddings": "loaded"}
    settings["model.relative_position"] = bool(sides)
    if not sides:
        return settings
    quarter = max(1, _depth(checkpoint, "backbone.net.") // 4)
    of_maps = {side for block, side in sides.items() if (block + 1) % quarter == 0}
    of_windows = {side for block, side in sides.items() if (block + 1) % quarter}
    if len(of_maps) != 1 or len(of_windows) > 1:
        raise InputError(
            f"{checkpoint.name}: its blocks attend to {sorted(of_maps | of_windows)} patches a side. Expected one size "
            "in the last block of each quarter, and one in all others, as ViTDet's windows are laid out"
        )
    return settings | {"model.image_size": _STRIDE * max(of_maps), "model.window": max(of_windows, default=None)}


def _of_mimdet(checkpoint: Checkpoint) -> dict[str, object]:
    """Likewise, by position embeddings and the shared table of the windows; and its images are padded with grey."""
    settings: dict[str, object] = {
        "model.adapter": "fpn",
        "model.position_embeddings": "sincos",
        "model.relative_position": True,
        "inference.padding": "grey",
    }
    position = checkpoint.state_dict.get("backbone.bottom_up.pos_embed")
    if position is not None and position.ndim == 3:
        settings["model.image_size"] = _STRIDE * math.isqrt(position.shape[1])
    table = checkpoint.state_dict.get("backbone.bottom_up.windowed_rel_pos_bias.relative_position_bias_table")
    if table is not None:
        settings["model.window"] = (math.isqrt(len(table)) + 1) // 2
    return settings


def _require_imagenet(checkpoint: Checkpoint) -> None:
    """Older files have the normalisation among their tensors; of a pixel between 0 and 255, red first."""
    for name, wanted in (("pixel_mean", IMAGENET.mean), ("pixel_std", IMAGENET.std)):
        found, wanted_255 = checkpoint.state_dict.get(name), [255 * each for each in wanted]
        if found is not None and [round(float(each) / 255, 3) for each in found.flatten()] != [*wanted]:
            told, theirs = ([round(float(each), 3) for each in values] for values in (found.flatten(), wanted_255))
            raise InputError(
                f"{checkpoint.name}: its {name} is {told}, and ViTDet and MIMDet have {theirs}, red first. It is of "
                "another configuration"
            )
