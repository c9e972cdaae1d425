"""Ctrl-C and the scheduler's signals: stop after the iteration at hand, with a checkpoint."""

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mmengine.hooks import Hook
from mmengine.runner import Runner

from backbones.training.agreement import largest
from backbones.training.checkpointing import CheckpointHook
from backbones.training.machine import process_count, process_rank

SECONDS_BETWEEN_QUESTIONS = 3.0
"""How often several processes ask each other whether to stop. torchrun waits 30 s for them to."""

MOST_STEPS = 10
"""After so many they ask in any case: steps that all of a sudden take seconds each do not make it minutes.

Asking takes about a millisecond on one machine, and an update seldom less than fifty.
"""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; what a scheduler ends a job with; what a closed terminal sends; Slurm's warnings (`--signal`)."""


class Cadence:
    """When several processes ask each other: after so many steps that it is every few seconds by the first one's clock.

    The others learn the number of steps with each answer. It at most doubles from one question to the next, since the
    first steps tell little, begins with one step, also after each pause, and ends at `MOST_STEPS`.
    """

    def __init__(self, seconds: float = SECONDS_BETWEEN_QUESTIONS) -> None:
        self.seconds = seconds
        self.begin()

    def begin(self) -> None:
        """To be called by all processes at the same step, before and after whatever else takes time."""
        self.steps = self.left = 1
        self.asked = time.monotonic()

    def is_due(self) -> bool:
        """Count a step; whether to ask after it."""
        self.left -= 1
        return self.left == 0

    def ask(self, wish: bool) -> bool:
        """Whether any process wishes to stop. All have to ask at the same step."""
        told = self._next() if process_rank() == 0 else 0
        wished, steps = largest([float(wish), float(told)])
        self.steps = self.left = int(steps)
        return bool(wished)

    def _next(self) -> int:
        before, self.asked = self.asked, time.monotonic()
        each = (self.asked - before) / self.steps
        most = min(2 * self.steps, MOST_STEPS)
        return max(1, min(most, int(self.seconds / each))) if each else most


@contextmanager
def repeating(does: str) -> Iterator[None]:
    """Within the block Ctrl-C says that repeating the command does this: "go on from …"."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(does) from None


class InterruptHook(Hook):
    """Ends a run with KeyboardInterrupt once its state, if it has any, is saved; a second signal ends it at once.

    A closed terminal's SIGHUP is never the second, nor makes the next one that: the shell and the system each send it,
    and others may follow. Where it is ignored, as under nohup, it stays so. A run that is ending takes no notice of
    more signals, and none ends it inside a destructor, whose exceptions Python prints and passes over. Several
    processes stop together, within a few seconds or one step. They take no notice of the second signal: torchrun
    passes on the one that the terminal has sent to all of them already.
    """

    priority = "LOWEST"

    def __init__(self, checkpoints: CheckpointHook | None, accumulation: int) -> None:
        self.checkpoints, self.accumulation = checkpoints, accumulation
        self.requested = self.insisting = self.ending = False
        self.cadence = Cadence()
        self.shared_batches = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within the block, and put the former handlers back after it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        passed_over = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        former = {number: signal.signal(number, self._request) for number in {*SIGNALS} - passed_over}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGHUP:
            _print_to_nobody()
            return
        if self.insisting and process_count() == 1 and not self.ending and not _in_destructor(frame):
            self._end()
        self.insisting = True

    def _end(self) -> NoReturn:
        self.ending = True
        raise KeyboardInterrupt

    def before_train(self, runner: Runner) -> None:
        self.cadence.begin()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        if (batch_idx + 1) % self.accumulation == 0 and self._agreed():
            self._stop(runner, batch_idx + 1)

    def before_val(self, runner: Runner) -> None:
        """Count the batches that every process has, which differ by one."""
        loader = runner.val_dataloader
        self.shared_batches = -(-(len(loader.dataset) // process_count()) // loader.batch_size)
        self.cadence.begin()

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if (process_count() == 1 or batch_idx < self.shared_batches) and self._agreed():
            self._stop(runner, runner.iter)

    def after_val(self, runner: Runner) -> None:
        self.cadence.begin()

    def stop_if_requested(self) -> None:
        """End where nothing is at hand, if any process is asked to. All have to call it."""
        if any(largest([float(self.requested)])):
            self._end()

    def _agreed(self) -> bool:
        """Whether to stop here. If one process stopped alone, the others would wait for it until they are killed."""
        if process_count() == 1:
            return self.requested
        return self.cadence.is_due() and self.cadence.ask(self.requested)

    def _stop(self, runner: Runner, done: int) -> NoReturn:
        if self.checkpoints and self.checkpoints.saved != done:
            self.checkpoints.save(runner, done)
        self._end()


def _print_to_nobody() -> None:
    """Let go nowhere what would be printed where nobody reads any more: that is an error, ahead of the saving."""
    for stream in (1, 2):
        readers = select.poll()
        readers.register(stream, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in readers.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


def _in_destructor(frame: FrameType | None) -> bool:
    """Whether this frame, or one that called it, is a `__del__`."""
    while frame:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
