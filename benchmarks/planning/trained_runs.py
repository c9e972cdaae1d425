"""Finding what a run has trained: behind its folder, the file in it, or a copy of that file elsewhere."""

import re
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbones.errors import DataError, InputError
from backbones.images.normalisation import IMAGENET
from backbones.trained.file import WEIGHTS, Description, read_description
from backbones.weights.references import split_part
from results import Record, ResultsError, read_record
from results.store import RECORD, find_directories, is_there
from tasks.registry import PRETRAINING

_RECIPE = "recipe.yaml"

_OF_THE_RUN = {
    *("backbone", "arch", "dataset", "data_fingerprint", "seed", "recipe", "key", "deviations", "precision"),
    *("method", "pretrain_data", "model", "checkpoint", "checkpoint_sha256", "checkpoint_part", "backbench_version"),
}

_PARTS = {
    "classification": "model.network",
    "detection": "model.detector",
    "segmentation": "model",
    PRETRAINING: "model.network",
}
"""Where a run's checkpoint, by its task, has the network that it trained."""

_CHECKPOINT = r"iteration_(\d+)\.pth"
_LISTED = 6


@dataclass(frozen=True)
class FoundNetwork:
    """The file of a network, the part of it that is meant, and what is known of it if a run of ours trained it."""

    file: Path
    part: str = ""
    known: Description | None = None


def run_of(record: Record) -> dict[str, Any]:
    """How a record calls its run, as the header of its weights has it."""
    return record.model_dump(mode="json", include=_OF_THE_RUN)


def find_trained(path: Path) -> FoundNetwork:
    """What lies behind a path: of a finished run its weights, or its last checkpoint where those cannot be read or an
    earlier version, which left none, made it.

    Raises InputError for what is not there, for a run that has not finished or whose record is another's, and for a
    folder of runs, which it lists.
    """
    if not path.is_dir():
        if not path.exists():
            file, part = split_part(path)
            if part and file.exists():
                return FoundNetwork(file, part)
            raise InputError(f"{path}: no such file or folder. Expected a finished run's folder, or a file of weights")
        _refuse_checkpoint(path)
        return FoundNetwork(path, known=_with_record(path, read_description(path)))
    weights = path / WEIGHTS
    if is_there(path / RECORD):
        record = _read_record(path)
        if record.trained:
            raise InputError(
                f"{path}: holds an evaluation alone, no weights. Give the run that trained them, with the key "
                f"{record.trained}, or the file that was evaluated"
            )
        return _of_run(path, record) if weights.is_file() else _of_earlier(path, record)
    if (path / _RECIPE).is_file():
        raise InputError(f"{path}: this run has not finished. Repeat its command, to its end")
    if weights.is_file():
        return FoundNetwork(weights, known=_described(weights))
    _refuse_store(path)
    return FoundNetwork(path)


def _refuse_checkpoint(file: Path) -> None:
    """Raise InputError for one of a run of ours, which lies in its folder: what it was trained for is told there."""
    folder, run = file.absolute().parent, file.absolute().parent.parent
    if folder.name == "checkpoints" and re.fullmatch(_CHECKPOINT, file.name) and (run / _RECIPE).is_file():
        raise InputError(f"{file}: a checkpoint of a run, to go on with its training. Give the run's folder: {run}")


def require_class_names(known: Description, path: Path) -> None:
    """Raise InputError for a network of which only its record tells, which has no classes."""
    if known.task != PRETRAINING and not known.classes:
        raise InputError(
            f"{path}: no {WEIGHTS} that can be read, and checkpoints lack the classes' names. Run it anew: repeat its "
            "command with --rerun"
        )


def _refuse_store(path: Path) -> None:
    try:
        runs = find_directories([path], (RECORD, _RECIPE), lambda error: None)
    except ResultsError:
        return
    if runs:
        listed = ", ".join(shlex.quote(str(run)) for run in runs[:_LISTED])
        more = f" and {len(runs) - _LISTED:,} more" if len(runs) > _LISTED else ""
        raise InputError(f"{path}: a folder of runs. Name one of them: {listed}{more}")


def _read_record(directory: Path) -> Record:
    try:
        return read_record(directory)
    except ResultsError as error:
        raise InputError(str(error)) from error


def _described(weights: Path) -> Description:
    description = read_description(weights)
    if description is None:
        raise DataError(
            f"{weights}: not a run's weights, or a part of them. Copy the file anew, or run it anew: repeat the "
            "run's command with --rerun"
        )
    return description


def _of_run(directory: Path, record: Record) -> FoundNetwork:
    weights = directory / WEIGHTS
    try:
        description = _described(weights)
    except DataError:
        if record.task not in _PARTS or not _checkpoints(directory):
            raise
        warnings.warn(f"{weights}: cannot be read, so the run's last checkpoint is taken instead", stacklevel=2)
        return _of_earlier(directory, record)
    return FoundNetwork(weights, known=_agreeing(weights, description, record))


def _with_record(file: Path, description: Description | None) -> Description | None:
    """What the file says, under the names that the record beside it has, if there is one."""
    if description is None or file.name != WEIGHTS or not (file.parent / RECORD).is_file():
        return description
    return _agreeing(file, description, _read_record(file.parent))


def _agreeing(file: Path, description: Description, record: Record) -> Description:
    """What the file says, under the names that the run has meanwhile. Raises DataError for another run's record."""
    metrics = {metric.name: metric.value for metric in record.metrics}
    if description.run.get("key") != record.key or description.metrics != metrics:
        raise DataError(
            f"{file}: is of the run with the key {description.run.get('key')}, and {RECORD} beside it is of another "
            f"or has other numbers: key {record.key}. One of them was copied there: put back the run's own"
        )
    return description.model_copy(update={"run": run_of(record)})


def _of_earlier(directory: Path, record: Record) -> FoundNetwork:
    """The last checkpoint of a run that has no weights, and what its record says of it, which is all but the classes.

    Raises InputError where there is none.
    """
    checkpoints = _checkpoints(directory)
    part = _PARTS.get(record.task)
    if part is None:
        raise InputError(f"{directory}: a run of {record.task}, of which no network is known here")
    if not checkpoints:
        raise InputError(
            f"{directory}: neither {WEIGHTS} nor a checkpoint is left of this run. Run it anew: repeat its command "
            "with --rerun"
        )
    known = Description(
        task=record.task,
        method=record.method,
        pretrain_data=record.pretrain_data,
        model=record.model,
        recipe=record.recipe_settings,
        classes=[],
        normalisation=record.normalisation or {name: tuple(of) for name, of in IMAGENET.as_dict().items()},
        metrics={metric.name: metric.value for metric in record.metrics},
        run=run_of(record),
    )
    return FoundNetwork(checkpoints[max(checkpoints)], part, known)


def _checkpoints(directory: Path) -> dict[int, Path]:
    """A run's checkpoints to go on from, by their iteration."""
    numbered = {path: re.fullmatch(_CHECKPOINT, path.name) for path in directory.glob("checkpoints/*.pth")}
    return {int(match[1]): path for path, match in numbered.items() if match}
