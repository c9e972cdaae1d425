"""The commands about finished runs: their tables, and how two of them compare."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from benchmarks.commands.options import AsJson
from results.paper_tables import FORMATS, PAPER_TABLES

result_app = typer.Typer()

if TYPE_CHECKING:  # type checkers know only enums that are spelt out
    Layout: TypeAlias = str
    Format: TypeAlias = str
else:
    Layout = StrEnum("Layout", {name: name for name in PAPER_TABLES})
    Format = StrEnum("Format", {name: name for name in FORMATS})


@result_app.command()
def table(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories that hold runs.")],
    layout: Annotated[
        Layout | None, typer.Option(help="Which of the paper's tables; without it all that have runs.")
    ] = None,
    format: Annotated[Format | None, typer.Option(help="How to write it; md, or as the suffix of -o says.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Only runs of which this is true, e.g. method=MAE.")
    ] = None,
    only_reference: Annotated[
        bool, typer.Option("--only-reference", help="Leave out runs that deviate from their reference recipe.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there: .md, .csv, .tex, .json; - prints it."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="With --layout partial: draw accuracy over trained blocks as well, the best of each.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lay finished runs out as the paper does, each number beside the paper's own.

    Images of your own stand under their own name: classified ones in layout transfer, the others in coco and ade20k.

    All that there is: backbench table runs

    Into a paper: backbench table runs --layout coco --only-reference -o coco.tex

    Into pandas: pandas.read_csv("all.csv") after backbench table runs -o all.csv

    The curve of partial fine-tuning: backbench table runs --layout partial --picture partial.png
    """
    from benchmarks.commands.tables import show_tables

    show_tables(
        directories,
        layout=layout,
        format=format,
        conditions=where or [],
        only_reference=only_reference,
        output=output,
        picture=picture,
        as_json=as_json,
    )


@result_app.command()
def compare(
    a: Annotated[
        Path,
        typer.Argument(metavar="A", help="A finished run's directory, one of several seeds, or one that was --out."),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="What to test it against.")],
    trace: Annotated[
        bool,
        typer.Option(
            "--trace",
            help="Instead, whether both runs took the same course: losses and learning rates of log.jsonl. Unfinished "
            "runs and pre-trainings too. Exit status 1 if they differ.",
        ),
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --trace: up to which relative difference losses are the same. By default 0 on a CPU; on a GPU "
            "1.3e-6 in fp32, 1e-3 in fp16, 1.6e-2 in bf16.",
        ),
    ] = None,
    fail_if_worse: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=POINTS",
            help="Exit status 1 if A's mean is worse than B's by more than that, e.g. top1=0.5, or if something of B "
            "could not be compared with anything of A. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Is run A better than run B? Tests them on the same images, paired, which tells more than their two intervals.

    Both must have been evaluated on the same images of the same data set. Where A and B hold several seeds, runs of the
    same seed are paired, and a verdict needs the images' test and the seeds'. For example, with the runs of the demo:

    backbench compare demo/runs/classification/mini/mae_vit_mini demo/runs/classification/mini/random_vit_mini

    Where they hold runs of many kinds, those of the same task, data set, backbone and seed are paired, in one table; of
    several of one backbone those with the same weights and settings. A gate for every night, which also fails where
    tonight lacks a run of last night's, or one of a pair does not serve; what only tonight has is fine:

    backbench compare tonight last_night --fail-if-worse top1=0.5 --fail-if-worse AP_box=1
    """
    if trace:
        from benchmarks.commands.trace import show_trace_comparison

        if fail_if_worse:
            raise typer.BadParameter("--trace compares losses, no metrics: leave one out", param_hint="--fail-if-worse")
        raise typer.Exit(0 if show_trace_comparison(a, b, tolerance, as_json=as_json) else 1)
    if tolerance is not None:
        raise typer.BadParameter("is that of --trace, which is missing", param_hint="--tolerance")
    from benchmarks.commands.comparison import show_comparison

    raise typer.Exit(0 if show_comparison(a, b, fail_if_worse or [], as_json=as_json) else 1)
