"""The trackers of a run: fed with TensorBoard's figures, and never able to stop or change it."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.training.machine import process_rank
from backbones.training.trackers.tracker import Begin, Status, TrackedRun, Tracker
from backbones.training.writing import written_whole

LOGGED = "trackers.json"
"""In the run's directory: as what each tracker knows it, and up to which update it has been shown what."""

LONGEST_REASON = 300
"""Characters of a library's account of what went wrong."""


def require_trackers(names: Sequence[str]) -> None:
    """Raise InputError where one of these trackers is not installed."""
    for name in names:
        found = find_spec(name)
        if found is None or found.origin is None:  # without an origin it is a folder, such as wandb's own of its runs
            raise InputError(
                f'key "runtime.trackers": the package {name} is not installed. Install it with '
                "pip install 'backbench[trackers]', or leave it out of the trackers"
            )


def _wandb(run: TrackedRun, known: str) -> Tracker:
    from backbones.training.trackers.wandb_run import begin

    return begin(run, known)


def _mlflow(run: TrackedRun, known: str) -> Tracker:
    from backbones.training.trackers.mlflow_run import begin

    return begin(run, known)


BEGIN: dict[str, Begin] = {"wandb": _wandb, "mlflow": _mlflow}


class Tracking:
    """All trackers of one run. Of several processes only the first has any.

    What a tracker has been shown it is not shown again, also by a run that goes on from an earlier checkpoint, so that
    updates only ever rise there. One that fails is told of in a line, and left alone from then on.
    """

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self.open: dict[str, Tracker] = {}
        self.known: dict[str, dict[str, Any]] = {}
        self.final: dict[str, float] = {}

    def begin(self) -> None:
        """Let the trackers know of the run, or go on with what they know of it."""
        if process_rank() or self.open or not self.run.trackers:
            return
        self.known = _read(self.run.directory / LOGGED)
        for name in dict.fromkeys(self.run.trackers):
            self._begin(name)
        self._keep(list(self.open))

    def _begin(self, name: str) -> None:
        known = self.known.get(name, {})
        try:
            tracker = BEGIN[name](self.run, known.get("id", ""))
        except Exception as error:
            self._leave(name, error)
            return
        self.open[name] = tracker
        if tracker.id != known.get("id"):
            self.known[name] = {"id": tracker.id, "logged": {}}
        print(f"backbench: {self.run.directory}: {name}: {tracker.where}", file=sys.stderr, flush=True)

    def log(self, section: str, update: int, figures: Mapping[str, float]) -> None:
        """Show figures of a section, "train" or "val", as they are after so many updates."""
        due = [name for name in self.open if self._is_new(name, section, update)]
        for name in due:
            self.known[name]["logged"][section] = update
        self._keep(due)  # before they are shown: a run that is killed in between leaves one out, and repeats none
        for name in due:
            self._let(name, lambda tracker: tracker.log(update, _named(section, figures)))

    def _is_new(self, name: str, section: str, update: int) -> bool:
        logged: dict[str, int] = self.known[name]["logged"]
        return update > logged.get(section, -1) and update >= max(logged.values(), default=0)

    def finish(self, status: Status) -> None:
        """Let all trackers know how the run has ended, and with what."""
        for name in list(self.open):
            self._let(name, lambda tracker: tracker.finish(status, _named("final", self.final)))
        self.open = {}

    def _let(self, name: str, tell: Callable[[Tracker], None]) -> None:
        if name not in self.open:
            return
        try:
            tell(self.open[name])
        except Exception as error:
            self._leave(name, error)

    def _leave(self, name: str, error: Exception) -> None:
        self.open.pop(name, None)
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        print(
            f"backbench: {self.run.directory}: {name} failed ({reason}); the run goes on without it",
            file=sys.stderr,
            flush=True,
        )

    def _keep(self, due: Sequence[str]) -> None:
        """Write down what they have been shown; they fail where that cannot be written."""
        if not due:
            return
        try:
            with written_whole(self.run.directory / LOGGED, safe_from_power_cuts=False) as file:
                file.write(json.dumps(self.known, indent=2).encode() + b"\n")
        except OSError as error:
            for name in due:
                self._leave(name, error)


def _named(section: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{section}/{name}": value for name, value in figures.items()}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """What was kept; nothing of a file that is missing or broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {
                "id": str(known["id"]),
                "logged": {str(section): int(update) for section, update in known["logged"].items()},
            }
            for name, known in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


_tracked: list[Tracking] = []


@contextmanager
def tracked(run: TrackedRun) -> Iterator[Tracking]:
    """The trackers of a run, which begin when it trains, and are told at the end of the block how that came about.

    Where the run is tracked already, by a block around this one, they are that one's.
    """
    if _tracked and _tracked[-1].run.directory == run.directory:
        yield _tracked[-1]
        return
    tracking = Tracking(run)
    _tracked.append(tracking)
    try:
        yield tracking
    except BaseException as error:
        tracking.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    finally:
        _tracked.remove(tracking)
    tracking.finish("finished")


def conclude(final: Mapping[str, float]) -> None:
    """Let the trackers of the run at work, if there are any, know what came out of it, by metric."""
    for tracking in _tracked[-1:]:
        tracking.final = dict(final)
