"""Checkpoints of a run: written whole or not at all, kept by number, and read back exactly."""

import re
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from backbones.errors import not_written
from backbones.training.writing import check_before_writing, written_whole


@dataclass
class Tally:
    """What a run counts over all its parts, interrupted or not.

    seconds:     spent on training, `evaluation_seconds` on evaluation, `total_seconds` on these and all around them
    peak_memory_mb: the most that the first process held
    recent_*:    of the steps since the last line of the log
    step_images: the `StepImages` of each part in which steps differed from those before it, as dictionaries
    processes, device, cuda, driver: what the last part that trained ran on; empty of an earlier version's
    """

    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    total_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    recent: int = 0
    recent_loss: float = 0.0
    recent_parts: dict[str, float] = field(default_factory=dict)
    loss_sum: float = 0.0
    loss_count: int = 0
    corrupt: dict[str, str] = field(default_factory=dict)
    step_images: list[dict[str, Any]] = field(default_factory=list)
    processes: int = 0
    device: str = ""
    cuda: str = ""
    driver: str = ""

    @property
    def loss(self) -> float:
        """The mean training loss of the last epoch."""
        return self.loss_sum / max(self.loss_count, 1)


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save` under a temporary name, then rename. Raises InputError if it cannot be written, leaving nothing.

    What killed processes left of the same file goes before.
    """
    try:
        check_before_writing()
        for left in path.parent.glob(f".{path.name}.*"):
            left.unlink(missing_ok=True)
        with written_whole(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        reason, number = _reason(error)
        raise not_written(
            f"{path}: cannot be written ({reason}). Make room or give another --out; "
            "repeating the command goes on from the last checkpoint",
            number,
        ) from error


def _reason(error: BaseException) -> tuple[str, int | None]:
    """What the system said and its number for that, which torch's writer covers with a RuntimeError about positions."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    said = ((cause.strerror, cause.errno) for cause in causes if isinstance(cause, OSError) and cause.strerror)
    return next(said, (str(error).splitlines()[0], None))


def bare_model(runner: Runner) -> nn.Module:
    """The runner's model without its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class CheckpointHook(Hook):
    """Saves model, optimizer and tally at intervals, and restores the newest that can be read.

    mmengine's own hook removes an old checkpoint before the new one is complete, writes in place, and its checkpoints
    need unrestricted unpickling. Random states need no place in ours: they follow from the iteration. Files are
    numbered by updates of the weights, which do not depend on how many steps and processes share one.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        directory: Path,
        *,
        every: int,
        keep: int,
        tally: Tally,
        accumulation: int = 1,
        update_tally: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory, self.every, self.keep, self.accumulation = directory, every, keep, accumulation
        self.tally, self.update_tally = tally, update_tally

    def found(self) -> list[Path]:
        """The checkpoints of this run, oldest first."""
        numbered = {p: re.fullmatch(r"iteration_(\d+)\.pth", p.name) for p in self.directory.glob("iteration_*.pth")}
        return sorted((p for p, match in numbered.items() if match), key=lambda p: int(p.stem.split("_")[1]))

    def restore(self, runner: Runner) -> int:
        """Load the newest readable checkpoint into the runner; the iteration to go on with, 0 without one."""
        for path in reversed(self.found()):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                warnings.warn(f"{path}: unreadable checkpoint passed over ({error})", stacklevel=2)
                continue
            bare_model(runner).load_state_dict(content["model"])
            runner.optim_wrapper.load_state_dict(content["optimizer"])
            for name, value in content["tally"].items():
                setattr(self.tally, name, value)
            return int(content["updates"]) * self.accumulation
        return 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        done = batch_idx + 1
        if done % self.every == 0 or done == runner.max_iters:
            self.save(runner, done)

    def save(self, runner: Runner, done: int) -> None:
        """Write the checkpoint of `done` finished iterations, the last of an update, and remove the oldest.

        All processes have to call it; the first one writes.
        """
        for corrupt in all_gather_object(self.tally.corrupt):
            self.tally.corrupt.update(corrupt)
        self.update_tally()
        if is_main_process():
            self._write(runner, done // self.accumulation)

    def _write(self, runner: Runner, updates: int) -> None:
        content = {
            "updates": updates,
            "model": bare_model(runner).state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "tally": asdict(self.tally),
        }
        save_atomically(content, self.directory / f"iteration_{updates}.pth")
        for old in self.found()[: -self.keep]:
            old.unlink(missing_ok=True)
