"""What a tracker is told of a run, and what it has to be able to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers show it.

    trackers:  which of them show it
    group:     together with what it is looked at
    settings:  all that is known of it before it begins, in sections
    directory: the run's
    store:     where a tracker may keep what it keeps of all runs
    """

    trackers: tuple[str, ...]
    name: str
    group: str
    settings: Mapping[str, Any]
    directory: Path
    store: Path


class Tracker(Protocol):
    """One tracker's view of a run. All that goes wrong with it may be raised."""

    @property
    def id(self) -> str:
        """By which it finds the run again."""

    @property
    def where(self) -> str:
        """In words, where the run is shown."""

    def log(self, update: int, figures: Mapping[str, float]) -> None:
        """Show figures as they are after so many updates."""

    def finish(self, status: Status, final: Mapping[str, float]) -> None:
        """End, with what came out of the run, if anything did."""


Begin = Callable[[TrackedRun, str], Tracker]
"""Begins with a run, or goes on with the one of that id, where the tracker has it."""
