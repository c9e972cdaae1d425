"""A trained detector in detectron2's names, with the configuration that builds it there."""

from typing import Any

import torch
from torch import Tensor, nn

from backbones.adapters.attention import BeitAttention
from backbones.adapters.plain_vit import PlainTrunk
from backbones.exporting.encoders import detectron2_file
from backbones.exporting.products import About, Product, Target, as_text, no_home, plain
from backbones.trained.loading import load_trained
from tasks.detection.detector import Detector
from tasks.detection.recipe import DetectionRecipe
from tasks.detection.task import create_detector
from tasks.trained import TrainedNetwork

_TRUNK, _LEVELS = "backbone.pyramid.trunk.", "backbone.pyramid.levels."
_PATCH = 16
_CONFIG = "model_zoo/configs/common/models/mask_rcnn_vitdet.py"
_OTHERS = "weights.safetensors stays what backbench itself evaluates"


def export(
    recipe: DetectionRecipe, trained: TrainedNetwork, about: About, target: Target, *, pickled: bool = False
) -> Product:
    """Its files: weights, and beside them FILE.py.

    Raises InputError for weights that do not fit, and for a detector that detectron2 does not have.
    """
    if target != "detectron2":
        raise no_home("a detector", target, "it has none", "Use --to detectron2")
    detector, _, _ = create_detector(
        recipe, trained.backbone, None, len(about.classes), 0, about.normalisation, empty=True
    )
    load_trained(detector, trained.checkpoint, trained.steps, trained.kind)
    _require_vitdet(detector, recipe)
    tensors = vitdet_weights(detector)
    return Product(
        files={"": detectron2_file(tensors, about, pickled), ".py": as_text(configuration(detector, recipe, about))},
        tensors=tensors,
        kind="detectron2's ViTDet, a Mask R-CNN",
        remarks=_remarks(recipe),
    )


def _remarks(recipe: DetectionRecipe) -> tuple[str, ...]:
    """What the evaluation is here and the configuration is not."""
    inference, size = recipe.inference, recipe.model.image_size
    longest, shorter = inference.sides(size)
    remarks = [
        f"images are resized to {shorter} pixels of the shorter side, {longest} of the longest at most: test_mapper in "
        "the configuration, for dataloader.test.mapper"
    ]
    if inference.flip:
        remarks.append(
            "the configuration sees one view: here mirror images were looked at as well (detectron2's "
            "GeneralizedRCNNWithTTA)"
        )
    if inference.padding == "grey":
        remarks.append(
            f"detectron2 pads images with zeros after normalisation: here they were padded to {inference.square(size)} "
            "pixels with grey that counts as image"
        )
    return tuple(remarks)


def _require_vitdet(detector: Detector, recipe: DetectionRecipe) -> None:
    adapter = recipe.model.adapter
    why: str | None = "ViTDet is the adapter `simple` on a plain ViT"
    if adapter == "simple" and isinstance(detector.pyramid.trunk, PlainTrunk):
        why = _why_no_vitdets(detector.pyramid.trunk)
    if why:
        raise no_home(f"a detector with the adapter {adapter} on this backbone", "detectron2", why, _OTHERS)


def _why_no_vitdets(trunk: Any) -> str | None:
    if trunk.stride != _PATCH:
        return f"its patches have {trunk.stride} pixels, and ViTDet's pyramid is made for {_PATCH}"
    if isinstance(trunk.blocks[0].attn.attention, BeitAttention):
        return "its backbone is a BEiT, which ViTDet's ViT is not"
    if trunk.pos_embed is not None and trunk.pos_embed.shape[1] != trunk.pos_embed.shape[2]:
        return "its grid of position embeddings is not square"
    if others := sorted(name for name in trunk.state_dict() if not _is_vitdets(name)):
        return f"its backbone has {others[0]}, which ViTDet's ViT has not"
    if not all(isinstance(block.mlp.act, nn.GELU) and block.mlp.act.approximate == "none" for block in trunk.blocks):
        return "its activation is not the exact GELU"
    return None


def _is_vitdets(name: str) -> bool:
    if not name.startswith("blocks."):
        return name == "pos_embed" or name.startswith("patch_embed.proj.")
    inner = name.split(".", 2)[2]
    ours = ("norm1.", "norm2.", "mlp.fc1.", "mlp.fc2.", "attn.attention.qkv.", "attn.attention.proj.")
    return inner.startswith((*ours, "attn.attend.rel_pos_"))


def vitdet_weights(detector: Detector) -> dict[str, Tensor]:
    """All tensors under detectron2's names; position embeddings begin with a class token's, which it never reads."""
    levels = [_names_of_level(level) for level in detector.pyramid.levels]
    named: dict[str, Tensor] = {}
    for name, tensor in plain(detector.state_dict()).items():
        if name.startswith(_TRUNK):
            inner = name.removeprefix(_TRUNK).replace("attn.attention.", "attn.").replace("attn.attend.", "attn.")
            if inner == "pos_embed":
                tensor = torch.cat([torch.zeros(1, 1, tensor.shape[-1]), tensor.flatten(1, 2)], 1)
            named[f"backbone.net.{inner}"] = tensor
        elif name.startswith(_LEVELS):
            level, number, kind = name.removeprefix(_LEVELS).split(".")
            named[f"backbone.simfp_{int(level) + 2}.{levels[int(level)][int(number)]}.{kind}"] = tensor
        else:
            named[name] = tensor
    return named


