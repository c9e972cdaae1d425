"""What lies in a store: each run with its state, finished or not."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from benchmarks.running.claim import CLAIM, RECIPE
from benchmarks.running.collecting import warn
from benchmarks.running.lease import Owner, find_owner
from results import ResultsError, read_record
from results.store import RECORD, find_directories

_END_OF_LOG = 64 << 10
"""Bytes of a log that its last line is looked for in."""

State: TypeAlias = Literal["finished", "unfinished", "at work", "broken"]


@dataclass(frozen=True)
class Run:
    """One run's directory.

    detail:  how far it is, who is at work on it, or what is broken
    place:   task, data set, backbone, seed and key, as its path has them
    bytes:   of all its files
    changed: when a file of it was last written
    loss:    the last one in its log
    """

    directory: Path
    state: State
    detail: str
    place: tuple[str, str, str, str, str]
    bytes: int
    changed: datetime
    loss: float | None
    owner: Owner | None


def find_all_runs(root: Path) -> list[Run]:
    """Every run below a directory, by path. Raises ResultsError if there is no such directory."""
    return [_describe(directory) for directory in find_directories([root], (RECORD, RECIPE, CLAIM), warn)]


def files_of(directory: Path) -> list[tuple[Path, int, float]]:
    """Each file below, with its size in bytes and when it was written; what vanishes meanwhile is not missed."""
    found = []
    for path in directory.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                found.append((path, status.st_size, status.st_mtime))
        except OSError:
            continue
    return found


def _describe(directory: Path) -> Run:
    files, owner, log = files_of(directory), find_owner(directory / CLAIM), _read_log(directory)
    state, detail = _state(directory, owner, log)
    seed, _, key = directory.name.removeprefix("seed").partition("-")
    task, dataset, backbone = directory.parts[-4:-1] if len(directory.parts) > 3 else ("", "", "")
    written = [time for path, _, time in files if path.name != CLAIM] or [directory.stat().st_mtime]
    return Run(
        directory=directory,
        state=state,
        detail=detail,
        place=(task, dataset, backbone, seed, key),
        bytes=sum(size for _, size, _ in files),
        changed=datetime.fromtimestamp(max(written)).astimezone(),
        loss=log[-1]["loss"] if log else None,
        owner=owner,
    )


def _state(directory: Path, owner: Owner | None, log: list[dict[str, Any]]) -> tuple[State, str]:
    if owner and owner.lives:
        return "at work", owner.name
    if (directory / RECORD).exists():
        try:
            read_record(directory)
        except ResultsError as error:
            return "broken", str(error)
        return "finished", ""
    try:
        recipe = yaml.safe_load((directory / RECIPE).read_text(encoding="utf-8"))
        progress = _progress(recipe, log)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        return "broken", f"{directory / RECIPE}: cannot be read as a run's settings: {' '.join(str(error).split())}"
    silent = f"; {owner.name} had it, and has given no sign of life" if owner else ""
    return "unfinished", progress + silent


def _progress(recipe: Mapping[str, Any], log: list[dict[str, Any]]) -> str:
    """How many updates of the weights are done, as far as the log has come, and how many are to be made.

    How many updates an epoch has is known from the log alone. A log that counts steps only says nothing of updates
    where gradients accumulate; then it is epochs that are told.
    """
    schedule = recipe["schedule"]
    iterations, epochs = schedule.get("iterations"), schedule.get("epochs")
    if not log:
        return f"update 0 of {iterations:,}" if iterations else f"epoch 0 of {epochs:,}"
    last = log[-1]
    accumulates = bool(recipe.get("runtime", {}).get("batch_per_device"))
    updates = last.get("update", None if accumulates else last["iteration"])
    if updates is None:
        return f"epoch {last['epoch']:,.1f}" + (f" of {epochs:,}" if epochs else f", {iterations:,} updates in all")
    return f"update {updates:,} of {iterations or round(updates / last['epoch'] * epochs):,}"


def _read_log(directory: Path) -> list[dict[str, Any]]:
    """The last whole line of the log, in a list; no entry where there is none."""
    try:
        with (directory / "log.jsonl").open("rb") as file:
            file.seek(-min(_END_OF_LOG, file.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"loss", "iteration", "epoch"} <= entry.keys():
            return [entry]
    return []
