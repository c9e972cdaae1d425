"""Batches of random images as the loader hands them to a recipe's step, in memory that a GPU copies from at once.

H and W are an image's height and width in pixels, S the side that a recipe gives it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BoxMode
from torch.utils.data import DataLoader

from backbones.training.runner import stack
from backbones.training.settings import TrainingRecipe
from tasks.detection.objects import Objects
from tasks.detection.samples import gather

CLASSES = {"classification": 1000, "detection": 80, "segmentation": 150}
"""Those of ImageNet-1K, COCO and ADE20K."""

OBJECTS = 7
"""In an image: COCO's training set has 860,001 objects in the 117,266 images with any."""

_CORNERS = 24  # of an object's outline
_SHORT_SIDE = 0.75  # of the long one, as in photographs of 640 × 480 pixels


def random_batch(recipe: TrainingRecipe, images: int, device: str) -> dict[str, Any]:
    """A batch of so many images for the recipe's step, pinned for a GPU."""
    settings: Any = recipe
    side = settings.model.image_size
    random = np.random.default_rng(0)
    samples: dict[str, Callable[[], dict[str, Any]]] = {
        "pretraining": lambda: {"images": _pixels(random, side, side)},
        "classification": lambda: {
            "images": _pixels(random, side, side),
            "labels": int(random.integers(CLASSES["classification"])),
        },
        "detection": lambda: _scene(random, side, settings.augment.scale),
        "segmentation": lambda: {
            "images": _pixels(random, side, side),
            "labels": torch.from_numpy(random.integers(CLASSES["segmentation"], size=(side, side), dtype=np.uint8)),
            "heights": side,
            "widths": side,
        },
    }
    loader: Any = DataLoader(
        [samples[recipe.task]() for _ in range(images)],  # type: ignore[arg-type]  # a list serves as a data set
        batch_size=images,
        collate_fn=gather if recipe.task == "detection" else stack,
        pin_memory=device == "cuda",
    )
    batch: dict[str, Any] = next(iter(loader))
    return batch


def _pixels(random: np.random.Generator, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(random.integers(256, size=(3, height, width), dtype=np.uint8))


def _scene(random: np.random.Generator, side: int, scale: tuple[float, float]) -> dict[str, Any]:
    """An image of 4 to 3 under large-scale jitter, with as many outlined objects as COCO's have, none cut off."""
    longer = random.uniform(*scale) * side
    height, width = (min(side, math.ceil(length)) for length in (longer * _SHORT_SIDE, longer))
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    annotations = []
    for _ in range(OBJECTS):
        radius = random.uniform(0.05, 0.25) * height
        centre = random.uniform(radius, np.array([width, height]) - radius)
        outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        annotations.append(
            {
                "bbox": [*outline.min(0), *outline.max(0)],
                "bbox_mode": BoxMode.XYXY_ABS,
                "category_id": int(random.integers(CLASSES["detection"])),
                "segmentation": [outline.ravel()],
            }
        )
    objects = Objects.of(annotations_to_instances(annotations, (height, width)))
    return {"inputs": {"image": _pixels(random, height, width), "instances": objects, "image_id": 0}, "corrupt": {}}
