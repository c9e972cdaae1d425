"""Ctrl-C and the scheduler's SIGTERM: stop after the iteration at hand, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.training.checkpointing import CheckpointHook
from backbones.training.machine import process_count

UPDATES_BETWEEN_QUESTIONS = 10
"""How often several processes ask each other whether to stop: an answer waits for the device."""


class InterruptHook(Hook):
    """Ends a run with KeyboardInterrupt once its state is saved; a second signal ends it at once.

    A run that is ending takes no notice of more of them, and none ends it inside a destructor, whose exceptions Python
    prints and passes over. Several processes stop together, within a few updates. They take no notice of the second
    signal: torchrun passes on the one that the terminal has sent to all of them already.
    """

    priority = "LOWEST"

    def __init__(self, checkpoints: CheckpointHook, accumulation: int) -> None:
        self.checkpoints, self.accumulation = checkpoints, accumulation
        self.requested = self.ending = False

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
        if self.requested and process_count() == 1 and not self.ending and not _in_destructor(frame):
            self._end()
        self.requested = True

    def _end(self) -> NoReturn:
        self.ending = True
        raise KeyboardInterrupt

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if self.requested:
            self._end()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        updates, remainder = divmod(batch_idx + 1, self.accumulation)
        if not remainder and self._agreed(updates):
            self.checkpoints.save(runner, batch_idx + 1)
            self._end()

    def _agreed(self, updates: int) -> bool:
        """Whether to stop here. If one process stopped alone, the others would wait for it until they are killed."""
        if process_count() == 1:
            return self.requested
        if updates % UPDATES_BETWEEN_QUESTIONS:
            return False
        requested = torch.tensor(float(self.requested))
        all_reduce(requested, "max")
        return bool(requested)


def _in_destructor(frame: FrameType | None) -> bool:
    """Whether this frame, or one that called it, is a `__del__`."""
    while frame:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
