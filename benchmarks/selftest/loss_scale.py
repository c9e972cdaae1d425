"""Does a run in half precision go on with the loss scale that it was stopped with?

It is a small pre-training by the engine, with its own checkpoints. On the way the scale is set so high that gradients
overflow, step after step, and it halves each time; the run is stopped in the middle of that.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from backbones.pretraining.settings import PretrainingRecipe
from backbones.pretraining.steps import create_step
from backbones.training.job import Job, run_job
from benchmarks.planning.recipe import load_recipe
from benchmarks.selftest.exactness import largest
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError
from tasks.registry import PRETRAINING

IMAGES, BATCH, EPOCHS = 64, 16, 10
RAISED_BEFORE, TO_SCALE = 8, 2.0**40
STOPPED_AFTER, CHECKPOINT_EVERY = 12, 4
TOLERANCE = 1e-2
"""Of a loss, relative: sums on a GPU have no fixed order."""


class RandomImages(Dataset[dict[str, Any]]):
    """Noise, other for each index: `dataset[(index, epoch)]["images"]` is uint8 (3, size, size)."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (IMAGES, 3, size, size), generator=generator, dtype=torch.uint8)

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        return {"images": self.images[draw[0]], "corrupt": {}}


@dataclass
class Witness(Hook):
    """Writes down each step's loss and the scale after it; raises the scale, and stops the run, where it is to."""

    stop_after: int | None
    losses: dict[int, float] = field(default_factory=dict)
    scales: dict[int, float] = field(default_factory=dict)

    priority = "LOWEST"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if batch_idx == RAISED_BEFORE:
            runner.optim_wrapper.loss_scaler.update(TO_SCALE)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: Any = None) -> None:
        done = batch_idx + 1
        self.losses[done] = outputs["loss"].item()
        self.scales[done] = runner.optim_wrapper.loss_scaler.get_scale()
        if done == self.stop_after:
            raise KeyboardInterrupt


def small_recipe() -> PretrainingRecipe:
    """A pre-training of seconds in half precision."""
    settings = {
        "precision": "fp16",
        "optimizer.batch_size": BATCH,
        "schedule.epochs": EPOCHS,
        "schedule.warmup_epochs": 1,
        "runtime.workers": 0,
        "runtime.checkpoint_every": CHECKPOINT_EVERY,
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    recipe = load_recipe("mae_vit_mini", overrides, {PRETRAINING}).recipe
    assert isinstance(recipe, PretrainingRecipe)
    return recipe


def train(directory: Path, stop_after: int | None) -> Witness:
    """Go on in `directory` to the end, or to where it is to stop."""
    recipe, witness = small_recipe(), Witness(stop_after)
    step = create_step(recipe, 0)
    job = Job(
        model=step,
        dataset=RandomImages(recipe.model.image_size),
        parameter_groups=step.parameter_groups(recipe.optimizer.weight_decay),
        recipe=recipe,
        directory=directory,
        seed=0,
        title="pre-training in half precision",
        hooks=[witness],
    )
    try:
        run_job(job)
    except KeyboardInterrupt:
        if stop_after is None:
            raise
    return witness


def compare_resumed(scratch: Path) -> Found:
    """A run that was stopped and went on, beside one that was left alone."""
    alone = train(scratch / "alone", None)
    stopped = train(scratch / "stopped", STOPPED_AFTER)
    resumed = train(scratch / "stopped", None)
    scales, losses = stopped.scales | resumed.scales, stopped.losses | resumed.losses
    off = largest(abs(losses[step] / loss - 1) for step, loss in alone.losses.items())
    at_stop, last = scales[STOPPED_AFTER], max(alone.losses)
    went_on = min(resumed.losses) == STOPPED_AFTER + 1
    differing = sum(scales[step] != scale for step, scale in alone.scales.items())
    measured = (
        f"stopped at scale {at_stop:g}, ended at {scales[last]:g}; unlike in {differing} of {last} steps, losses by "
        f"{off:.1e} at most"
    )
    figures: dict[str, float | int | str | bool | None] = {
        "scale_at_stop": at_stop,
        "scale_at_end": scales[last],
        "steps": last,
        "steps_of_unlike_scale": differing,
        "largest_relative_difference_of_losses": off,
    }
    fine = went_on and not differing and off <= TOLERANCE and at_stop != TO_SCALE
    return Found(fine, measured, f"scales alike in all steps, losses within {TOLERANCE:g}", figures)


def _try(bench: Bench) -> Found:
    if bench.device != "cuda":
        raise NotRunError("fp16 needs a GPU")
    return compare_resumed(bench.scratch)


LOSS_SCALE = Line(
    name="loss-scale-resumed",
    what="loss scale and losses of a stopped and resumed fp16 run beside one that was left alone",
    seconds={"cuda": 10.0, "cpu": 0.0},
    run=_try,
)
