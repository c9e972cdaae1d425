"""A trained segmentor in mmsegmentation's names, with the configuration that builds it there."""

from pprint import pformat
from typing import Any

import torch
from mmengine import Config, DefaultScope
from timm.models.beit import Attention as BeitAttention
from torch import Tensor, nn

from backbones.adapters.plain_vit import PlainTrunk
from backbones.exporting.encoders import said_beside
from backbones.exporting.mmseg_names import openmmlab_name
from backbones.exporting.products import About, NoHomeError, Product, Target, as_text, as_torch, no_home, plain
from backbones.trained.loading import load_trained
from tasks.segmentation.mmseg_parts import MODELS
from tasks.segmentation.pictures import colours_of
from tasks.segmentation.recipe import SegmentationRecipe
from tasks.segmentation.segmentor import AUXILIARY_MAP, AUXILIARY_WEIGHT, Segmentor
from tasks.segmentation.task import create_segmentor
from tasks.trained import TrainedNetwork

_NECK = {2: "upsample_4x", 1: "upsample_2x"}
"""mmsegmentation's name of a level, by how many transposed convolutions it has."""

_TRUNK, _LEVELS = "backbone.pyramid.trunk.", "backbone.pyramid.levels."
_TABLE = "relative_position_bias_table"
_NORM = {"type": "SyncBN", "requires_grad": True}


def export(
    recipe: SegmentationRecipe, trained: TrainedNetwork, about: About, target: Target, *, pickled: bool = False
) -> Product:
    """Its files: weights, and beside them FILE.py.

    mmsegmentation's own model is built from that and has to take the weights, all of them. Raises InputError for
    weights that do not fit, and for a segmentor that mmsegmentation does not have.
    """
    if target != "mmseg":
        raise no_home("a segmentor", target, "it has none", "Use --to mmseg")
    segmentor, _, _ = create_segmentor(
        recipe, trained.backbone, None, len(about.classes), 0, about.normalisation, empty=True
    )
    load_trained(segmentor, trained.checkpoint, trained.steps, trained.kind)
    _require_mmsegs(segmentor, recipe)
    config = configuration(segmentor, recipe, about)
    tensors = mmseg_weights(segmentor)
    _require_all_taken(config, tensors)
    palette = colours_of(len(about.classes))[: len(about.classes)]
    meta = {"classes": list(about.classes), "palette": palette.tolist()}
    content = {"state_dict": tensors, "meta": {"dataset_meta": meta}, **said_beside(about)}
    text = (
        f'"""UPerNet on {trained.backbone}, trained by backbench on {len(about.classes)} classes."""\n\n'
        + "\n\n".join(f"{name} = {pformat(value, sort_dicts=False, width=118)}" for name, value in config.items())
    )
    return Product(
        files={"": as_torch(content), ".py": as_text(text + "\n")},
        tensors=tensors,
        kind=f"mmsegmentation's UPerNet on its {config['model']['backbone']['type']}",
        remarks=_remarks(recipe),
    )


def _remarks(recipe: SegmentationRecipe) -> tuple[str, ...]:
    views = recipe.inference
    if len(views.scales) > 1:
        flips = " and flips" if views.flip else ""
        return (f"the configuration sees one view: here it was evaluated with scales {list(views.scales)}{flips}",)
    return ("the configuration sees one view: here it was evaluated with flips",) if views.flip else ()


def _require_mmsegs(segmentor: Segmentor, recipe: SegmentationRecipe) -> None:
    trunk = segmentor.pyramid.trunk
    others = "weights.safetensors stays what backbench itself evaluates"
    if recipe.model.adapter != "beit" or not isinstance(trunk, PlainTrunk):
        raise no_home(
            f"a segmentor with the adapter {recipe.model.adapter} on this backbone",
            "mmseg",
            "its UPerNet on a plain ViT is that of the adapter `beit`",
            others,
        )
    blocks: Any = trunk.blocks
    exact = all(isinstance(block.mlp.act, nn.GELU) and block.mlp.act.approximate == "none" for block in blocks)
    tokens = [getattr(trunk, name, None) is not None for name in ("cls_token", "dist_token", "reg_token")]
    if not exact or tokens != [True, False, False] or not isinstance(trunk.norm_pre, nn.Identity):
        raise no_home(
            "a segmentor on this backbone", "mmseg", "its MAE is a ViT with one class token and the exact GELU", others
        )


def _has_separate_biases(trunk: PlainTrunk) -> bool:
    attention: Any = trunk.blocks[0]
    return isinstance(attention.attn.attention, BeitAttention)


