"""What `backbench runs` and `backbench clean` print."""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import typer

from backbones.errors import DataError, InputError
from benchmarks.commands.sheets import Sheet, print_json, show, spell_age, spell_size
from benchmarks.running.cleaning import Waste, find_waste, remove
from benchmarks.running.inventory import Run, find_all_runs
from results import run_directory

_NUMBERS = frozenset({"size", "age", "loss"})


def show_runs(root: Path, *, as_json: bool) -> None:
    """List the runs below a directory. Raises ResultsError if there is no such directory."""
    runs = find_all_runs(root)
    if as_json:
        print_json({"runs": [_as_dict(run) for run in runs]})
        return
    show(_brief(runs) if sys.stdout.isatty() else _in_full(runs))


def _brief(runs: Sequence[Run]) -> Sheet:
    """A line a run, which the path tells the place of, with what else there is to say below it."""
    sheet = Sheet(("state", "size", "age", "loss", "directory"), numbers=_NUMBERS, is_of_paths=True)
    for run in runs:
        sheet.rows.append((run.state, *_figures(run), str(run.directory)))
        sheet.notes.append("; ".join(filter(None, (_untold(run), run.detail))))
    return sheet


def _in_full(runs: Sequence[Run]) -> Sheet:
    headings = ("state", "task", "data set", "backbone", "seed", "key", "run", "size", "age", "loss", "", "directory")
    sheet = Sheet(headings)
    for run in runs:
        place = ("" if part is None else str(part) for part in run.place)
        sheet.rows.append((run.state, *place, *_figures(run), run.detail, str(run.directory)))
    return sheet


def _figures(run: Run) -> tuple[str, str, str]:
    """Size, age and loss."""
    age = spell_age((datetime.now().astimezone() - run.changed).total_seconds())
    return spell_size(run.bytes), age, "" if run.loss is None else f"{run.loss:.4f}"


def _untold(run: Run) -> str:
    """A run's place, in words, where the end of its path does not tell that."""
    task, dataset, backbone, seed, key, number = run.place
    if task and dataset and backbone and seed is not None and number is not None:
        told = run_directory(Path(), task, dataset, backbone, seed, key, number).parts
        if (Path.cwd() / run.directory).parts[-4:] == told:
            return ""
    named = {"seed": seed, "key": key or None, "run": number}
    words = [f"{name} {value}" for name, value in named.items() if value is not None]
    return ", ".join([*filter(None, (task, dataset, backbone)), *words])


def clean(root: Path, *, yes: bool, dry_run: bool) -> None:
    """Name what can go, what that frees and what is left alone, and remove it once told to.

    Raises ResultsError if there is no such directory, InputError where there is nobody to ask, DataError for what could
    not be removed, typer.Abort where the answer is no.
    """
    found = find_waste(root)
    sheet = Sheet(("what", "size", "path"), numbers=_NUMBERS, is_of_paths=True)
    sheet.rows.extend((one.why, spell_size(one.bytes), str(one.path)) for one in found.waste)
    if found.waste:
        show(sheet)
        sys.stdout.flush()
    left: Counter[tuple[Path, str]] = Counter()
    for one, why in found.left:
        left[one.run or one.path, why] += one.bytes
    for (path, why), size in left.items():
        print(f"backbench: {path}: {spell_size(size)} left alone: {why}", file=sys.stderr)
    total = spell_size(sum(one.bytes for one in found.waste))
    if not found.waste:
        print(f"{root}: nothing to remove", file=sys.stderr)
    elif dry_run:
        print(f"would free {total}; nothing was removed", file=sys.stderr)
    elif yes or _is_agreed_to(f"Remove these and free {total}?"):
        _remove(root, found.waste)


def _is_agreed_to(question: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError("nothing was removed: standard input is no terminal to ask at. Give --yes, or --dry-run")
    return typer.confirm(question, abort=True, err=True)


def _remove(root: Path, waste: list[Waste]) -> None:
    removal = remove(root, waste)
    print(f"freed {spell_size(removal.freed)}", file=sys.stderr)
    if removal.stayed:
        stayed = "".join(f"\n  {path}: {why}" for path, why in removal.stayed)
        raise DataError(f"{root}: not all could be removed. See to what follows, and repeat the command:{stayed}")


def _as_dict(run: Run) -> dict[str, object]:
    return {
        "directory": str(run.directory),
        "state": run.state,
        "detail": run.detail,
        **run.place._asdict(),
        "bytes": run.bytes,
        "changed": run.changed.isoformat(timespec="seconds"),
        "loss": run.loss,
        "owner": run.owner and run.owner.name,
    }
