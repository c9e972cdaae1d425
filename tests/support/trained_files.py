"""`weights.safetensors` as a finished run leaves it, of a network with random weights: nothing is trained."""

from pathlib import Path
from typing import Any

from torch import nn

from backbones.images.normalisation import HALF
from backbones.trained.file import Description, write_weights


def leave_weights(directory: Path, network: nn.Module, recipe: Any, backbone: str, classes: list[str]) -> Path:
    """Write the file into a run's directory; its path."""
    directory.mkdir(parents=True, exist_ok=True)
    run = {
        "backbone": backbone,
        "recipe": "mine",
        "seed": 0,
        "key": "0123456789ab",
        "method": "MAE",
        "pretrain_data": "IN1K",
        "model": "ViT-B",
        "deviations": [],
    }
    description = Description(
        task=recipe.task,
        method="MAE",
        pretrain_data="IN1K, then mini w/ labels",
        model="ViT-B",
        recipe=recipe.model_dump(mode="json"),
        classes=classes,
        normalisation=HALF.as_dict(),
        metrics={},
        run=run,
    )
    return write_weights(directory, network, description)
