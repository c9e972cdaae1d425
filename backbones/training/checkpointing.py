"""Checkpoints of a run: written whole or not at all, kept by number, and read back exactly."""

import re
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from backbones.errors import not_written
from backbones.training.agreement import first_decides, largest, require_of_all
from backbones.training.machine import leads_node
from backbones.training.writing import check_before_writing, why_not_written, written_whole


@dataclass
class Tally:
    """What a run counts over all its parts, interrupted or not.

    seconds:     spent on training, `evaluation_seconds` on evaluation, `total_seconds` on these and all around them
    peak_memory_mb: the most that one process held
    recent_*:    of the steps since the last line of the log
    loss_*:      of the steps of the last epoch
    accumulation: how many of these steps make an update; 0 of an earlier version's, which does not tell
    step_images: the `StepImages` of each part in which steps differed from those before it, as dictionaries
    processes, device, cuda, driver: what the last part that trained ran on; empty of an earlier version's
    """

    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    total_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    accumulation: int = 0
    recent: float = 0
    recent_loss: float = 0.0
    recent_parts: dict[str, float] = field(default_factory=dict)
    loss_sum: float = 0.0
    loss_count: float = 0
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

    def count_in(self, accumulation: int) -> None:
        """Let so many steps make an update from now on, and count those before as if as many had.

        So every update has one weight in the means, however many steps it took.
        """
        if self.accumulation not in (0, accumulation):
            times = accumulation / self.accumulation
            self.recent, self.recent_loss = self.recent * times, self.recent_loss * times
            self.recent_parts = {name: total * times for name, total in self.recent_parts.items()}
            self.loss_sum, self.loss_count = self.loss_sum * times, self.loss_count * times
        self.accumulation = accumulation

    def share_peak_memory(self) -> None:
        """Have all processes, which have to call this, know the most that one of them held: one tally is kept."""
        (self.peak_memory_mb,) = largest([self.peak_memory_mb])


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
        reason, number = why_not_written(error)
        raise not_written(
            f"{path}: cannot be written ({reason}). Make room or give another --out; "
            "repeating the command goes on from the last checkpoint",
            number,
        ) from error


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint whose tensors lie in the file, which a machine's processes so hold once.

    One of them reads all of it first: what cannot be read raises an error there, and would kill where it is mapped.
    """
    if leads_node():
        with path.open("rb") as file:
            while file.read(2**24):
                pass
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content


def _find(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first."""
    numbered = {p: re.fullmatch(r"iteration_(\d+)\.pth", p.name) for p in directory.glob("iteration_*.pth")}
    return sorted((p for p, match in numbered.items() if match), key=lambda p: int(p.stem.split("_")[1]))


def forget_checkpoints(directory: Path) -> None:
    """Remove those of a finished run, which its record and its weights outlast."""
    for path in _find(directory / "checkpoints"):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def last_update(directory: Path) -> int:
    """Of how many updates the newest checkpoint is that a run in `directory` can go on from, 0 without one.

    The tensors are not read, which would take as long as going on does.
    """
    for path in reversed(_find(directory / "checkpoints")):
        with suppress(Exception):  # passed over, and told of, where the run goes on
            return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["updates"])
    return 0


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
        settle: Callable[[Runner], None] = lambda runner: None,
    ) -> None:
        self.directory, self.every, self.keep, self.accumulation = directory, every, keep, accumulation
        self.tally, self.settle = tally, settle  # which brings the tally up to the present, the same in all processes
        self.saved = 0  # iterations whose state is in a file, the same number in all processes

    def found(self) -> list[Path]:
        """The checkpoints of this run, oldest first."""
        return _find(self.directory)

    def restore(self, runner: Runner) -> int:
        """Load the newest checkpoint that the first process can read; the iteration to go on with, 0 without one.

        What killed processes had begun to write goes before: each save has a file of its own, of a checkpoint's size.
        Raises DataError, or FirstFailedError, if another process cannot read that very one.
        """
        newest: list[dict[str, Any]] = []

        def choose() -> tuple[str, Any] | None:
            for left in self.directory.glob(".iteration_*.pth.*"):
                check_before_writing()
                with suppress(OSError):  # where nothing can be written, nothing fills up either
                    left.unlink(missing_ok=True)
            for path in reversed(self.found()):
                try:
                    newest.append(_read(path))
                except Exception as error:
                    reason = next(iter(str(error).splitlines()), type(error).__name__)
                    warnings.warn(f"{path}: unreadable checkpoint passed over ({reason})", stacklevel=2)
                    continue
                return path.name, newest[0]["tally"]
            return None

        chosen = first_decides(choose)
        if chosen is None:
            return 0
        content, complaint = (newest[0], "") if newest else self._same(*chosen)
        require_of_all(complaint)
        bare_model(runner).load_state_dict(content["model"])
        # a copy: the optimizer would keep tensors that lie in the file, which will be removed
        runner.optim_wrapper.load_state_dict(deepcopy(content["optimizer"]))
        for name, value in content["tally"].items():
            setattr(self.tally, name, value)
        done = int(content["updates"]) * self.accumulation
        self.saved = done
        return done

    def _same(self, name: str, tally: Any) -> tuple[dict[str, Any], str]:
        """The checkpoint that the first process has chosen, as another reads it, and what is wrong with that."""
        path = (self.directory / name).absolute()
        try:
            content = _read(path)
            wrong = "" if content["tally"] == tally else "another checkpoint than the first process has there"
        except Exception as error:
            content = {}
            wrong = f"cannot be read ({getattr(error, 'strerror', None) or str(error).splitlines()[0]})"
        if not wrong:
            return content, ""
        return content, (
            f"{path} on {socket.gethostname()}: {wrong}. All processes of a job go on from the first one's newest "
            "checkpoint: give an --out that is the same directory on all machines, and repeat the command"
        )

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
        self.settle(runner)
        if is_main_process():
            self._write(runner, done // self.accumulation)
        self.saved = done

    def _write(self, runner: Runner, updates: int) -> None:
        content = {
            "updates": updates,
            "model": bare_model(runner).state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "tally": asdict(self.tally),
        }
        save_atomically(content, self.directory / f"iteration_{updates}.pth")
        for old in self.found()[: -max(self.keep, 1)]:
            old.unlink(missing_ok=True)
