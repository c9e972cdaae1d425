"""What commands do before they begin: import files of the user's, start processes."""

import sys
from pathlib import Path

import typer

from backbones.errors import InputError


def launch_if_wanted(processes: int | None, recipe: str, overrides: list[str], *, pretrains: bool) -> None:
    """Go on in several processes, if so many are wanted, and end as they do."""
    if processes is None:
        return
    from benchmarks.planning.recipe import load_recipe
    from benchmarks.running.launching import is_to_launch, launch, require_devices
    from tasks.registry import FROM_CHECKPOINT, PRETRAINING, TASKS

    if is_to_launch(processes):
        require_devices(processes, recipe, overrides, {PRETRAINING} if pretrains else TASKS)
        then = FROM_CHECKPOINT if pretrains else TASKS[load_recipe(recipe, overrides, TASKS).recipe.task].goes_on
        raise typer.Exit(launch(processes, sys.argv[1:], then))


def import_plugins(files: list[Path] | None, *, meets: bool = False) -> None:
    """Import files of the user's own, before anything of them is looked up.

    meets: whether the job's processes are about to meet; what one of them alone finds wrong then ends all, and is said
    """
    if not files:
        return
    from backbones.plugins import import_files

    try:
        import_files(files)
    except InputError as error:
        if meets:
            from backbones.training.machine import meet_processes

            meet_processes(str(error))
        raise
