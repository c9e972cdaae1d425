"""ADE20K in miniature, and mmsegmentation's own data set and settings for it, as it packages them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmseg
import numpy as np
import torch
from mmengine import Config, DefaultScope
from mmseg.datasets import ADE20KDataset
from PIL import Image
from torch import nn

from backbones import create_backbone
from backbones.adapters import build_pyramid
from tasks.datasets.label_maps.layout import SegmentationDataSettings, SegmentationSet, open_segmentation
from tasks.segmentation.recipe import Inference, SegmentorSettings
from tasks.segmentation.segmentor import Segmentor, build_segmentor

CONFIGURATION = "mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py"
CLASSES: list[str] = list(ADE20KDataset.METAINFO["classes"])
FOLDERS = {"train": "training", "val": "validation"}


def packaged() -> Any:
    """Of the packaged configuration for MAE's ViT-B on ADE20K, everything."""
    return Config.fromfile(Path(mmseg.__file__).parent / ".mim/configs" / CONFIGURATION)


def small_segmentor(
    settings: SegmentorSettings, inference: Inference, classes: int, network: nn.Module | None = None
) -> Segmentor:
    """One on a (very small) ViT, with random weights, batch norms and biases, in evaluation mode."""
    torch.manual_seed(0)
    pyramid = build_pyramid(
        network or create_backbone("random_vit_mini"),
        settings.adapter,
        image_size=settings.image_size,
        window=None,
        shared_positions=False,
        layer_scale=settings.layer_scale,
    )
    model = build_segmentor(pyramid, settings, inference, classes).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2.0)
    return model


@contextmanager
def as_mmseg() -> Iterator[None]:
    """Let mmengine look up names in mmsegmentation's registries, as its own training script does."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def mmseg_set(root: Path, split: str, pipeline: list[dict[str, Any]]) -> ADE20KDataset:
    """mmsegmentation's data set of a split below `root`."""
    prefix = {"img_path": f"images/{FOLDERS[split]}", "seg_map_path": f"annotations/{FOLDERS[split]}"}
    with as_mmseg():
        return ADE20KDataset(data_root=str(root), data_prefix=prefix, pipeline=pipeline)


def own_set(root: Path, split: str) -> SegmentationSet:
    return dict(zip(FOLDERS, open_segmentation(root, SegmentationDataSettings()), strict=True))[split]


def write_scenes(root: Path, sizes: list[tuple[int, int]], split: str) -> Path:
    """JPEGs of these heights and widths, with patches of the 150 classes and of none.

    Every third is grey, the annotation of every second has a palette, and in every second one class fills most.
    """
    generator = np.random.default_rng(len(sizes))
    images, annotations = (root / kind / FOLDERS[split] for kind in ("images", "annotations"))
    images.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(parents=True, exist_ok=True)
    (root / "objectInfo150.txt").write_text("\n".join(CLASSES))
    for number, (height, width) in enumerate(sizes):
        coarse = -(-height // 9), -(-width // 9)
        colours = Image.fromarray(generator.integers(0, 256, (*coarse, 3), dtype=np.uint8))
        picture = colours.resize((width, height), Image.Resampling.BICUBIC)
        picture.convert("L" if number % 3 == 2 else "RGB").save(images / f"{number}.jpg", quality=90)
        labels = generator.integers(0, 151, coarse, dtype=np.uint8)
        if number % 2:
            labels[:, : int(0.8 * coarse[1])] = 7
        annotation = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        if number % 2:
            annotation.putpalette(generator.integers(0, 256, 768, dtype=np.uint8).tobytes())
        annotation.save(annotations / f"{number}.png")
    return root
