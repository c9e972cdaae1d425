"""Trackers that keep what they are shown, or fail."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from backbones.training.trackers import tracking
from backbones.training.trackers.tracker import Status, TrackedRun


def run_in(directory: Path, *trackers: str) -> TrackedRun:
    """A run of which only trackers and directory matter."""
    return TrackedRun(trackers, "run", "group", {"seed": 0}, directory, directory)


@dataclass
class Recorder:
    """Stands for both trackers, whatever their number of runs; `fail_in` is the call that raises.

    begun:    what it was told of each part of a run, and the id that it was to go on with
    shown:    updates and figures, as they came
    finished: how each part ended, and with what
    """

    fail_in: str = ""
    id: str = "one"
    where: str = "nowhere"
    begun: list[tuple[TrackedRun, str]] = field(default_factory=list)
    shown: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    finished: list[tuple[Status, dict[str, float]]] = field(default_factory=list)

    def begin(self, run: TrackedRun, known: str) -> "Recorder":
        self._fail("begin")
        self.begun.append((run, known))
        return self

    def log(self, update: int, figures: Mapping[str, float]) -> None:
        self._fail("log")
        self.shown.append((update, dict(figures)))

    def finish(self, status: Status, final: Mapping[str, float]) -> None:
        self._fail("finish")
        self.finished.append((status, dict(final)))

    def _fail(self, call: str) -> None:
        if call == self.fail_in:
            raise ConnectionError(f"no route in {call}\nand more")

    def updates(self, figure: str) -> list[int]:
        """When a figure was shown, in order."""
        return [update for update, figures in self.shown if figure in figures]


def record(monkeypatch: pytest.MonkeyPatch, recorder: Recorder, name: str = "wandb") -> Recorder:
    """Let a recorder stand for the tracker of that name; all packages count as installed."""
    monkeypatch.setitem(tracking.BEGIN, name, recorder.begin)
    monkeypatch.setattr(tracking, "find_spec", lambda name: SimpleNamespace(origin="here"))
    return recorder
