"""One run, from the command's arguments to its record: which directory, whether it is done, what it says of itself."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from backbones.errors import InputError
from backbones.mae.pretraining import PretrainingRecipe, name_images, pretrain
from backbones.registry import find_backbone, require_checkpoint
from backbones.training.job import Outcome
from backbones.training.machine import device_type, process_rank
from backbones.training.precision import resolve_precision
from backbones.training.settings import Recipe, deciding_settings
from backbones.weights.checkpoints import file_sha256, read_checkpoint
from benchmarks.planning.recipe import FINE_TUNING, LoadedRecipe, load_recipe, module_of
from results import (
    Metric,
    Record,
    cell_key,
    environment,
    find_records,
    read_record,
    run_directory,
    write_atomically,
    write_record,
    write_results_csv,
)
from tasks.datasets.naming import NamedData
from tasks.intervals import metrics_with_intervals
from tasks.outcome import TaskOutcome

LOCK, RECIPE, RESULTS = ".lock", "recipe.yaml", "results.csv"

WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What makes a run stop that could write at its beginning; Python often does not know of which file."""

IMAGE_SIZE_OF_COLUMN = {"ViT-B": 224, "ViT-L": 224, "ViT-H": 224}
"""The image size that a column of the classification tables stands for; at another, it is named "ViT-H-448"."""


@dataclass(frozen=True)
class FinishedCell:
    """A cell's directory and record, and whether this call had anything left to do."""

    directory: Path
    record: Record
    skipped: bool


@dataclass(frozen=True)
class Cell:
    """All that decides one run, and where it lies."""

    recipe_name: str
    recipe: Recipe
    deviations: list[str]
    data: NamedData
    backbone: str
    seed: int
    key: str
    directory: Path


def parse_backbone(argument: str) -> tuple[str, Path | None]:
    """Split `NAME` or `NAME=CHECKPOINT`. Raises InputError where one of the two is empty."""
    name, equals, path = argument.partition("=")
    if not name or (equals and not path):
        raise InputError(f"--backbone {argument}: expected NAME or NAME=CHECKPOINT, for example mae_vit_base=FILE.pth")
    return name, Path(path) if equals else None


def run_pretraining(recipe: str, data: Path, out: Path, *, seed: int, overrides: list[str]) -> FinishedCell:
    """Pre-train, or go on, or find it done. Raises InputError for anything wrong with the call or its input."""
    loaded = load_recipe(recipe, overrides, {"pretraining"})
    settings = loaded.recipe
    assert isinstance(settings, PretrainingRecipe)
    cell = _cell(loaded, settings, name_images(settings.dataset, data), settings.model.arch, None, out, seed)
    if finished := _already_finished(cell, out):
        return finished
    with _occupied(cell, out):
        model = pretrain(settings, data, cell.directory, seed=seed, pretrain_data=cell.data.name)
        metric = Metric(name="reconstruction_loss", value=model.outcome.train_loss, split="train")
        about = {
            "method": "MAE",
            "pretrain_data": cell.data.name,
            "model": settings.model.arch,
            "arch": settings.model.arch,
            "checkpoint_sha256": file_sha256(model.encoder),
        }
        return _finish(cell, out, [metric], model.outcome, **about)


def run_task(recipe: str, data: Path, backbone: str, out: Path, *, seed: int, overrides: list[str]) -> FinishedCell:
    """Fine-tune and evaluate, or go on, or find it done. Raises InputError for a wrong call or input."""
    loaded = load_recipe(recipe, overrides, FINE_TUNING)
    name, file = parse_backbone(backbone)
    checkpoint = read_checkpoint(file) if file else None
    entry = find_backbone(name, with_checkpoint=checkpoint is not None)
    require_checkpoint(entry, checkpoint is not None)
    settings: Any = loaded.recipe
    task = module_of(settings.task)
    sha256 = checkpoint.sha256 if checkpoint else None
    data_set = task.name_data_set(settings, data)
    meant_for = find_backbone(settings.model.arch).model
    cell = _cell(loaded, settings, data_set, name, sha256, out, seed)
    if entry.model != meant_for:
        cell.deviations.append(f"model={entry.model} (reference {meant_for})")
    if finished := _already_finished(cell, out):
        return finished
    with _occupied(cell, out):
        outcome: TaskOutcome = task.fine_tune(settings, data, name, checkpoint, cell.directory, seed=seed)
        if process_rank() == 0:
            _write_per_image(cell.directory, outcome)
        about = {
            "method": entry.method,
            "pretrain_data": (checkpoint and checkpoint.extras.get("pretrain_data")) or entry.pretrain_data,
            "model": column_name(settings.task, entry.model, settings.model.image_size),
            "arch": entry.arch,
            "checkpoint_sha256": sha256,
            "per_class": outcome.per_class,
            "load_report": asdict(outcome.load_report) if outcome.load_report else None,
            "unreadable": outcome.unreadable,
            "notes": outcome.notes,
        }
        return _finish(cell, out, metrics_with_intervals(outcome), outcome.training, **about)