def configuration(segmentor: Segmentor, recipe: SegmentationRecipe, about: About) -> dict[str, Any]:
    """mmsegmentation's, of the whole model and of its evaluation."""
    pyramid, views, side = segmentor.pyramid, recipe.inference, recipe.model.image_size
    scale = views.scales[0] if len(views.scales) == 1 else 1.0
    resize = tuple(int(length * scale) for length in views.resize)
    test: dict[str, Any] = {"mode": views.mode}
    if views.mode == "slide":
        test |= {"crop_size": (side, side), "stride": (views.stride, views.stride)}
    preprocessor = {
        "type": "SegDataPreProcessor",
        "mean": [255 * value for value in about.normalisation.mean],
        "std": [255 * value for value in about.normalisation.std],
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": 255,
        "size": (side, side),
    }
    neck = {
        "type": "Feature2Pyramid",
        "embed_dim": pyramid.channels[0],
        "rescales": [_whole(_trunk(segmentor).stride / stride) for stride in pyramid.strides],
        "norm_cfg": _NORM,
    }
    model = {
        "type": "EncoderDecoder",
        "data_preprocessor": preprocessor,
        "backbone": _backbone(_trunk(segmentor), recipe),
        "neck": neck,
        **_heads(segmentor, recipe, len(about.classes)),
        "train_cfg": {},
        "test_cfg": test,
    }
    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "scale": resize, "keep_ratio": True},
        {"type": "PackSegInputs"},
    ]
    return {"default_scope": "mmseg", "model": model, "test_pipeline": pipeline}


def _trunk(segmentor: Segmentor) -> Any:
    return segmentor.pyramid.trunk


def _backbone(trunk: Any, recipe: SegmentationRecipe) -> dict[str, Any]:
    block, side = trunk.blocks[0], recipe.model.image_size
    return {
        "type": "BEiT" if _has_separate_biases(trunk) else "MAE",
        "img_size": (side, side),
        "patch_size": trunk.stride,
        "embed_dims": trunk.width,
        "num_layers": len(trunk.blocks),
        "num_heads": block.attn.attention.num_heads,
        "mlp_ratio": _whole(block.mlp.fc1.out_features / trunk.width),
        "out_indices": list(trunk.taps),
        "drop_path_rate": recipe.model.drop_path,
        "norm_cfg": {"type": "LN", "eps": block.norm1.eps},
        "init_values": recipe.model.layer_scale or 1.0,
    }


def _heads(segmentor: Segmentor, recipe: SegmentationRecipe, classes: int) -> dict[str, Any]:
    channels = segmentor.pyramid.channels
    both = {"dropout_ratio": 0.1, "num_classes": classes, "norm_cfg": _NORM, "align_corners": False}
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": False}
    return {
        "decode_head": {
            "type": "UPerHead",
            "in_channels": list(channels),
            "in_index": [0, 1, 2, 3],
            "pool_scales": (1, 2, 3, 6),
            "channels": recipe.model.channels,
            "loss_decode": loss | {"loss_weight": 1.0},
            **both,
        },
        "auxiliary_head": {
            "type": "FCNHead",
            "in_channels": channels[AUXILIARY_MAP],
            "in_index": AUXILIARY_MAP,
            "channels": recipe.model.auxiliary_channels,
            "num_convs": 1,
            "concat_input": False,
            "loss_decode": loss | {"loss_weight": AUXILIARY_WEIGHT},
            **both,
        },
    }


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number


def mmseg_weights(segmentor: Segmentor) -> dict[str, Tensor]:
    """All tensors under mmsegmentation's names; what its MAE has and this one has not is filled in so as to do nothing.

    That is a layer scale of ones, biases of zero for all distances, and the index of these.
    """
    trunk: Any = segmentor.pyramid.trunk
    levels_of: Any = segmentor.pyramid.levels
    levels = {
        str(index): sum(isinstance(module, nn.ConvTranspose2d) for module in level)
        for index, level in enumerate(levels_of)
    }
    named: dict[str, Tensor] = {}
    for name, tensor in plain(segmentor.state_dict()).items():
        if name.startswith(_TRUNK):
            named[f"backbone.{openmmlab_name(name.removeprefix(_TRUNK))}"] = tensor
        elif name.startswith(_LEVELS):
            index, _, inner = name.removeprefix(_LEVELS).partition(".")
            named[f"neck.{_NECK[levels[index]]}.{inner}"] = tensor
        else:
            named[name] = tensor
    side = trunk.position_grid[0] if trunk.pos_embed is not None else _side_of(trunk)
    index_NN = relative_position_index(side)
    heads = trunk.blocks[0].attn.attention.num_heads
    for number in range(len(trunk.blocks)):
        before = f"backbone.layers.{number}."
        for scale in ("gamma_1", "gamma_2"):
            named.setdefault(before + scale, torch.ones(trunk.width))
        named.setdefault(f"{before}attn.{_TABLE}", torch.zeros((2 * side - 1) ** 2 + 3, heads))
        named[f"{before}attn.relative_position_index"] = index_NN
    return named


def _side_of(trunk: Any) -> int:
    return int(trunk.blocks[0].attn.grid[0])


def relative_position_index(side: int) -> Tensor:
    """Which entry of the table is for a query and a key, (1 + side², 1 + side²), the class token first (BEiT)."""
    rows, columns = (axis.flatten() for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    apart = (rows[:, None] - rows + side - 1) * (2 * side - 1) + columns[:, None] - columns + side - 1
    entries = (2 * side - 1) ** 2 + 3
    index = torch.full((side**2 + 1, side**2 + 1), entries - 2)
    index[0] = entries - 3
    index[0, 0] = entries - 1
    index[1:, 1:] = apart
    return index


def _require_all_taken(config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Raise InputError unless mmsegmentation's own model takes all of the tensors and needs no others."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        theirs: nn.Module = MODELS.build(Config(config).model)
    try:
        theirs.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise NoHomeError(f"mmsegmentation's own model does not take the weights: {why}") from error
