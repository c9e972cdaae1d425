"""The learning rate as a function of the iteration: nothing to store, so nothing to resume wrongly."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
)
from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.training.settings import EpochSchedule, IterationSchedule, ScheduleSettings

Curve = Callable[[int], float]
"""The learning rate of a step, 0 … steps - 1."""


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up from zero to `peak`, then half a cosine down to `floor` (MAE, tables 8 and 9).

    All lengths are in iterations. The reference code's formula over fractional epochs is the same function.
    """

    peak: float
    floor: float
    warmup: float
    total: int

    def __call__(self, iteration: int) -> float:
        """The learning rate of iteration 0 … total - 1."""
        if iteration < self.warmup:
            return self.peak * iteration / self.warmup
        progress = (iteration - self.warmup) / max(self.total - self.warmup, 1)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def learning_rate_curve(settings: ScheduleSettings, peak: float, per_epoch: int, accumulation: int) -> Curve:
    """The curve that a recipe's schedule describes; an epoch has `per_epoch` steps, an update `accumulation`."""
    steps = settings.steps(per_epoch, accumulation)
    if isinstance(settings, IterationSchedule):
        multiplier = _multiplier(settings)
        return lambda step: peak * multiplier(step / steps)
    assert isinstance(settings, EpochSchedule)
    return WarmupCosine(peak=peak, floor=settings.min_lr, warmup=settings.warmup_epochs * per_epoch, total=steps)


def _multiplier(settings: IterationSchedule) -> Callable[[float], float]:
    """Share of the peak over the share of the training that is done."""
    return _scaled_poly(settings) if settings.shape == "poly" else _warmed_up(settings)


def _scaled_poly(settings: IterationSchedule) -> Callable[[float], float]:
    """As mmcv 1's PolyLrUpdaterHook has it: the line begins with the training, and the warm-up is a factor on it."""
    curve = PolynomialDecayParamScheduler(1.0, power=1.0)
    warmup = LinearParamScheduler(settings.warmup_factor, 1.0)
    end = settings.warmup_iterations / settings.iterations
    return lambda where: curve(where) * (warmup(where / end) if where < end else 1.0)


def _warmed_up(settings: IterationSchedule) -> ParamScheduler:
    """As detectron2's WarmupParamScheduler has it.

    The warm-up covers the curve's beginning and ends on it; the curve itself is as long as the training.
    """
    curve: ParamScheduler = CosineParamScheduler(1.0, 0.0)
    if settings.shape == "step":
        values = [0.1**passed for passed in range(len(settings.milestones) + 1)]
        curve = MultiStepParamScheduler(values, settings.iterations, milestones=list(settings.milestones))
    if not settings.warmup_iterations:
        return curve
    end = settings.warmup_iterations / settings.iterations
    warmup = LinearParamScheduler(settings.warmup_factor * curve(0.0), curve(end))
    return CompositeParamScheduler([warmup, curve], lengths=[end, 1 - end], interval_scaling=["rescaled", "fixed"])


class ScheduleHook(Hook):
    """Sets every parameter group's learning rate before an update: the schedule's times the group's `lr_scale`.

    With gradient accumulation the rate changes only where an accumulation begins, as in the reference code.
    """

    priority = "VERY_HIGH"

    def __init__(self, schedule: Curve, accumulation: int) -> None:
        self.schedule = schedule
        self.accumulation = accumulation

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        rate = self.schedule(batch_idx - batch_idx % self.accumulation)
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
