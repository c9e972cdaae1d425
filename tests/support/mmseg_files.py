"""mmsegmentation's UPerNets on MAE and BEiT, very small, in files of its own, and backbones of that size for ours."""

from pathlib import Path
from typing import Any

import mmseg
import torch
from mmengine import Config
from mmengine.runner.checkpoint import get_state_dict, save_checkpoint, weights_to_cpu
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from tests.support.mmseg_examples import CLASSES, as_mmseg

SIDE, STRIDE, RESIZE = 64, 43, (256, 64)
"""The protocol's 512 × 512 pixels, 341 pixels and (2048, 512), an eighth as large."""

WIDTH, DEPTH, HEADS, CHANNELS = 32, 4, 2, 24

CONFIGURATIONS = {
    "MAE": "mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py",
    "BEiT": "beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py",
}

BACKBONES = {kind: f"tests.support.mmseg_files:{kind.lower()}" for kind in CONFIGURATIONS}

RECIPE = f"""
task: segmentation
dataset: scenes
source: mmsegmentation's packaged configurations, an eighth as large
model: {{arch: vit_mini_patch8_48, adapter: fpn, image_size: 96, relative_position: false, layer_scale: null}}
optimizer: {{name: adamw, lr: 1.0e-4, batch_size: 2, no_weight_decay: one_dimensional}}
schedule: {{iterations: 1, warmup_iterations: 0, shape: poly}}
augment: {{resize: [{RESIZE[0]}, {RESIZE[1]}]}}
inference: {{mode: slide, stride: 20, resize: [128, 40]}}
runtime: {{workers: 0}}
"""
"""One that agrees with the files in nothing: they have to say themselves what they are."""


_SIZES: dict[str, Any] = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "num_classes": 0}


def mae(image_size: int | None, drop_path: float) -> nn.Module:
    return VisionTransformer(img_size=image_size or SIDE, patch_size=16, **_SIZES)


def mae_of_8_pixels(image_size: int | None, drop_path: float) -> nn.Module:
    return VisionTransformer(img_size=image_size or SIDE, patch_size=8, **_SIZES)


def beit(image_size: int | None, drop_path: float) -> nn.Module:
    tables: dict[str, Any] = {"use_rel_pos_bias": True, "use_abs_pos_emb": False, "init_values": 0.1}
    return Beit(img_size=image_size or SIDE, patch_size=16, global_pool="token", **tables, **_SIZES)


def beit_with_positions(image_size: int | None, drop_path: float) -> nn.Module:
    positions: dict[str, Any] = {"use_rel_pos_bias": False, "use_abs_pos_emb": True, "init_values": None}
    return Beit(img_size=image_size or SIDE, patch_size=16, global_pool="token", **positions, **_SIZES)


def packaged_as(name: str) -> Any:
    """A packaged configuration, everything."""
    return Config.fromfile(Path(mmseg.__file__).parent / ".mim/configs" / name)


def small_configuration(kind: str, root: Path, mode: str = "slide") -> Any:
    """The packaged one for images an eighth as large and as few channels as can be, on the scenes below `root`.

    That for whole images has another epsilon in its norms.
    """
    configuration = packaged_as(CONFIGURATIONS[kind])
    model = configuration.model
    model.pretrained = None
    model.data_preprocessor.size = (SIDE, SIDE)
    sizes = {"img_size": (SIDE, SIDE), "embed_dims": WIDTH, "num_layers": DEPTH, "num_heads": HEADS}
    model.backbone.update(sizes, out_indices=[0, 1, 2, 3])
    model.neck.embed_dim = WIDTH
    model.decode_head.update(in_channels=[WIDTH] * 4, channels=CHANNELS)
    model.auxiliary_head.update(in_channels=WIDTH, channels=8)
    if mode == "whole":
        model.backbone.norm_cfg.eps = 1e-2
    windows = {"crop_size": (SIDE, SIDE), "stride": (STRIDE, STRIDE)} if mode == "slide" else {}
    model.test_cfg = {"mode": mode, **windows}
    loader = configuration.test_dataloader
    for pipeline in (configuration.test_pipeline, loader.dataset.pipeline):
        for step in pipeline:
            if step.type == "Resize":
                step.scale = RESIZE
    loader.dataset.data_root = str(root)
    loader.update(num_workers=0, persistent_workers=False)
    return configuration


def randomise(model: nn.Module) -> None:
    """Let every weight and batch statistic count, so that predictions differ from pixel to pixel."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)


def write_segmentor(path: Path, configuration: Any, classes: list[str] | None = None) -> EncoderDecoder:
    """A model of that configuration with random weights, saved as mmengine's runner saves it."""
    torch.manual_seed(1)
    with as_mmseg():
        model: EncoderDecoder = MODELS.build(configuration.model)
    randomise(model)
    meta = {
        "cfg": configuration.pretty_text,
        "dataset_meta": {"classes": classes or CLASSES, "palette": [[0, 0, 0]] * len(CLASSES)},
    }
    save_checkpoint({"meta": meta, "state_dict": weights_to_cpu(get_state_dict(model))}, str(path))
    return model