def column_name(task: str, model: str, image_size: int) -> str:
    """The table column of a model; of a classifier also at which image size: "ViT-H" at 224, "ViT-H-448" at 448."""
    if task != "classification":
        return model
    usual = IMAGE_SIZE_OF_COLUMN.get(model, image_size)
    return model if image_size == usual else f"{model}-{image_size}"


def _cell(
    loaded: LoadedRecipe, recipe: Recipe, data: NamedData, backbone: str, sha256: str | None, out: Path, seed: int
) -> Cell:
    resolved = recipe.model_copy(update={"precision": resolve_precision(recipe.precision, device_type())})
    deciding = {
        "recipe": deciding_settings(resolved) | {"dataset": data.name},
        "backbone": backbone,
        "checkpoint": sha256,
        "data": data.fingerprint,
        "seed": seed,
    }
    key = cell_key(deciding)
    directory = run_directory(out, recipe.task, data.name, backbone, seed, key)
    return Cell(loaded.name, resolved, loaded.deviations(recipe), data, backbone, seed, key, directory)


def _already_finished(cell: Cell, out: Path) -> FinishedCell | None:
    if not (cell.directory / "record.json").is_file():
        return None
    record = read_record(cell.directory)
    results = out / RESULTS
    stale = not results.exists() or results.stat().st_mtime < (cell.directory / "record.json").stat().st_mtime
    if stale and process_rank() == 0:
        _collect(out)
    return FinishedCell(cell.directory, record, skipped=True)


def _collect(out: Path) -> None:
    write_results_csv(out / RESULTS, (found for _, found in find_records([out])))


@contextmanager
def _occupied(cell: Cell, out: Path) -> Iterator[None]:
    """Keep a second call from training the same cell at the same time, and put its recipe there."""
    if process_rank() != 0:
        yield
        return
    try:
        cell.directory.mkdir(parents=True, exist_ok=True)
        lock = (cell.directory / LOCK).open("w")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written to ({error.strerror}). Choose another directory") from error
    with lock:
        os.register_at_fork(after_in_child=lock.close)  # loader processes would hold it on after a kill
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{cell.directory}: another process is at work on this run. Wait for it") from error
        text = yaml.safe_dump(cell.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        try:
            write_atomically(cell.directory / RECIPE, text)
            yield
        except OSError as error:
            if error.errno not in WRITE_FAILURES:
                raise
            raise InputError(
                f"{error.filename or cell.directory}: cannot be written ({error.strerror}). Make room and repeat the "
                "command: it goes on from the last checkpoint"
            ) from error
        finally:
            _remove_if_nothing_came_of_it(cell.directory, out)


def _remove_if_nothing_came_of_it(directory: Path, out: Path) -> None:
    """Take back the directories below `out` of a call that failed before it began to train."""
    if {path.name for path in directory.iterdir()} <= {LOCK, RECIPE}:
        shutil.rmtree(directory)
        with suppress(OSError):  # the first that is not empty
            for parent in directory.parents:
                if parent == out:
                    break
                parent.rmdir()


def _write_per_image(directory: Path, outcome: TaskOutcome) -> None:
    outcome.write(directory)
    if not outcome.per_image:
        return
    frame = pd.DataFrame({"image": outcome.image_names, **outcome.per_image}).drop(columns="numbers")
    write_atomically(directory / "per_image.csv", frame.to_csv(index=False))


def _finish(cell: Cell, out: Path, metrics: list[Metric], training: Outcome, **about: Any) -> FinishedCell:
    unreadable = training.corrupt | about.pop("unreadable", {})
    record = Record(
        task=cell.recipe.task,
        dataset=cell.data.name,
        metrics=metrics,
        backbone=cell.backbone,
        seed=cell.seed,
        recipe=cell.recipe_name,
        recipe_settings=cell.recipe.model_dump(mode="json"),
        deviations=cell.deviations,
        key=cell.key,
        train_loss=training.train_loss,
        data_fingerprint=cell.data.fingerprint,
        corrupt_images=[f"{path}: {why}" for path, why in sorted(unreadable.items())],
        train_images_per_second=training.images_per_second,
        peak_memory_mb=training.peak_memory_mb,
        wall_seconds=training.seconds,
        world_size=training.processes,
        precision=training.precision,
        notes=[*cell.data.notes, *about.pop("notes", [])],
        **about,
        **environment(training.device),
    )
    if process_rank() == 0:
        write_record(cell.directory, record)
        _collect(out)
    return FinishedCell(cell.directory, record, skipped=False)
