"""Trainings of a fraction of a second: noisy points, and their recipe."""

from typing import Any

import torch
from mmengine.hooks import Hook
from torch.utils.data import Dataset

from backbones.training.settings import EpochSchedule, ScaledOptimizer, TrainingRecipe, validate

POINTS = 24


class Points(Dataset[dict[str, Any]]):
    """Noisy points, for training or, by their number alone, for evaluation; some can be declared unreadable."""

    def __init__(self, corrupt: dict[int, str] | None = None) -> None:
        self.values = torch.randn(POINTS, 6, generator=torch.Generator().manual_seed(0))
        self.corrupt = corrupt or {}

    def __len__(self) -> int:
        return POINTS

    def __getitem__(self, draw: tuple[int, int] | int) -> dict[str, Any]:
        index = draw[0] if isinstance(draw, tuple) else draw
        corrupt = {f"{index}.jpg": self.corrupt[index]} if index in self.corrupt else {}
        return {"points": self.values[index], "corrupt": corrupt}


class PointsRecipe(TrainingRecipe):
    """The settings of these trainings."""

    optimizer: ScaledOptimizer
    schedule: EpochSchedule


def recipe(**settings: Any) -> TrainingRecipe:
    """Two epochs of four updates of six points."""
    optimizer = {"base_lr": 1.0, "batch_size": 6} | settings.pop("optimizer", {})
    schedule = {"epochs": 2, "warmup_epochs": 0.5} | settings.pop("schedule", {})
    runtime = {"workers": 0, "log_every": 3} | settings.pop("runtime", {})
    fields = {"task": "test", "dataset": "points", "source": "none", "precision": "fp32"} | settings
    return validate(PointsRecipe, fields | {"optimizer": optimizer, "schedule": schedule, "runtime": runtime}, "test")


class KilledError(Exception):
    """As if the process had been killed."""


class KilledAt(Hook):
    """Ends a training after an iteration, without another word."""

    priority = "HIGHEST"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if batch_idx + 1 == self.iteration:
            raise KilledError
