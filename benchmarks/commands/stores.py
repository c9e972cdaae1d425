"""What `backbench runs` and `backbench clean` print."""

import sys
from datetime import datetime
from pathlib import Path

import typer

from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.running.cleaning import find_waste, remove
from benchmarks.running.inventory import Run, find_all_runs

_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def show_runs(root: Path, *, as_json: bool) -> None:
    """List the runs below a directory. Raises ResultsError if there is no such directory."""
    runs = find_all_runs(root)
    if as_json:
        print_json({"runs": [_as_dict(run) for run in runs]})
        return
    headings = ("state", "task", "data set", "backbone", "seed", "key", "size", "age", "loss", "", "directory")
    sheet = Sheet(headings, numbers=frozenset({"seed", "size", "age", "loss"}))
    now = datetime.now().astimezone()
    for run in runs:
        loss = "" if run.loss is None else f"{run.loss:.4f}"
        age = _age((now - run.changed).total_seconds())
        sheet.rows.append((run.state, *run.place, _size(run.bytes), age, loss, run.detail, str(run.directory)))
    show(sheet)


def clean(root: Path, *, yes: bool, dry_run: bool) -> None:
    """Name what can go and what that frees, and remove it once told to.

    Raises ResultsError if there is no such directory, typer.Abort where the answer is no.
    """
    waste = find_waste(root)
    sheet = Sheet(("what", "size", "path"), numbers=frozenset({"size"}))
    sheet.rows.extend((one.why, _size(one.bytes), str(one.path)) for one in waste)
    if not waste:
        print(f"{root}: nothing to remove", file=sys.stderr)
        return
    show(sheet)
    sys.stdout.flush()
    total = _size(sum(one.bytes for one in waste))
    if dry_run:
        print(f"would free {total}; nothing was removed", file=sys.stderr)
        return
    if not yes:
        typer.confirm(f"Remove these and free {total}?", abort=True, err=True)
    print(f"freed {_size(remove(root, waste))}", file=sys.stderr)


def _as_dict(run: Run) -> dict[str, object]:
    task, dataset, backbone, seed, key = run.place
    return {
        "directory": str(run.directory),
        "state": run.state,
        "detail": run.detail,
        "task": task,
        "dataset": dataset,
        "backbone": backbone,
        "seed": int(seed) if seed.isdigit() else seed,
        "key": key,
        "bytes": run.bytes,
        "changed": run.changed.isoformat(timespec="seconds"),
        "loss": run.loss,
        "owner": run.owner and run.owner.name,
    }


def _size(count: int) -> str:
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _age(seconds: float) -> str:
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"
