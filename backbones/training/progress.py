"""What a run says while it runs: its progress, log.jsonl, TensorBoard and other trackers."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.tensorboard import SummaryWriter

from backbones.errors import DataError, DivergedError, FirstFailedError
from backbones.images.tolerance import too_many_unreadable
from backbones.training.agreement import each_says
from backbones.training.checkpointing import Tally
from backbones.training.machine import (
    cuda_version,
    device_name,
    device_type,
    driver_version,
    process_count,
    process_rank,
)
from backbones.training.measuring import peak_memory_mb, run_seconds
from backbones.training.progress_line import ProgressLine
from backbones.training.trackers.tracking import Tracking
from backbones.training.writing import check_before_writing, written_whole

_ABOUT = {"iteration", "update", "updates", "epoch", "seconds", "device", "processes"}
"""What a line of the log has beside the figures that TensorBoard and other trackers show."""


def diverged(what: str, rate: str = "the learning rate") -> DivergedError:
    """The refusal to go on with a training that has diverged; `rate` is the setting to lower, where it is known."""
    return DivergedError(f"{what}. Lower {rate}, or use --set precision=fp32 or --set optimizer.clip_grad_norm=1.0")


class ProgressHook(Hook):
    """Counts time, loss and corrupt images, and writes them at intervals.

    The loss is the mean over all processes; what else the model puts out, such as the parts of its loss, is the first
    process's. Raises DivergedError when the loss is no longer a number: what follows would be worthless. Unreadable
    images of all processes are counted together at each line of the log and each checkpoint.
    """

    priority = "LOW"

    def __init__(
        self,
        directory: Path,
        *,
        title: str,
        batch_size: int,
        per_epoch: int,
        every: int,
        tally: Tally,
        tracking: Tracking,
        accumulation: int = 1,
    ) -> None:
        self.directory, self.title, self.tally, self.tracking = directory, title, tally, tracking
        self.batch_size, self.per_epoch, self.every, self.accumulation = batch_size, per_epoch, every, accumulation
        self.line: ProgressLine | None = None
        self.writer: SummaryWriter | None = None
        self.is_evaluating = False
        self.unshared: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        is_trained = runner.iter >= runner.max_iters
        if not is_trained:
            self.tally.count_in(self.accumulation)
        # Sums on the device, from the first step on: to read them is to wait for it.
        self.epoch_loss: Any = self.tally.loss_sum
        self.recent_loss: Any = self.tally.recent_loss
        self.parts: dict[str, Any] = dict(self.tally.recent_parts)
        self.done = runner.iter
        # checkpoints of earlier versions have no total
        self.earlier_seconds = max(self.tally.total_seconds, self.tally.seconds + self.tally.evaluation_seconds)
        self.last_log = (self.done, self.tally.seconds)
        self.tick = time.monotonic()
        if process_rank() == 0:
            self._open_log(runner.iter)
            self.tracking.begin()
        if is_trained:
            return
        self.tally.processes, self.tally.device = process_count(), device_name()
        self.tally.cuda, self.tally.driver = cuda_version(), driver_version()
        self.line = ProgressLine(self.title, runner.max_iters, "iterations")
        self.line.start_at(runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, torch.Tensor] | None = None
    ) -> None:
        assert outputs is not None
        loss = outputs["loss"].detach().clone()
        all_reduce(loss, "mean")
        if batch_idx % self.per_epoch == 0:
            self.epoch_loss, self.tally.loss_count = 0.0, 0
        self.epoch_loss = self.epoch_loss + loss.double()
        self.recent_loss = self.recent_loss + loss.double()
        for name in outputs.keys() - {"loss"}:
            self.parts[name] = self.parts.get(name, 0.0) + outputs[name].detach()
        self.tally.recent += 1
        self.tally.loss_count += 1
        self._count_corrupt(runner, data_batch["corrupt"])
        self.done = done = batch_idx + 1
        if done % self.every == 0 or done % self.per_epoch == 0 or done == runner.max_iters:
            self._log(runner, done)

    def _count_corrupt(self, runner: Runner, corrupt: dict[str, str]) -> None:
        """Count what this process could not read, and say so at once if that alone is too much."""
        if not corrupt:
            return
        self.unshared.update(corrupt)
        if complaint := self._too_many_unreadable(runner, corrupt):
            raise DataError(complaint)

    def _share_corrupt(self, runner: Runner) -> None:
        """Have all processes, which have to call this, know what any of them could not read.

        Raises DataError, FirstFailedError in all but the first, where that is too much together.
        """
        found, self.unshared = each_says(self.unshared), {}
        corrupt = {path: why for part in found for path, why in part.items()}
        if corrupt and (complaint := self._too_many_unreadable(runner, corrupt)):
            raise DataError(complaint) if process_rank() == 0 else FirstFailedError

    def _too_many_unreadable(self, runner: Runner, corrupt: dict[str, str]) -> str:
        """Count unreadable training images; what to say if so many are that the data are at fault."""
        self.tally.corrupt.update(corrupt)
        images, unreadable = len(runner.train_dataloader.dataset), len(self.tally.corrupt)
        if not too_many_unreadable(unreadable, images):
            return ""
        path, why = next(iter(self.tally.corrupt.items()))
        return (
            f"{unreadable} of {images} training images are unreadable, the first is {path}: {why}. "
            "Is --data the right folder? Replace or remove what is broken"
        )

    def settle(self, runner: Runner) -> None:
        """Bring the tally up to the present, the same in all processes, for a checkpoint. All have to call it.

        Raises DivergedError if training has diverged, DataError or FirstFailedError if too much is unreadable.
        """
        self.update_tally()
        self._share_corrupt(runner)
        self.tally.share_peak_memory()

    def update_tally(self) -> None:
        """Bring this process's tally up to the present. Raises DivergedError if training has diverged."""
        self.tally.loss_sum = float(self.epoch_loss)
        if not math.isfinite(self.tally.loss_sum):
            raise diverged(
                f"the training loss is {self.tally.loss_sum} before iteration {self.done}: training has diverged"
            )
        self.tally.recent_loss = float(self.recent_loss)
        self.tally.recent_parts = {name: float(total) for name, total in self.parts.items()}
        self._count_seconds()
        self.tally.total_seconds = self.earlier_seconds + run_seconds()
        self.tally.peak_memory_mb = max(self.tally.peak_memory_mb, peak_memory_mb())

    def _count_seconds(self) -> None:
        """Those since it was last called are training's, or evaluation's."""
        before, self.tick = self.tick, time.monotonic()
        if self.is_evaluating:
            self.tally.evaluation_seconds += self.tick - before
        else:
            self.tally.seconds += self.tick - before

    def before_val_epoch(self, runner: Runner) -> None:
        self.update_tally()
        self.is_evaluating = True
        if self.line and self.line.bar:
            self.line.bar.stop()
        self.evaluation = ProgressLine("evaluating", len(runner.val_dataloader), "batches")

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None) -> None:
        self.evaluation.update(batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.evaluation.close()
        if self.writer:
            update = runner.iter // self.accumulation
            for name, value in (metrics or {}).items():
                self.writer.add_scalar(f"val/{name}", value, update)
            self.writer.flush()
            self.tracking.log("val", update, metrics or {})
        if self.line and self.line.bar and runner.iter < runner.max_iters:
            self.line.bar.start()
        self.update_tally()
        self.is_evaluating = False

    @property
    def images_per_second(self) -> float | None:
        """The mean speed of the whole run; None where nothing is trained."""
        return self.done * self.batch_size / self.tally.seconds if self.tally.seconds else None

    def _log(self, runner: Runner, done: int) -> None:
        self.update_tally()
        self._share_corrupt(runner)
        tally, (done_then, seconds_then) = self.tally, self.last_log
        loss = tally.recent_loss / tally.recent
        speed = (done - done_then) * self.batch_size / max(tally.seconds - seconds_then, 1e-9)
        parts = {name: total / tally.recent for name, total in sorted(tally.recent_parts.items())}
        self.recent_loss, tally.recent, self.parts = 0.0, 0, {}
        self.last_log = (done, tally.seconds)
        rate = max(group["lr"] for group in runner.optim_wrapper.optimizer.param_groups)
        if self.line:
            self.line.update(done, figures=f"loss {loss:.4f}, {speed:,.0f} images/s")
        if self.writer:
            entry: dict[str, Any] = {
                "iteration": done,
                "update": done // self.accumulation,
                "updates": runner.max_iters // self.accumulation,
                "epoch": done / self.per_epoch,
            }
            entry |= {"loss": loss, **parts, "lr": rate, "images_per_second": speed, "seconds": tally.seconds}
            entry |= {"device": device_type(), "processes": process_count()}
            check_before_writing()
            with (self.directory / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            self._show(self.writer, entry)
            self.writer.flush()
            self.tracking.log("train", entry["update"], _figures(entry))

    def _show(self, board: SummaryWriter, entry: dict[str, Any]) -> None:
        """Put a line of the log on TensorBoard, by updates: they do not depend on how many steps make one."""
        for name, value in _figures(entry).items():
            board.add_scalar(f"train/{name}", value, entry["update"])

    def _open_log(self, done: int) -> None:
        """Go on with log.jsonl and TensorBoard after so many iterations, without what a killed run did after them.

        TensorBoard also forgets this very update, which is shown again: what was trained here, what is evaluated there.
        """
        last = self._cut_log_after(done / self.per_epoch)
        updates = done // self.accumulation
        self.writer = SummaryWriter(str(self.directory / "tensorboard"), purge_step=updates)
        if last and last.get("update") == updates:
            self._show(self.writer, last)

    def _cut_log_after(self, epoch: float) -> dict[str, Any] | None:
        """Drop the lines of what a killed run did after its last checkpoint, and torn ones. Returns the last one left.

        A log in which there are none is not touched. Unlike the iteration, the epoch does not depend on how many steps
        make an update.
        """
        path = self.directory / "log.jsonl"
        path.touch()
        text = path.read_bytes()
        lines = [line for line in text.split(b"\n") if _is_logged_until(epoch, line)]
        kept = b"".join(line + b"\n" for line in lines)
        if kept != text:
            with written_whole(path) as file:
                file.write(kept)
        return json.loads(lines[-1]) if lines else None

    def close(self) -> None:
        """Stop the bar and flush TensorBoard, also after an error."""
        if self.line:
            self.line.close()
        if self.writer:
            self.writer.close()


def _figures(entry: dict[str, Any]) -> dict[str, float]:
    """What of a line of the log is shown."""
    return {name: entry[name] for name in sorted(entry.keys() - _ABOUT)}


def _is_logged_until(epoch: float, line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    reached = entry.get("epoch") if isinstance(entry, dict) else None
    return isinstance(reached, int | float) and reached <= epoch
