"""What a training is made of, for the engine that runs it: mmengine's Runner."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch.utils.data import Dataset

from backbones.training.checkpointing import CheckpointHook
from backbones.training.sampling import EpochBatchSampler
from backbones.training.settings import TrainingRecipe

Collate = Callable[[list[dict[str, Any]]], dict[str, Any]]
"""What makes a batch of samples that are not to be stacked."""


@dataclass(frozen=True)
class Evaluation:
    """On what a run is evaluated, and how: at the end, and before that if wished.

    With `every_epochs` or `every_iterations` also every so many epochs, or updates of the weights. `kept` names the
    attributes of the metric that hold all it knows of a finished evaluation, and `kept_types` the classes in them; an
    evaluation of a metric without is made again if the run is killed after it.
    """

    dataset: Dataset[dict[str, Any]]
    metric: BaseMetric
    batch_size: int
    every_epochs: int | None = None
    every_iterations: int | None = None
    kept: tuple[str, ...] = ()
    kept_types: tuple[type, ...] = ()

    def every_steps(self, per_epoch: int, accumulation: int) -> int | None:
        """The steps from one evaluation to the next, None for the end alone."""
        if self.every_epochs:
            return self.every_epochs * per_epoch
        return self.every_iterations * accumulation if self.every_iterations else None


@dataclass(frozen=True)
class Job:
    """One training under one recipe in one directory.

    `model` is what the engine calls, with `network` in it, which `runtime.compile` compiles: its forward takes a
    batch's fields and a `mode`, and gives losses for "loss", a list for "predict". `dataset` maps a draw (index, epoch)
    to a sample. `parameter_groups` go to the optimizer and may carry timm's `lr_scale`. `collate` makes a batch of
    samples that are not to be stacked.
    """

    model: BaseModel
    dataset: Dataset[dict[str, Any]]
    parameter_groups: Iterable[Any]
    recipe: TrainingRecipe
    directory: Path
    seed: int
    title: str
    evaluation: Evaluation | None = None
    hooks: Sequence[Hook] = ()
    collate: Collate | None = None


@dataclass(frozen=True)
class Plan:
    """A job and all that was made of its recipe: which images when, which hooks, which optimizer, how many steps."""

    job: Job
    sampler: EpochBatchSampler
    hooks: Sequence[Hook]
    optimizer: OptimWrapper
    checkpoints: CheckpointHook
    accumulation: int
    steps: int
