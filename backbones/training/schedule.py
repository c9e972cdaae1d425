"""The learning rate as a function of the iteration: nothing to store, so nothing to resume wrongly."""

import math
from dataclasses import dataclass

from mmengine.hooks import Hook
from mmengine.runner import Runner


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


class ScheduleHook(Hook):
    """Sets every parameter group's learning rate before an update: the schedule's times the group's `lr_scale`.

    With gradient accumulation the rate changes only where an accumulation begins, as in the reference code.
    """

    priority = "VERY_HIGH"

    def __init__(self, schedule: WarmupCosine, accumulation: int) -> None:
        self.schedule = schedule
        self.accumulation = accumulation

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        rate = self.schedule(batch_idx - batch_idx % self.accumulation)
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
