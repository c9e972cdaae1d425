"""The commands about a directory of runs: what lies in it, what can go, and its results.csv."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import AsJson

store_app = typer.Typer()

Store = Annotated[Path, typer.Argument(metavar="DIR", help="A directory that was --out of runs.")]


@store_app.command()
def runs(directory: Store, as_json: AsJson = False) -> None:
    """List the runs in a directory: finished, unfinished, at work, broken.

    With size, age (since a file of it was last written) and the log's last loss; task, data set, backbone, seed, key
    and run (2 for seed0-KEY.2) are in the path, and have columns of their own where the output is piped.

    What failed in the night: backbench runs runs | grep -v ^finished

    How much room runs take: backbench runs runs --json | jq '[.runs[].bytes] | add'
    """
    from benchmarks.commands.stores import show_runs

    show_runs(directory, as_json=as_json)


@store_app.command()
def clean(
    directory: Store,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name what can go.")] = False,
) -> None:
    """Remove what no result needs: name it, say how much room that makes, and ask.

    Checkpoints of finished runs: all of a pre-training, whose encoder.pth and autoencoder.pth always stay; of a
    fine-tuning all but the last, which alone has the fine-tuned weights. Finished fine-tunings of which a later run
    (seed0-KEY.2) has finished too. Parts of files that killed processes left.

    Nothing of a run that somebody is at work on, or was, on another machine, less than a day ago; no weights that a
    finished run in DIR was made from; nothing that lies behind a link; nothing beside a copy of a run that is named as
    if it were another run. What is left alone, or will not go, is named.

    For example: backbench clean runs --dry-run
    """
    from benchmarks.commands.stores import clean as clean_store

    clean_store(directory, yes=yes, dry_run=dry_run)


@store_app.command()
def collect(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories that were --out of runs.")],
) -> None:
    """Write results.csv anew from the finished runs below each directory.

    Every run does so when it ends; this is for directories that were copied together, or cleared of runs:

    backbench collect runs other_runs
    """
    from benchmarks.running.collecting import RESULTS
    from benchmarks.running.collecting import collect as collect_results

    for directory in directories:
        runs = collect_results(directory)
        print(f"{directory / RESULTS}: {runs} finished runs")
