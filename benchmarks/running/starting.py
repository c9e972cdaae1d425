"""With what a run begins: what its first start settled, a later one keeps, or says that it is another."""

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml

from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.training.checkpointing import last_update
from backbones.training.compiling import require_compiler
from backbones.training.job import accumulation_steps
from backbones.training.machine import choose_device, device_name, device_type, meet_processes, process_count
from backbones.training.precision import resolve_precision
from backbones.training.settings import Recipe, TrainingRecipe
from backbones.training.trackers.tracking import require_trackers
from benchmarks.planning.recipe import load_recipe
from benchmarks.running.claim import CODE, RECIPE
from benchmarks.running.repeating import Code
from benchmarks.running.writing import write_text
from tasks.registry import evaluates_in_fp32


def meet(recipe: str, overrides: list[str], tasks: Collection[str]) -> None:
    """Meet the job's other processes, all to run on the device that the recipe, of one of these tasks, wants.

    Raises InputError, the same in all of them, for a recipe that one cannot read, and as `choose_device`,
    `require_trackers` and, where a network is to be compiled, `require_compiler` do.
    """
    complaint = ""
    try:
        runtime = load_recipe(recipe, overrides, tasks).recipe.runtime
        choose_device(runtime.device)
        if runtime.compile:
            require_compiler(device_type())
        require_trackers(runtime.trackers)
    except InputError as error:
        complaint = str(error)
    meet_processes(complaint)


def settle_precision(recipe: Recipe, directory: Path) -> tuple[str, tuple[str, ...]]:
    """What `precision: auto` means for the run in `directory`: what it began with, else what this machine is fast at.

    Returns a remark too, if this machine would have taken another. Raises InputError for fp16 without a GPU and for a
    recipe.yaml that can't be read.
    """
    here = resolve_precision(recipe.precision, device_type())
    kept = _precision_in(directory / RECIPE) if recipe.precision == "auto" else here
    if kept in (None, here):
        return here, ()
    return kept, (f"goes on in {kept}, as it began; precision auto is {here} on this machine",)


def _precision_in(path: Path) -> str | None:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(settings["precision"])
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return None
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}), so the precision that the run began with is not known. Set "
            "precision=fp32 or another, or delete the run's directory to begin anew"
        ) from error


def tell_start(directory: Path, recipe: Recipe, normalisation: Normalisation) -> None:
    """Print a run's first line: on what it runs, how an update's images are shared out, where, and from which update.

    Raises InputError as `accumulation_steps` does.
    """
    if not isinstance(recipe, TrainingRecipe):
        line = f"probes: {device_name()}; {recipe.precision}; normalisation {normalisation}; in {directory}"
        print(line, file=sys.stderr, flush=True)
        return
    processes, batch, done = process_count(), recipe.optimizer.batch_size, last_update(directory)
    steps = accumulation_steps(recipe, processes)
    shares = f"{processes} × {batch // processes // steps} × {steps} (processes × images each × accumulation)"
    line = (
        f"{'goes on' if done else 'starts'}: {device_name()}; {processes} process{'es' if processes > 1 else ''}; "
        f"{recipe.precision}; batch {batch} = {shares}; normalisation {normalisation}; in {directory}; from "
        f"{f'update {done}' if done else 'the beginning'}"
    )
    print(line, file=sys.stderr, flush=True)


def tell_evaluation(directory: Path, recipe: Recipe, normalisation: Normalisation, limit: int | None) -> None:
    """Print the first line of an evaluation: on what it runs, of how many images, where."""
    processes = process_count()
    images = f"{limit:,} of the images" if limit else "all images"
    precision = "fp32" if evaluates_in_fp32(recipe.task) else recipe.precision
    line = (
        f"evaluates: {device_name()}; {processes} process{'es' if processes > 1 else ''}; {precision}; "
        f"{images}; normalisation {normalisation}; in {directory}"
    )
    print(line, file=sys.stderr, flush=True)


def note_code(directory: Path, code: Code) -> list[str]:
    """Write down with which code and libraries a run begins or goes on. Returns what has changed meanwhile, for notes.

    The record names the last; a run that was resumed under other code has them all in its notes.
    """
    path = directory / CODE
    now = code.with_versions()
    try:
        parts = [dict(part) for part in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
    except (ValueError, TypeError):
        write_text(path, json.dumps([now], indent=2) + "\n")
        return [f"{CODE} could not be read: with which code and libraries the run began is not known"]
    if not parts or parts[-1] != now:
        parts.append(now)
        write_text(path, json.dumps(parts, indent=2) + "\n")
    names = dict.fromkeys(name for part in parts for name in part)
    stated = {name: [part.get(name) or "none" for part in parts] for name in names}
    changed = {name: of for name, of in stated.items() if len({*of}) > 1}
    return [f"resumed under other code: {name} {' then '.join(_runs(of))}" for name, of in changed.items()]


def _runs(values: list[str]) -> list[str]:
    return [value for before, value in zip([None, *values], values, strict=False) if value != before]


def tell(directory: Path, remarks: Sequence[str]) -> None:
    """Say at the start what the record will note."""
    for remark in remarks:
        print(f"backbench: {directory}: {remark}", file=sys.stderr)
