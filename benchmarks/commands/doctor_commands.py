"""`backbench doctor`: what the installation is, and with --train whether this machine trains as it should."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.commands.statuses import INTERRUPTED

doctor_app = typer.Typer()

DEFAULT_MINUTES, DEFAULT_OUT = 10.0, Path("selftest")


@doctor_app.command()
def doctor(
    train: Annotated[
        bool, typer.Option("--train", help="Test the training itself, line by line, and end with a verdict.")
    ] = False,
    device: Annotated[
        Literal["auto", "cuda", "cpu"] | None,
        typer.Option(help="With --train, what to test: the GPU where there is one, else the CPU."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1440,
            help=f"With --train: a line that would not end by then is not run. [{DEFAULT_MINUTES:g}]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --train: where selftest.json, selftest.md and selftest.log go, of a line alone "
            f"selftest-NAME.json and so on, and what lines write. [{DEFAULT_OUT}]"
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --train: this line alone, by its name on the screen and in selftest.md. May be repeated.",
        ),
    ] = None,
) -> None:
    """Versions, devices, what works here and what doesn't. With --train: does it train here what it should?

    That compares this machine's numbers with those of double precision on its CPU, in every model and attention path;
    kills jobs and resumes them; runs small jobs to their end beside known results; then full-size ones, for their
    memory and speed. The worthiest lines come first, and those that minutes do not allow are not run. One failed line
    does not keep the others from being tried. Full-size steps are made for a GPU of 80 GB: one that needs more memory
    than is free is not run.

    Ten minutes with a GPU: backbench doctor --train

    As far as a CPU goes: backbench doctor --train --device cpu --minutes 5

    One line again: backbench doctor --train --only detector-parity

    Exit status 1 if a line failed. selftest.json has every figure, and is whole at any moment.
    """
    if not train:
        given = {"--device": device, "--minutes": minutes, "--out": out, "--only": only or None}
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter("is for the self-test: add --train", param_hint=name)
        from benchmarks.commands.doctor import examine

        raise typer.Exit(0 if examine() else 1)
    try:
        from benchmarks.commands.selftest import run_selftest

        status = run_selftest(device or "auto", minutes or DEFAULT_MINUTES, out or DEFAULT_OUT, only or [])
    except KeyboardInterrupt:
        print("\nbackbench: interrupted before the self-test began", file=sys.stderr)
        status = INTERRUPTED
    raise typer.Exit(status)
