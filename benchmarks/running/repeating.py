"""What a repeated command finds: a run that has finished, what has changed since, or which run it is to begin or go on.

The runs of one key lie in seed<N>-<key>, seed<N>-<key>.2, .3, …; of those that have finished the latest one stands for
it, as `results.latest` has it.
"""

import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from backbones.objectives import build_objective, find_objective
from backbones.plugins import files_beside
from backbones.pretraining.settings import ObjectiveRecipe, PretrainingRecipe
from backbones.registry import BackboneEntry, build_backbone
from benchmarks.running.collecting import warn
from results import Record, ResultsError, cell_key, read_record, runs_of_cell
from results.code import PACKAGES, code_digest, sources_digest
from results.latest import latest_run
from results.record import deciding_versions
from results.store import RECORD, is_there

IfChanged = Literal["keep", "rerun", "fail"]


@dataclass(frozen=True)
class Repeat:
    """What a call does where it finds its run finished: nothing, unless it is to be run anew.

    rerun:      run it anew in any case
    if_changed: what to do where code, model or libraries have changed since; "fail" keeps the run and says no
    """

    rerun: bool = False
    if_changed: IfChanged = "keep"

    def is_failed_by(self, finished_before: bool, changes: Sequence[str]) -> bool:
        """Whether the call is to say no, because it found a finished run that is not of today's code."""
        return self.if_changed == "fail" and finished_before and bool(changes)


@dataclass(frozen=True)
class Code:
    """What a run is made with: digests of backbench's sources, and of a model from elsewhere, empty for none."""

    code: str
    model_code: str = ""

    @classmethod
    def of(cls, entry: BackboneEntry | None = None) -> "Code":
        """This process's, to run that backbone. Raises InputError if it is another author's and cannot be built."""
        if entry is None:
            return cls(code_digest())
        build = partial(build_backbone, entry, None, 0.0)
        return cls(code_digest(), _model_code(entry.name, entry.build, build, entry.registered_by, entry.steps))

    @classmethod
    def of_pretraining(cls, recipe: PretrainingRecipe) -> "Code":
        """This process's, to pre-train under that recipe. Raises InputError as `build_objective` does."""
        if not isinstance(recipe, ObjectiveRecipe):
            return cls(code_digest())
        settings, objective = recipe.model, find_objective(recipe.model.arch)
        build = partial(build_objective, objective, settings.image_size, settings.own)
        return cls(code_digest(), _model_code(objective.name, objective.build, build, objective.registered_by))

    def with_versions(self) -> dict[str, str]:
        """What decides a number beside the settings, by name, as notes and messages have it."""
        return {"backbench's code": self.code, "the model's code": self.model_code, **deciding_versions()}


@dataclass(frozen=True)
class Standing:
    """How it stands with a cell.

    directory, run: of the run that is to be begun or gone on, or of the one that has finished
    finished:       its record, where there is nothing to do
    changes:        what is not as it was for the latest finished run, a line each
    """

    directory: Path
    run: int
    finished: Record | None = None
    changes: tuple[str, ...] = ()


def find_standing(
    first: Path, repeat: Repeat, code: Code, earlier: Callable[[], tuple[Path, Record] | None]
) -> Standing:
    """Which run of the cell whose first run's directory is `first` a call finds finished, goes on with, or begins.

    `earlier` looks for a finished run that an earlier version left elsewhere. A run that has begun is gone on with
    before another begins, so all processes of a job, and whoever repeats an interrupted rerun, come to the same.
    Raises ResultsError for a last record that can't be read.
    """
    runs = runs_of_cell(first)
    finished = [number for number, directory in runs.items() if is_there(directory / RECORD)]
    latest = latest_run(_read_finished([runs[number] for number in finished])) if finished else earlier()
    last = max(runs, default=0)
    number = last if last and last not in finished else last + 1
    begun = Standing(first.with_name(f"{first.name}.{number}") if number > 1 else first, number)
    if latest is None:
        return begun
    directory, record = latest
    changes = changes_since(record, code)
    if repeat.rerun or (changes and repeat.if_changed == "rerun"):
        return Standing(begun.directory, begun.run, changes=changes)
    return Standing(directory, record.run, record, changes)


def _read_finished(directories: Sequence[Path]) -> list[tuple[Path, Record]]:
    """Runs with their records; of those before the last, what can't be read is named and passed over."""
    found = [(directories[-1], read_record(directories[-1]))]
    for directory in directories[:-1]:
        try:
            found.append((directory, read_record(directory)))
        except ResultsError as error:
            warn(error)
    return found


def changes_since(record: Record, code: Code | None = None) -> tuple[str, ...]:
    """What of a run's code and libraries is not as it is now, a line each; without `code`, of all but its model's."""
    code = code or Code(code_digest(), record.model_code)
    now = code.with_versions()
    then = {"backbench's code": record.code, "the model's code": record.model_code, **record.versions}
    return tuple(
        f"{name} {then.get(name) or 'not recorded'} then, {now.get(name) or 'none'} now"
        for name in dict.fromkeys([*now, *then])
        if then.get(name, "") != now.get(name, "")
    )


def _model_code(
    name: str,
    function: Callable[..., object],
    build: Callable[[], nn.Module],
    registered_by: str = "",
    steps: Sequence[Callable[..., object]] = (),
) -> str:
    """A digest of all modules below the package that a model of another author comes from, and of its tensors' names
    and shapes; empty for models of backbench's own and of timm, whose versions are known.

    function:      what its author wrote
    build:         what calls that
    registered_by: the module of the plug-in that registered it, "" for none; modules beside it count too, and those of
                   the readers among `steps`
    """
    known = ("", *PACKAGES, "timm")
    module = name.partition(":")[0] if ":" in name else _module_of(function) or "__main__"
    modules = [module, registered_by, *(_module_of(step) or "" for step in steps)]
    packages = [
        package for package in dict.fromkeys(each.partition(".")[0] for each in modules) if package not in known
    ]
    if not packages:
        return ""
    tensors = build().state_dict()
    places = [place for package in packages for place in _places(package)]
    if registered_by:
        found = tuple(places)
        places += [
            place for place in _beside(registered_by) if not any(Path(place).is_relative_to(known) for known in found)
        ]
    return cell_key(
        {
            "sources": sources_digest(Path(place) for place in places),
            "tensors": [[name, list(tensor.shape)] for name, tensor in tensors.items() if isinstance(tensor, Tensor)],
        }
    )


def _places(package: str) -> list[str]:
    with suppress(ValueError):  # there are none of a script's own functions
        if spec := importlib.util.find_spec(package):
            return list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    return []


def _beside(module: str) -> list[str]:
    """The files that came with a plug-in that is a single file, but for Python's, installed ones and backbench's."""
    folder = Path(getattr(sys.modules.get(module), "__file__", None) or "").parent
    others = {"site-packages", *PACKAGES}
    python = sysconfig.get_path("stdlib")
    beside = (file for file in files_beside(module) if not file.is_relative_to(python))
    return [str(file) for file in beside if not others & {*file.relative_to(folder).parts}]


def _module_of(build: Callable[..., object]) -> str | None:
    """Where a function was written that may be wrapped, or have some of its arguments filled in."""
    while isinstance(build, partial):
        build = build.func
    module: str | None = getattr(inspect.unwrap(build), "__module__", None)
    return module
