"""A finished evaluation, kept beside the checkpoints: a run that is killed after it does not make it again."""

import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process

from backbones.errors import InputError
from backbones.training.agreement import first_decides
from backbones.training.checkpointing import Tally, save_atomically
from backbones.training.plan import Evaluation

EVALUATION = "evaluation.pt"
PARTS = "parts"
"""The folder, among the checkpoints, of evaluations that are made one after the other and recorded together."""
COSTS = ("evaluation_seconds", "total_seconds", "peak_memory_mb")
"""What an evaluation adds to a run's tally."""

_ARRAYS: tuple[Any, ...] = (np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0], np.ndarray, np.dtype)
_NUMBERS = tuple(type(np.dtype(kind)) for kind in ("?", "u1", "i4", "i8", "f4", "f8"))
"""What numpy's arrays are made of in a file, beside what the evaluation names."""


class KeptEvaluation:
    """The last finished evaluation of the run whose checkpoints lie in `directory`.

    It belongs to the checkpoint of the same update, and is no more once the run goes on from another: the weights that
    it was of may not come again, on other devices. One that left images out is not kept: they may be readable next
    time.
    """

    def __init__(self, directory: Path, evaluation: Evaluation, tally: Tally) -> None:
        self.path, self.evaluation, self.tally = directory / EVALUATION, evaluation, tally
        self.found: dict[str, Any] | None = None

    def find(self, updates: int) -> None:
        """Look for that of the update from which all processes go on; the first one looks.

        What it took counts in the tally, which is to be that of this update's checkpoint.
        """

        def read() -> dict[str, Any] | None:
            found = self._read() if self.path.is_file() else None
            if found and found["updates"] == updates and self._is_whole(found):
                return found
            with suppress(OSError):  # whatever is wrong there is told where the first checkpoint is written
                self.path.unlink(missing_ok=True)
            return None

        self.found = first_decides(read)
        if self.found:
            for name, cost in self.found["costs"].items():
                setattr(self.tally, name, max(getattr(self.tally, name), cost))

    def _is_whole(self, found: dict[str, Any]) -> bool:
        """Whether it has all that is kept of one; an earlier version's has not."""
        return found["metric"].keys() == {*self.evaluation.kept} and found.get("costs", {}).keys() == {*COSTS}

    def _read(self) -> dict[str, Any] | None:
        known: list[Any] = [*_ARRAYS, *_NUMBERS, *self.evaluation.kept_types]
        try:
            with torch.serialization.safe_globals(known):
                content: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            warnings.warn(f"{self.path}: unreadable evaluation is made again ({reason})", stacklevel=2)
            return None
        return content

    def take(self, updates: int) -> dict[str, float] | None:
        """The metrics that were found for this update, with the metric as it was then; None if there are none."""
        found, self.found = self.found, None
        if found is None or found["updates"] != updates:
            return None
        for name, value in found["metric"].items():
            setattr(self.evaluation.metric, name, value)
        metrics: dict[str, float] = found["metrics"]
        return metrics

    def keep(self, updates: int, metrics: dict[str, float]) -> None:
        """Write down what has been evaluated at this update, if there is room. All processes have to call it."""
        metric = self.evaluation.metric
        self.tally.share_peak_memory()
        if not is_main_process() or not self.evaluation.kept or getattr(metric, "unreadable", None):
            return
        state = {name: getattr(metric, name) for name in self.evaluation.kept}
        costs = {name: getattr(self.tally, name) for name in COSTS}
        content = {"updates": updates, "metrics": metrics, "metric": state, "costs": costs}
        try:
            save_atomically(content, self.path)
        except InputError as error:
            warnings.warn(str(error), stacklevel=2)


def forget_evaluation(directory: Path) -> None:
    """Remove what a run keeps of its evaluation, once its record tells of it."""
    with suppress(OSError):  # it is passed over anyway
        (directory / "checkpoints" / EVALUATION).unlink(missing_ok=True)
    shutil.rmtree(directory / "checkpoints" / PARTS, ignore_errors=True)
