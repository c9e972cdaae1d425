"""A step of fine-tuning does not wait for the GPU, with and without mixup and erasing."""

from typing import Any

import pytest
import timm
import torch

from backbones.images.normalisation import IMAGENET
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.classifier import ClassificationStep, add_head
from tasks.classification.recipe import FineTuningAugmentation
from tests.support.waiting import losses_without_waiting


@pytest.mark.parametrize(
    "augment",
    [
        {"mixup": 0.0, "cutmix": 0.0},
        {"mixup": 0.8, "cutmix": 0.0},
        {"mixup": 0.0, "cutmix": 1.0},
        {"random_erasing": 1.0},
    ],
    ids=str,
)
def test_a_step_does_not_wait(augment: dict[str, Any]) -> None:
    network = add_head(timm.create_model("vit_mini_patch8_48", drop_path_rate=0.1), 5, "avg")
    settings = FineTuningAugmentation(**augment)
    step = ClassificationStep(network, BatchAugmentation(settings, 5, IMAGENET), "fp32")
    batch = {"images": torch.zeros(4, 3, 48, 48, dtype=torch.uint8), "labels": torch.tensor([1, 0, 4, 2])}
    assert losses_without_waiting(step, batch)["loss"].device.type == "cuda"
