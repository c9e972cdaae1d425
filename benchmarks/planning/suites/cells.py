"""A suite's cells: what each is, where its number stands, what it needs and what of that is missing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from backbones.weights.origin import Declared
from backbones.weights.published import Cell as PublishedCell
from backbones.weights.published import published
from benchmarks.planning.cells import PlannedCell
from tasks.registry import PRETRAINING


@dataclass(frozen=True)
class SuiteCell:
    """One cell of a suite: a run, planned, and what the suite says of it.

    name:       of letters, digits and _ . + -, unique in the suite
    comparison: which of the suite's it is of; empty for a pre-training
    backbone:   as the suite calls it; empty for a pre-training
    dataset:    what the site is asked for
    planned:    the run; where data or weights are missing, with paths that do not exist
    table:      of the paper's, with `method`, `pretrain_data` and `column` the place of its number
    expected:   the published number, by metric
    needs:      the cell whose weights it takes, if those come of a pre-training of the suite
    weights:    by which name the site knows its weights; empty where it takes none
    runtime:    settings of `runtime` that the site has for it
    missing:    what has to be there first, in words
    place:      where in the suite it stands: "paper.yaml, line 33"
    """

    name: str
    comparison: str
    backbone: str
    recipe: str
    overrides: tuple[str, ...]
    dataset: str
    planned: PlannedCell
    plugins: tuple[Path, ...] = ()
    table: str = ""
    method: str = ""
    pretrain_data: str = ""
    column: str = ""
    expected: Mapping[str, float] = field(default_factory=dict)
    needs: str = ""
    weights: str = ""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    place: str = ""

    @property
    def task(self) -> str:
        return self.planned.recipe.task

    @property
    def seed(self) -> int:
        return self.planned.seed

    @property
    def published(self) -> PublishedCell | None:
        """What is known of public weights for its place in the paper's tables."""
        place = (self.table, self.method, self.pretrain_data, self.column)
        return next((cell for cell in published().cells if tuple(cell.place) == place), None)

    def with_weights(self, path: Path) -> "SuiteCell":
        """The cell once the weights that it waits for are there."""
        return replace(self, planned=replace(self.planned, checkpoint=path))

    def arguments(self, out: Path) -> list[str]:
        """Those of `backbench` that carry it out, with runs in `out`."""
        planned, declared = self.planned, self.planned.declared or Declared()
        options: list[tuple[str, object]] = [("--recipe", _recipe(self.recipe)), ("--data", planned.data)]
        if planned.recipe.task != PRETRAINING:
            options.append(("--backbone", _reference(planned)))
            named = (("--method", declared.method), ("--pretrain-data", declared.pretrain_data))
            options += [pair for pair in (*named, ("--model", declared.model)) if pair[1] is not None]
        options += [("--out", out), ("--seed", planned.seed)]
        settings = {f"runtime.{key}": value for key, value in self.runtime.items()}
        options += [("--set", text) for text in (*self.overrides, *as_overrides(settings))]
        options += [("--plugin", path.absolute()) for path in self.plugins]
        command = "pretrain" if planned.recipe.task == PRETRAINING else "run"
        return [command, *(str(part) for pair in options for part in pair)]


def _recipe(recipe: str) -> str:
    """A recipe as it is found from any folder."""
    return str(Path(recipe).absolute()) if recipe.endswith((".yaml", ".yml")) else recipe


def _reference(planned: PlannedCell) -> str:
    if planned.checkpoint is None:
        return planned.backbone
    part = f"::{planned.part}" if planned.part else ""
    return f"{planned.backbone}={planned.checkpoint}{part}"


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as `--set` takes them."""
    return [f"{key}={_as_text(value)}" for key, value in settings.items()]


def _as_text(value: Any) -> str:
    """A value that is read as what it is: text that looks like a number or a list stays text."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        is_plain = yaml.safe_load(value) == value
    except yaml.YAMLError:
        is_plain = False
    return value if is_plain else json.dumps(value)
