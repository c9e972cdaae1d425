"""How far something is: a progress bar with the time left. Imports nothing heavy."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from backbones.training.machine import process_rank

T = TypeVar("T")
SECONDS_BETWEEN_PLAIN_LINES = 15


class ProgressLine:
    """A rich bar on a terminal; elsewhere a plain line every few seconds, so that a job's log stays readable."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.console = Console(stderr=True)
        self.began = self.last_line = time.monotonic()
        self.first = 0
        self.bar: Progress | None = None
        if self.console.is_terminal and process_rank() == 0:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]} {task.fields[figures]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, console=self.console, transient=False)
            self.task = self.bar.add_task(title, total=total, unit=unit, figures="")
            self.bar.start()

    def start_at(self, done: int) -> None:
        """Count from `done`: what an earlier part of the run did takes no part in the estimate."""
        self.first = done
        if self.bar:
            self.bar.reset(self.task, completed=done)

    def update(self, done: int, total: int | None = None, figures: str = "") -> None:
        """Show that `done` of the total are finished; the total may become known only now."""
        self.total = total or self.total
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, figures=figures)
        elif process_rank() == 0 and self._due(done):
            spent = time.monotonic() - self.began
            left = spent / max(done - self.first, 1) * (self.total - done)
            figures = f", {figures}" if figures else ""
            text = f"{self.title}: {done:,} of {self.total:,} {self.unit}{figures}, {left:,.0f} s left"
            print(text, file=sys.stderr, flush=True)

    def _due(self, done: int) -> bool:
        now = time.monotonic()
        due = now - self.last_line >= SECONDS_BETWEEN_PLAIN_LINES or done == self.total
        self.last_line = now if due else self.last_line
        return due

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self.bar:
            self.bar.stop()


@contextmanager
def progress_line(title: str, total: int, unit: str) -> Iterator[ProgressLine]:
    """A `ProgressLine` that is closed whatever happens."""
    line = ProgressLine(title, total, unit)
    try:
        yield line
    finally:
        line.close()


def with_progress(items: Iterable[T], title: str, total: int, unit: str) -> Iterator[T]:
    """Iterate over `items` and show how far it is."""
    with progress_line(title, total, unit) as line:
        for done, item in enumerate(items, start=1):
            yield item
            line.update(done)
