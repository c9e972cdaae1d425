"""Where a planned run will lie: its key, found without claiming, reading images or training anything."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.images.folders import fingerprint
from benchmarks.planning.cells import PlannedCell
from results import run_directory
from tasks.data_sets import name_data_set
from tasks.datasets.identity import Contents, NamedData, draw_sample, kept_contents
from tasks.registry import PRETRAINING, TASKS


@dataclass(frozen=True)
class Foreseen:
    """A run that is to be: its key, and the directory of the first of that key."""

    key: str
    directory: Path


class Foresight:
    """Finds keys, and looks at each data set once.

    on_listing: told of a data set's root before it is looked at, which takes minutes where it is large and seen for the
                first time
    """

    def __init__(self, out: Path, on_listing: Callable[[Path], None] = lambda root: None) -> None:
        self.out, self.on_listing = out, on_listing
        self.seen: dict[tuple[str, ...], NamedData] = {}

    def of(self, plan: PlannedCell) -> Foreseen:
        """What becomes of a plan whose data and weights are there.

        Raises InputError for data and weights that do not serve.
        """
        data = self.data_of(plan)
        key = plan.key_of(data.name, data.fingerprint)
        first = run_directory(self.out, plan.recipe.task, data.name, plan.backbone, plan.seed, key)
        return Foreseen(key, first)

    def data_of(self, plan: PlannedCell) -> NamedData:
        """What the records of a plan will call its data. Raises InputError for data that do not serve."""
        recipe: Any = plan.recipe
        places = str(recipe.data) if hasattr(recipe, "data") else ""
        question = (recipe.task, recipe.dataset, str(plan.data), places)
        if question not in self.seen:
            self.on_listing(plan.data)
            if recipe.task == PRETRAINING:
                contents = identify_images(plan.data)
            else:
                contents = TASKS[recipe.task].module("task").identify_data(recipe, plan.data)
            self.seen[question] = name_data_set(recipe.dataset, plan.data, contents)
        return self.seen[question]


def identify_images(data: Path) -> Contents:
    """What tells which images a pre-training has, labels or not. Raises InputError where there are none."""

    def find() -> Contents:
        from backbones.pretraining.images import list_images

        paths = list_images(data)
        digest = fingerprint(paths, data)
        return Contents(len(paths), None, None, digest, draw_sample(digest, paths))

    return kept_contents(PRETRAINING, data, {}, find)


def tell_looking(path: Path) -> None:
    """Say on standard error, where people read, that data or weights are looked at, which may take its time."""
    if sys.stderr.isatty():
        print(f"backbench: looking at {path}", file=sys.stderr)