def _names_of_level(level: Any) -> list[str]:
    """detectron2's name of each module of a level: a norm that follows a convolution belongs to it."""
    names: list[str] = []
    count = 0
    for before in [None, *level][:-1]:
        if type(before) is nn.Conv2d:
            names.append(f"{count - 1}.norm")
            continue
        names.append(str(count))
        count += 1
    return names


def configuration(detector: Detector, recipe: DetectionRecipe, about: About) -> str:
    """detectron2's ViTDet with all that is otherwise here, as a file that `LazyConfig.load` reads."""
    settings, inference, net = recipe.model, recipe.inference, _net(detector, recipe)
    longest, shorter = inference.sides(settings.image_size)
    channels, mean, std = settings.channels, about.normalisation.mean, about.normalisation.std
    lines = [
        '"""ViTDet as backbench trained it; for detectron2\'s LazyConfig."""',
        "",
        "from functools import partial",
        "from pathlib import Path",
        "",
        "import detectron2",
        "import torch.nn as nn",
        "from detectron2.config import LazyCall as L",
        "from detectron2.config import LazyConfig",
        "from detectron2.data import DatasetMapper",
        "from detectron2.data import transforms as T",
        "from detectron2.layers import ShapeSpec",
        "",
        f"metadata = {{'thing_classes': {list(about.classes)!r}}}",
        f'model = LazyConfig.load(str(Path(detectron2.__file__).parent / "{_CONFIG}")).model',
        'model.input_format = "RGB"',
        f"model.pixel_mean = {[255 * value for value in mean]!r}",
        f"model.pixel_std = {[255 * value for value in std]!r}",
        f"model.backbone.square_pad = {inference.square(settings.image_size)}",
        f"model.backbone.out_channels = {channels}",
        *(f"model.backbone.net.{name} = {value!r}" for name, value in net.items()),
        f"model.backbone.net.norm_layer = partial(nn.LayerNorm, eps={_epsilon(detector)!r})",
        f"model.proposal_generator.head.in_channels = {channels}",
        f"model.proposal_generator.anchor_generator.sizes = {[[size] for size in settings.anchor_sizes]!r}",
        f"model.proposal_generator.pre_nms_topk = ({2 * settings.proposals}, {settings.proposals})",
        f"model.proposal_generator.post_nms_topk = ({settings.proposals}, {settings.proposals})",
        "heads = model.roi_heads",
        f"heads.num_classes = {len(about.classes)}",
        f"heads.batch_size_per_image = {settings.regions}",
        f"heads.box_head.input_shape = ShapeSpec(channels={channels}, height=7, width=7)",
        f"heads.mask_head.input_shape = ShapeSpec(channels={channels}, height=14, width=14)",
        f"heads.box_head.conv_dims = {[channels] * 4!r}",
        f"heads.box_head.fc_dims = [{settings.box_features}]",
        f"heads.box_predictor.input_shape = ShapeSpec(channels={settings.box_features})",
        f"heads.mask_head.conv_dims = {[channels] * 5!r}",
        f"heads.box_predictor.test_score_thresh = {inference.score_threshold!r}",
        f"heads.box_predictor.test_nms_thresh = {inference.nms_threshold!r}",
        f"heads.box_predictor.test_topk_per_image = {inference.detections}",
        f"resize = L(T.ResizeShortestEdge)(short_edge_length={shorter}, max_size={longest})",
        'test_mapper = L(DatasetMapper)(is_train=False, augmentations=[resize], image_format="RGB")',
    ]
    return "\n".join(lines) + "\n"


def _epsilon(detector: Detector) -> float:
    trunk: Any = detector.pyramid.trunk
    return float(trunk.blocks[0].norm1.eps)


def _net(detector: Detector, recipe: DetectionRecipe) -> dict[str, Any]:
    """The settings of detectron2's ViT."""
    settings, trunk = recipe.model, detector.pyramid.trunk
    assert isinstance(trunk, PlainTrunk)
    block: Any = trunk.blocks[0]
    windowed = [index for index in range(len(trunk.blocks)) if index not in trunk.global_blocks]
    is_windowed = settings.window is not None and settings.window < -(-settings.image_size // trunk.stride)
    position = trunk.pos_embed
    return {
        "img_size": settings.image_size,
        "embed_dim": trunk.width,
        "depth": len(trunk.blocks),
        "num_heads": block.attn.attention.num_heads,
        "mlp_ratio": block.mlp.fc1.out_features / trunk.width,
        "drop_path_rate": settings.drop_path,
        "window_size": settings.window if is_windowed else 0,
        "window_block_indexes": windowed if is_windowed else [],
        "use_abs_pos": position is not None,
        "use_rel_pos": settings.relative_position,
        "pretrain_img_size": trunk.stride * (position.shape[1] if position is not None else 14),
    }
