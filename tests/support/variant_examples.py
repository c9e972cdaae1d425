"""ImageNet's evaluation sets in small, in the layouts in which they are distributed, and a classifier for them."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from backbones.images.normalisation import Normalisation
from backbones.trained.file import WEIGHTS, Description, write_weights
from benchmarks.planning.recipe import load_recipe
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.task import create_classifier
from tasks.datasets.imagenet_variants.classes import imagenet_classes
from tasks.datasets.imagenet_variants.corruptions import category_of

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
FEW = tuple(imagenet_classes()[number] for number in (0, 2, 10, 999))


def write_image(path: Path, number: int, size: tuple[int, int] = (53, 49)) -> None:
    """A few colours that depend on the number alone."""
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG")


def draw_classes(folder: Path, classes: Iterable[str], images: int = 1, suffix: str = "jpg") -> Path:
    """`images` of each class, in class folders."""
    for row, name in enumerate(classes):
        for number in range(images):
            write_image(folder / name / f"{name}_{number}.{suffix}", 100 * row + number)
    return folder


def draw_corrupted(root: Path, parts: Iterable[tuple[str, int]], *, categories: bool = True, images: int = 2) -> Path:
    """ImageNet-C: these of its parts, with or without the categories' folders."""
    for place, (corruption, severity) in enumerate(parts):
        folder = root / category_of(corruption) / corruption if categories else root / corruption
        for row, name in enumerate(FEW):
            for number in range(images):
                image = folder / str(severity) / name / f"ILSVRC2012_val_{row * images + number + 1:08d}.JPEG"
                write_image(image, 1000 * place + 10 * row + number, (40, 40))
    return root


def draw_validation(folder: Path, numbers: Iterable[int], flat: bool = True) -> Path:
    """ImageNet's validation images of these numbers; not flat, all in one class's folder."""
    for number in numbers:
        write_image((folder if flat else folder / FEW[0]) / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    return folder


def write_reassessed(path: Path, labels: dict[int, list[int]]) -> None:
    """real.json with these labels by the image's number, and none for all others."""
    path.write_text(json.dumps([labels.get(number, []) for number in range(1, 50_001)]))


def write_classifier(
    directory: Path, classes: list[str] | None = None, scale: float = 1.0, dataset: str = "imagenet1k"
) -> nn.Module:
    """Leave the weights of a very small classifier of ImageNet's classes as a run of its own would have; the network.

    `scale` is that of the head's random weights, `dataset` what the run's record calls its data.
    """
    classes = [*imagenet_classes()] if classes is None else classes
    recipe = load_recipe("mini_classification", ["dataset=imagenet1k", "precision=fp32"], {"classification"}).recipe
    assert isinstance(recipe, ClassificationRecipe)
    step, _, _ = create_classifier(recipe, "random_vit_mini", None, len(classes), 0, IMAGENET)
    head = step.network.get_parameter("head.weight")
    torch.nn.init.normal_(head, std=scale, generator=torch.Generator().manual_seed(1))
    directory.mkdir(parents=True, exist_ok=True)
    names = {"method": "MAE", "pretrain_data": "IN1K", "model": "ViT-mini"}
    run = {
        **names,
        "backbone": "random_vit_mini",
        "arch": "vit_mini_patch8_48",
        "checkpoint": "",
        "checkpoint_sha256": None,
        "checkpoint_part": "",
        "data_fingerprint": "0" * 16,
        "precision": "fp32",
        "dataset": dataset,
        "seed": 0,
        "recipe": "mini_classification",
        "key": "0123456789ab",
        "deviations": [],
    }
    description = Description(
        task="classification",
        **names,
        recipe=recipe.model_dump(mode="json"),
        classes=classes,
        normalisation=IMAGENET.as_dict(),
        metrics={},
        run=run,
    )
    assert write_weights(directory, step.network, description) == directory / WEIGHTS
    return step.network.eval()
