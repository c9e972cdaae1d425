"""The command that judges a night: is something worse than in a baseline?"""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import AsJson

regress_app = typer.Typer()

_SIDE = (
    "a store, a results.csv, a folder of nights as `suite --keep-nights` makes it, or a baseline as `baseline promote` "
    "does. May be repeated."
)


@regress_app.command()
def regress(
    baseline: Annotated[list[Path], typer.Option(metavar="A", help=f"What was good: {_SIDE}")],
    current: Annotated[list[Path], typer.Option(metavar="B", help=f"What is to be judged: {_SIDE}")],
    sigma: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=POINTS",
            help="The standard deviation between seeds, e.g. top1=0.1, where the baseline has too few seeds to tell. "
            "May be repeated.",
        ),
    ] = None,
    strict_trace: Annotated[
        bool,
        typer.Option(
            "--strict-trace",
            help="A training that took another course than the same seed in the baseline is a regression, and no "
            "notice alone.",
        ),
    ] = False,
    confirm: Annotated[
        int,
        typer.Option(
            metavar="SEEDS",
            min=0,
            help="Before the verdict, run so many further seeds of each cell that may have become worse; they stay in "
            "the store of --current.",
        ),
    ] = 0,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --confirm: after so many, no further seed begins, and the one at work saves what it has and "
            "ends. The verdict is given with those that have ended.",
        ),
    ] = None,
    write: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the verdict there too, as the suffix says: .md for a job's summary, .xml for JUnit, .csv for "
            "the findings, .json, .txt. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Has something become worse? Judges a night against a baseline: accuracy, speed, memory, and what is missing.

    Cells are compared that agree in task, data set, model, backbone, recipe, metric and all settings. One is worse if
    its mean over seeds is, by more than seeds differ, and by 0.1 points or 1 % at least; the more cells, the stricter.
    Speed and memory are compared on the same kind of machine only, and need three nights in the baseline.

    A training whose losses are not those of the same seed in the baseline, on the same machine, is told with the update
    where they part: it finds what accuracy cannot.

    Where both sides have kept their results of images (`baseline promote --with-images`), a cell that is worse, or of
    which it is not known how far seeds differ, is told with a paired test on the same images, which alarms of nothing.

    Exit status 0: no regression. 1: a regression, or a cell that failed. 3: it cannot be told: a cell is missing, has
    other data or settings, or too few seeds.

    The last night against all others: backbench regress --baseline nights --current nights/2026-11-26

    A folder of nights serves as the baseline of each of its nights, whose own runs are left out of it.

    In a job on GitHub: backbench regress --baseline baseline.csv --current runs --write verdict.md --write junit.xml,
    then cat verdict.md >> $GITHUB_STEP_SUMMARY, whatever the exit status
    """
    from benchmarks.commands.regression import show_verdict

    raise typer.Exit(
        show_verdict(
            baseline,
            current,
            sigmas=sigma or [],
            strict_trace=strict_trace,
            confirm=confirm,
            hours=hours,
            write=write or [],
            as_json=as_json,
        )
    )
