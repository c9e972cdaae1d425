"""What lies in a store: each run with its state, finished or not."""

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import yaml

from benchmarks.running.claim import CLAIM, RECIPE, evaluated, of_what
from benchmarks.running.collecting import warn
from benchmarks.running.lease import LEASE_SECONDS, Owner, find_owner
from results import Record, ResultsError, read_record
from results.record import Outline
from results.store import RECORD, find_directories, is_there

RUN_NAME = re.compile(r"seed(?P<seed>\d+)-(?P<key>[0-9a-f]+)(?:\.(?P<run>[2-9]|[1-9]\d+))?")
"""What a run's directory is called."""

SUITES = "suites"
"""The folder of a store in which suites keep their state; no run lies in it."""

_END_OF_LOG = 64 << 10
"""Bytes of a log that its last line is looked for in."""

_LOOKS = 5
"""At a run that begins, ends, or is taken back in the moment."""

_LOGGED = ("loss", "iteration", "epoch")
"""Numbers in every line of a log."""

_MOST = 1e15
"""No run has more updates."""

State: TypeAlias = Literal["finished", "unfinished", "at work", "broken"]


class Place(NamedTuple):
    """Which run it is; what is not known is empty."""

    task: str = ""
    dataset: str = ""
    backbone: str = ""
    seed: int | None = None
    key: str = ""
    run: int | None = None


@dataclass(frozen=True)
class Run:
    """One run's directory.

    detail:  how far it is, who is or was at work on it, or what is broken
    bytes:   of all its files
    changed: when a file of it was last written
    loss:    the last one in its log
    record:  None where it has not finished
    seconds_left: of training, by the speed until now; None where it is not known, or nothing is left
    """

    directory: Path
    state: State
    detail: str
    place: Place
    bytes: int
    changed: datetime
    loss: float | None
    owner: Owner | None
    record: Record | None
    seconds_left: float | None = None


@dataclass(frozen=True)
class _Look:
    """What was found at one look: a state, and what the run's place is known by."""

    state: State
    detail: str
    owner: Owner | None
    record: Record | None = None
    recipe: Any = None


def find_all_runs(root: Path) -> list[Run]:
    """Every run below a directory, by folder, seed, key and run; what vanishes meanwhile is not missed.

    Raises ResultsError if there is no such directory.
    """
    directories = find_directories([root], (RECORD, RECIPE, CLAIM), warn)
    where = root.resolve()
    found = (_describe(directory, where / directory.relative_to(root)) for directory in directories)
    return sorted(filter(None, found), key=_order)


def find_run(directory: Path) -> Run | None:
    """The run in a directory of a store; None where there is none."""
    return _describe(directory, directory.absolute())


def files_of(directory: Path) -> list[tuple[Path, int, float]]:
    """Each file below, with its size in bytes and when it was written; links are not followed, nor counted."""
    found = []
    for parent, _, names in os.walk(directory):
        for path in (Path(parent, name) for name in names):
            try:
                if not path.is_symlink():
                    status = path.stat()
                    found.append((path, status.st_size, status.st_mtime))
            except OSError:  # gone
                continue
    return found


def owner_of(directory: Path) -> Owner | None:
    """Who has or had the run's claim; None for nobody."""
    claim = directory / CLAIM
    try:
        why = why_unreadable(claim)
        if not why:
            return find_owner(claim)
        has_signed = time.time() - claim.stat().st_mtime < 2 * LEASE_SECONDS
    except FileNotFoundError:
        return None
    except OSError as error:
        why, has_signed = _reason(error), False
    return Owner(f"another process (its claim cannot be read: {why})", True if has_signed else None)


def why_unreadable(claim: Path) -> str:
    """Why nobody can tell whose a claim is, such as another user's; empty where it can be read, or is gone."""
    try:
        with claim.open("rb"):
            return ""
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _reason(error)


def finished_record(directory: Path) -> Record | None:
    """The record, where there is one that can be read."""
    try:
        return read_record(directory, Outline)
    except ResultsError:
        return None


def _order(run: Run) -> tuple[Any, ...]:
    match = RUN_NAME.fullmatch(run.directory.name)
    seed, key, number = (int(match["seed"]), match["key"], int(match["run"] or 1)) if match else (-1, "", 0)
    return run.directory.parent, seed, key, number, run.directory


def _describe(directory: Path, path: Path) -> Run | None:
    """A run's directory, whose whole path that is; None for one that has vanished."""
    files, log = files_of(directory), _read_log(directory)
    look = _look_at(directory, log)
    if look is None:
        return None
    try:
        written = [time for path, _, time in files if not path.name.startswith(CLAIM)] or [directory.stat().st_mtime]
    except OSError:
        return None
    return Run(
        directory=directory,
        state=look.state,
        detail=look.detail,
        place=_place(path, look),
        bytes=sum(size for _, size, _ in files),
        changed=datetime.fromtimestamp(max(written)).astimezone(),
        loss=log[-1]["loss"] if log else None,
        owner=look.owner,
        record=look.record,
        seconds_left=_seconds_left(log[-1]) if log and look.state in ("unfinished", "at work") else None,
    )


def _seconds_left(last: Mapping[str, Any]) -> float | None:
    done, total, seconds = last.get("update"), last.get("updates"), last.get("seconds")
    if not done or not total or not isinstance(seconds, int | float) or total <= done:
        return None
    return seconds / done * (total - done)


