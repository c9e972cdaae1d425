"""Ctrl-C and the scheduler's SIGTERM: stop after the iteration at hand, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.training.checkpointing import CheckpointHook


class InterruptHook(Hook):
    """Ends a run with KeyboardInterrupt once its state is saved; a second signal ends it at once."""

    priority = "LOWEST"

    def __init__(self, checkpoints: CheckpointHook, accumulation: int) -> None:
        self.checkpoints, self.accumulation = checkpoints, accumulation
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within the block, and put the former handlers back after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if self.requested:
            raise KeyboardInterrupt

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        if self.requested and (batch_idx + 1) % self.accumulation == 0:
            self.checkpoints.save(runner, batch_idx + 1)
            raise KeyboardInterrupt
