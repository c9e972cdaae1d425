"""Whether a call of a suite repeats one after which there was nothing to do, told by files alone.

Planning a suite imports PyTorch and timm, which takes longer than all else that a finished suite asks for.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from backbones.errors import InputError
from backbones.images.observing import state_of
from backbones.plugins import GROUP
from backbones.training.writing import written_whole
from backbones.weights.directories import deciding_places
from benchmarks.planning.known_weights import files_of
from benchmarks.running.collecting import are_listed
from benchmarks.scheduling.folders import SuiteFolder, find_suites
from results.code import PACKAGES, code_digest
from results.record import deciding_versions, installed_version

if TYPE_CHECKING:
    from benchmarks.planning.suites.plan import SuitePlan

FILE = "nothing-to-do.json"
"""In a suite's folder."""

_DECIDING = ("pydantic", "PyYAML")
"""Packages that planning asks, beside those that decide numbers."""

MARGIN = 5.0
"""Seconds for which all that a plan is read from has to be older than the call: file systems count time coarsely, and
not all servers by the same clock."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is asleep, where there is such a clock."""

_HOUSE = Path(__file__).resolve().parents[2]


class _NothingToDo(BaseModel):
    """What was asked of a suite and found whole, and all that this was read from.

    out:   the store's folder; a copy of a store is looked at anew
    asked: the call, as `Call.asked` has it
    roots: folders of data, and where links lead from there
    seen:  by path, what else lay there, as `_look` has it
    runs:  the names of its runs' directories, which results.csv has
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: str
    asked: str
    cells: tuple[str, ...]
    notes: tuple[str, ...]
    beside_others: bool
    runs: tuple[str, ...]
    roots: dict[str, str]
    seen: dict[str, str]


@dataclass(frozen=True)
class Call:
    """A call of a suite, from when it began.

    options: what decides which cells it is of, and how they stand
    asked:   these, where they were given, the environment, and the code that is to answer, as one text: as all that was
             when the call began
    """

    options: Mapping[str, Any]
    began: float = field(default_factory=lambda: time.clock_gettime(_CLOCK))
    asked: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asked", _all_that_is_asked(self.options))

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.clock_gettime(_CLOCK) - self.began


@dataclass(frozen=True)
class Repeat:
    """A suite of which all is known to be finished."""

    folder: SuiteFolder
    cells: tuple[str, ...]
    notes: tuple[str, ...]
    beside_others: bool


def find_repeat(out: Path, call: Call) -> Repeat | None:
    """The suite of which the call asks nothing that is not done; None where it has to be planned to tell."""
    asked = (str(out.absolute()), call.asked)
    for folder in find_suites(out):
        try:
            known = _NothingToDo.model_validate_json((folder.path / FILE).read_bytes())
        except (OSError, ValidationError):
            continue
        if (known.out, known.asked) == asked and are_listed(out, known.runs) and _is_as_seen(known.roots, known.seen):
            return Repeat(folder, known.cells, known.notes, known.beside_others)
    return None


def look_at_ground(plan: "SuitePlan", call: Call) -> Mapping[str, str] | None:
    """What a call has just read its plan from, by path, as `_look` has it.

    None where files do not tell what the plan is, or anything may have changed since it was read.
    """
    if any(cell.missing for cell in plan.cells) or not _is_told_by_files(plan):
        return None
    with suppress(OSError, InputError):
        read = {*_texts(plan), *_weights(plan)}
        paths = sorted({*read, *_places(plan)})
        seen = {str(path): _look(path) for path in paths}
        plan.out.mkdir(parents=True, exist_ok=True)
        os.utime(plan.out)
        before = plan.out.stat().st_mtime - call.seconds - MARGIN  # by the file server's clock
        if all(path.exists() for path in read) and all(_changed(path) < before for path in paths):
            return seen
    return None


def note_nothing_to_do(plan: "SuitePlan", call: Call, ground: Mapping[str, str] | None) -> None:
    """Note that a call has left nothing to do, with all that this was read from, unless any of it has changed."""
    from benchmarks.scheduling.finished import is_finished

    if ground is None:
        return
    folder = SuiteFolder(plan.out, plan.name)
    with suppress(OSError, ValueError):  # such as a path that is no UTF-8
        runs = [run for cell in plan.cells if (run := folder.cell(cell.name).run)]
        seen = {str(path): _look(path) for path in _outcomes(plan, folder)}
        data = {cell.planned.data.absolute() for cell in plan.cells}
        roots = {str(root): os.path.realpath(root) for root in sorted(data)}
        if len(runs) < len(plan.cells) or not all(is_finished(cell, folder) for cell in plan.cells):
            return
        if not _is_as_seen(roots, ground):
            return
        known = _NothingToDo(
            out=str(plan.out.absolute()),
            asked=call.asked,
            cells=tuple(cell.name for cell in plan.cells),
            notes=plan.notes,
            beside_others=plan.suite.is_of_candidate,
            runs=tuple(run.name for run in runs),
            roots=roots,
            seen={**ground, **seen},
        )
        with written_whole(folder.path / FILE, safe_from_power_cuts=False) as file:
            file.write(known.model_dump_json(indent=1).encode() + b"\n")


def _all_that_is_asked(options: Mapping[str, Any]) -> str:
    environment = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith("BACKBENCH_")}
    told = {
        "options": options,
        "folder": str(Path.cwd()),
        "environment": environment,
        "code": code_digest(),
        "plugins": sorted(str(entry) for entry in entry_points(group=GROUP)),
        "versions": deciding_versions() | {name: installed_version(name) for name in _DECIDING},
    }
    return json.dumps(told, sort_keys=True, default=str)


def _is_told_by_files(plan: "SuitePlan") -> bool:
    """Whether no code of one's own decides what the cells are."""
    if entry_points(group=GROUP) or any(":" in cell.planned.backbone for cell in plan.cells):  # MODULE:FUNCTION
        return False
    own = {_HOUSE / package for package in PACKAGES}
    files = {path.resolve() for cell in plan.cells for path in cell.plugins}
    files |= {Path(entry.value).resolve() for entry in plan.suite.plugins}
    return all(own & {*path.parents} for path in files)


