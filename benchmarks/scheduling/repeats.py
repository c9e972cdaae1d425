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
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from backbones.plugins import GROUP
from backbones.training.writing import written_whole
from benchmarks.running.collecting import RESULTS
from benchmarks.scheduling.folders import SuiteFolder, find_suites
from results.code import PACKAGES, code_digest

if TYPE_CHECKING:
    from benchmarks.planning.suites.plan import SuitePlan

FILE = "nothing-to-do.json"
"""In a suite's folder."""

_DECIDING = ("torch", "torchvision", "timm", "pydantic", "PyYAML")
"""Packages that planning asks."""

_MARGIN = 5.0
"""Seconds for which a text has to be older than the call that read it: file systems count time coarsely."""

_HOUSE = Path(__file__).resolve().parents[2]


class _NothingToDo(BaseModel):
    """What was asked of a suite and found whole, and all that this was read from.

    asked: the call, as `Call.asked` has it
    seen:  by path, what lay there, as `_look` has it
    keys:  those of its runs, which results.csv has
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: str
    cells: tuple[str, ...]
    notes: tuple[str, ...]
    beside_others: bool
    keys: tuple[str, ...]
    seen: dict[str, str]


@dataclass(frozen=True)
class Call:
    """A call of a suite, from when it began.

    options: what decides which cells it is of, and how they stand
    """

    options: Mapping[str, Any]
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def asked(self) -> str:
        """The options, where they were given, the environment, and the code that is to answer, as one text."""
        environment = {
            name: value for name, value in os.environ.items() if name == "HOME" or name.startswith("BACKBENCH_")
        }
        told = {
            "options": self.options,
            "folder": str(Path.cwd()),
            "environment": environment,
            "code": code_digest(),
            "plugins": sorted(str(entry) for entry in entry_points(group=GROUP)),
            "versions": {name: version(name) for name in _DECIDING},
        }
        return json.dumps(told, sort_keys=True, default=str)


@dataclass(frozen=True)
class Repeat:
    """A suite of which all is known to be finished."""

    folder: SuiteFolder
    cells: tuple[str, ...]
    notes: tuple[str, ...]
    beside_others: bool


def find_repeat(out: Path, call: Call) -> Repeat | None:
    """The suite of which the call asks nothing that is not done; None where it has to be planned to tell."""
    asked = None
    for folder in find_suites(out):
        try:
            known = _NothingToDo.model_validate_json((folder.path / FILE).read_bytes())
        except (OSError, ValidationError):
            continue
        asked = asked or call.asked
        if known.asked == asked and _are_listed(known.keys, out) and _is_as_seen(known.seen):
            return Repeat(folder, known.cells, known.notes, known.beside_others)
    return None


def note_nothing_to_do(plan: "SuitePlan", call: Call, seconds_to_plan: float) -> None:
    """Note that a call has left nothing to do, with all that this was read from, if that can be told by files.

    seconds_to_plan: from the call's beginning until the plan was written
    """
    from benchmarks.scheduling.finished import is_finished

    folder = SuiteFolder(plan.out, plan.name)
    if any(cell.missing for cell in plan.cells) or not _is_told_by_files(plan):
        return
    with suppress(OSError):
        written = folder.plan.stat().st_mtime  # by the file server's clock
        texts = {*_texts(plan)}
        if any(path.stat().st_mtime > written - seconds_to_plan - _MARGIN for path in texts):
            return
        runs = [run for cell in plan.cells if (run := folder.cell(cell.name).run)]
        seen = {str(path): _look(path) for path in (*texts, *_places(plan), *_outcomes(plan, folder))}
        if len(runs) < len(plan.cells) or not all(is_finished(cell, folder) for cell in plan.cells):
            return
        known = _NothingToDo(
            asked=call.asked,
            cells=tuple(cell.name for cell in plan.cells),
            notes=plan.notes,
            beside_others=plan.suite.is_of_candidate,
            keys=tuple(run.name.rpartition("-")[2] for run in runs),
            seen=seen,
        )
        with written_whole(folder.path / FILE, safe_from_power_cuts=False) as file:
            file.write(known.model_dump_json(indent=1).encode() + b"\n")


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


def _places(plan: "SuitePlan") -> Iterable[Path]:
    """Folders of data, and wherever weights are looked for, and lie."""
    for cell in plan.cells:
        yield cell.planned.data.absolute()
        if cell.weights:
            yield from ((folder / cell.weights).absolute() for folder in plan.site.folders)
        if cell.planned.checkpoint is not None and not cell.needs:
            path = cell.planned.checkpoint.absolute()
            yield from (path, *(path.rglob("*") if cell.weights and path.is_dir() else ()))


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
    """What lies there: of a small text a digest, of anything else its size and time, of a folder that it is one."""
    try:
        status = path.stat()
    except OSError:
        return "nothing"
    if path.is_dir():
        return "a folder"
    if path.suffix in (".yaml", ".yml"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def _is_as_seen(seen: Mapping[str, str]) -> bool:
    try:
        return all(_look(Path(path)) == found for path, found in seen.items())
    except OSError:
        return False


def _are_listed(keys: Iterable[str], out: Path) -> bool:
    """Whether results.csv has a row of every run."""
    try:
        listed = (out / RESULTS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return all(key in listed for key in keys)