def _look_at(directory: Path, log: list[dict[str, Any]]) -> _Look | None:
    """The run's state; None where it has vanished. What is missing for a moment only is looked for again."""
    owner = None
    for _ in range(_LOOKS):
        owner = owner_of(directory)
        if owner and owner.lives:
            return _Look("at work", owner.name, owner, finished_record(directory), _read_recipe(directory)[0])
        try:
            record = read_record(directory, Outline)
            told = [of_what(record.trained)] if record.trained else []
            return _Look("finished", "; ".join(filter(None, (*told, _silent(directory, owner)))), owner, record)
        except ResultsError as error:
            if is_there(directory / RECORD):
                return _Look("broken", str(error), owner)
        recipe, fault = _read_recipe(directory)
        if fault:
            return _Look("broken", fault, owner)
        if recipe is not None:
            return _unfinished(directory, recipe, log, owner)
        if not any(is_there(directory / name) for name in (RECORD, RECIPE, CLAIM)):
            return None
    if owner and not log:
        return _Look("unfinished", f"not begun; {_silent(directory, owner)}", owner)
    return _Look("broken", f"{directory / RECIPE}: no such file. Repeating the run's command writes it", owner)


def _unfinished(directory: Path, recipe: Any, log: list[dict[str, Any]], owner: Owner | None) -> _Look:
    try:
        progress = evaluated(directory) or _progress(recipe, log)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        return _Look("broken", _unreadable(directory, error), owner)
    silent = _silent(directory, owner)
    return _Look("unfinished", f"{progress}; {silent}" if silent else progress, owner, recipe=recipe)


def _read_recipe(directory: Path) -> tuple[Any, str]:
    """The settings, None where there are none, and what is wrong with them."""
    try:
        return yaml.safe_load((directory / RECIPE).read_text(encoding="utf-8")), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        return None, _unreadable(directory, error) if is_there(directory / RECIPE) else ""


def _unreadable(directory: Path, error: Exception) -> str:
    return f"{directory / RECIPE}: cannot be read as a run's settings: {' '.join(str(error).split())}"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _silent(directory: Path, owner: Owner | None) -> str:
    """Who was at work on a run and has not said that it ended; empty for nobody."""
    if owner is None:
        return ""
    try:
        since = f" since {datetime.fromtimestamp((directory / CLAIM).stat().st_mtime):%Y-%m-%d %H:%M}"
    except OSError:
        since = ""
    return f"{owner.name} had it, and {'is gone' if owner.lives is False else f'has given no sign of life{since}'}"


def _place(path: Path, look: _Look) -> Place:
    """By its record, else by its path, where that is a store's; of what was moved elsewhere, by its recipe.

    A link that is not named as a run is says nothing: the path is what it leads to.
    """
    if record := look.record:
        return Place(record.task, record.dataset, record.backbone, record.seed, record.key, record.run)
    recipe = look.recipe if isinstance(look.recipe, Mapping) else {}
    if not RUN_NAME.fullmatch(path.name):
        path = path.resolve()
    above = path.parts[-4:-1]
    task, dataset, backbone = above if len(above) == 3 else ("", "", "")
    if recipe.get("task", task) != task:
        task, dataset, backbone = str(recipe["task"]), str(recipe.get("dataset", "")), ""
    match = RUN_NAME.fullmatch(path.name)
    if not match:
        return Place(task, dataset, backbone)
    return Place(task, dataset, backbone, int(match["seed"]), match["key"], int(match["run"] or 1))


def _progress(recipe: Mapping[str, Any], log: list[dict[str, Any]]) -> str:
    """How many updates of the weights are done, as far as the log has come, and how many are to be made.

    Logs of earlier versions do not say how many are to be made. That is known from the epoch where every step is an
    update, and at an epoch's end; elsewhere it is epochs that are told.
    """
    schedule = recipe["schedule"]
    iterations, epochs = schedule.get("iterations"), schedule.get("epochs")
    if not log:
        return f"update 0 of {iterations:,}" if iterations else f"epoch 0 of {epochs:,}"
    last = log[-1]
    accumulates = bool(recipe.get("runtime", {}).get("batch_per_device"))
    updates = last.get("update", None if accumulates else last["iteration"])
    total = iterations or last.get("updates")
    if total is None and updates and (updates == last["iteration"] or float(last["epoch"]).is_integer()):
        total = round(updates / last["epoch"] * epochs)
    if updates is None or total is None:
        return f"epoch {last['epoch']:,.1f}" + (f" of {epochs:,}" if epochs else f", {iterations:,} updates in all")
    return f"update {updates:,} of {total:,}"


def _read_log(directory: Path) -> list[dict[str, Any]]:
    """The last whole line of the log, in a list; no entry where there is none."""
    try:
        with (directory / "log.jsonl").open("rb") as file:
            file.seek(-min(_END_OF_LOG, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().decode("utf-8-sig", errors="replace").splitlines()
    except OSError:
        return []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and is_whole_entry(entry):
            return [entry]
    return []


def is_whole_entry(entry: dict[str, Any]) -> bool:
    """Whether a line of a log has its numbers, and nothing else in their places."""
    counts = [entry[name] for name in ("iteration", "epoch", "update", "updates") if name in entry]
    return (
        {*_LOGGED} <= entry.keys()
        and all(isinstance(value, int | float) for value in (entry["loss"], *counts))
        and abs(entry["loss"]) <= sys.float_info.max
        and all(0 <= count <= _MOST for count in counts)
        and entry["epoch"] > 0
    )
