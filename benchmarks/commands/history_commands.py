"""The command about many nights: how each number went, since when it is otherwise, and whether it drifts."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import AsJson

history_app = typer.Typer()


@history_app.command()
def history(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="DIR|CSV...", help="A folder of nights, directories that were --out, or results.csv."),
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="BASELINE", help="The band is of the nights that count of this one, `baseline promote`'s folder."
        ),
    ] = None,
    sigma: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=POINTS",
            help="The standard deviation between seeds, e.g. top1=0.1, in the place of what the nights tell. May be "
            "repeated.",
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw it as well, a panel for each cell.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Since when is a number otherwise? Finds lasting changes, and slow drift of which no single night is red.

    A run counts for the night whose folder it lies in, as NIGHTS/2026-11-26, else for the day on which it finished; a
    night's number is the mean over its seeds. The band is two standard deviations around the mean of the first nights,
    at most 14, or of those of --baseline. How far equal nights lie apart is told by the nights themselves.

    A change holds for three nights or more, of speed and memory for seven, and all findings are corrected for how many
    cells there are: where nothing has changed, less than one history in twenty has any. A change of three standard
    deviations is found within two weeks. Where the same seeds give the same numbers every night, any other number is a
    change. Speed and memory are those of the machine of the last night, and in the table where they changed.

    After every night: backbench history NIGHTS --baseline BASELINE --picture history.png

    From tables that were kept: backbench history 2026-10/results.csv 2026-11/results.csv

    For programs: backbench history NIGHTS --json | jq '.series[] | select(.changes != [])'
    """
    from benchmarks.commands.history import show_history

    show_history(sources, baseline=baseline, sigmas=sigma or [], picture=picture, as_json=as_json)