def _texts(plan: "SuitePlan") -> Iterable[Path]:
    """The suite with all that it extends, the site file, and recipes."""
    from benchmarks.planning.recipe import recipe_files

    yield from plan.suite.files
    if plan.site.said_in:
        yield plan.site.said_in.absolute()
    for recipe in {cell.recipe for cell in plan.cells}:
        yield from (path.absolute() for path in recipe_files(recipe))


def _weights(plan: "SuitePlan") -> Iterable[Path]:
    """Files and folders of weights that no cell of the suite makes."""
    for cell in plan.cells:
        if cell.planned.checkpoint is not None and not cell.needs:
            yield cell.planned.checkpoint.absolute()


def _places(plan: "SuitePlan") -> Iterable[Path]:
    """Wherever suites and weights are looked for, and what lies in the folders of weights, or beside their files."""
    from benchmarks.planning.suites.suite import FOLDER

    packaged = {file.name for file in plan.suite.files if file.parent == FOLDER}
    for beside in {Path.cwd(), *(file.parent for file in plan.suite.files)}:
        yield from (beside / name for name in packaged)
    for name in {cell.weights for cell in plan.cells if cell.weights}:
        yield from ((folder / name).absolute() for folder in plan.site.folders)
    for path in {*_weights(plan)}:
        files = files_of(path)
        yield from files
        if path.is_dir():
            yield from (*deciding_places(path), *(file.parent for file in files))


def _outcomes(plan: "SuitePlan", folder: SuiteFolder) -> Iterable[Path]:
    """What has come of the cells."""
    yield folder.plan.absolute()
    for cell in plan.cells:
        of_cell = folder.cell(cell.name)
        yield from (of_cell.state.absolute(), (of_cell.path / "run").absolute())
        if run := of_cell.run:
            yield (run / "record.json").absolute()
            if any(other.needs == cell.name for other in plan.cells):
                yield (run / "checkpoints" / "encoder.pth").absolute()


def _look(path: Path) -> str:
    """What lies there: of a small text a digest, of anything else its size, times and inode."""
    state = state_of(path)
    if state and path.suffix in (".yaml", ".yml"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return " ".join(map(str, state)) or "nothing"


def _changed(path: Path) -> float:
    """When it was changed last, put there under its name included; 0 where there is nothing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0.0
    return max(status.st_mtime, status.st_ctime)


def _is_as_seen(roots: Mapping[str, str], seen: Mapping[str, str]) -> bool:
    try:
        return all(Path(root).is_dir() and os.path.realpath(root) == place for root, place in roots.items()) and all(
            _look(Path(path)) == found for path, found in seen.items()
        )
    except OSError:
        return False
