"""The command line. What a command needs is imported when it runs, so that `backbench --help` answers at once."""

import signal
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

import tasks  # noqa: F401  All four packages are imported now: no file of such a name in the current folder hides one.
from backbones.plugins import look_in
from benchmarks.commands.cache_commands import cache_app
from benchmarks.commands.completion import complete_backbone, complete_recipe
from benchmarks.commands.data_commands import data_app
from benchmarks.commands.doctor_commands import doctor_app
from benchmarks.commands.listing import LISTS
from benchmarks.commands.options import AsJson, Rescan
from benchmarks.commands.statuses import EPILOGUE, INTERRUPTED, Commands
from benchmarks.commands.store_commands import store_app
from results.paper_tables import FORMATS, PAPER_TABLES

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Is this pre-trained vision backbone better than that one? Start with `backbench demo`.",
    epilog=EPILOGUE,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")

Recipe = Annotated[
    str,
    typer.Option(
        help="A packaged recipe (`backbench list recipes`) or a YAML file of your own.", autocompletion=complete_recipe
    ),
]
Data = Annotated[Path, typer.Option(help="The data set's root folder.")]
Out = Annotated[Path, typer.Option(help="Where run directories and results.csv go. Finished runs there are skipped.")]
Method = Annotated[
    str | None,
    typer.Option(help="How the weights came about: the table's row. Insists where the file says otherwise."),
]
PretrainData = Annotated[
    str | None, typer.Option(help="What the weights were trained on: beside the method in the table's row.")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="What the model is, e.g. ViT-B: the table's column. A module of your own is a column by its name."
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides weights, order, augmentation and masks.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting of the recipe, e.g. optimizer.weight_decay=0.1."
    ),
]


Processes = Annotated[
    int | None,
    typer.Option(min=1, help="So many processes on this machine, one a GPU. On several machines: torchrun, or srun."),
]


if TYPE_CHECKING:  # type checkers know only enums that are spelt out
    Layout: TypeAlias = str
    Format: TypeAlias = str
    Listable: TypeAlias = str
    IfChanged: TypeAlias = Literal["keep", "rerun", "fail"]
else:
    Layout = StrEnum("Layout", {name: name for name in PAPER_TABLES})
    Format = StrEnum("Format", {name: name for name in FORMATS})
    Listable = StrEnum("Listable", {name: name for name in LISTS})
    IfChanged = StrEnum("IfChanged", {name: name for name in ("keep", "rerun", "fail")})

Rerun = Annotated[
    bool, typer.Option("--rerun", help="Run anew what has finished, beside it: in seed<N>-<key>.2, .3 and so on.")
]
Changed = Annotated[
    IfChanged,
    typer.Option(
        "--if-changed",
        help="What to do where a run has finished whose code, model or libraries have changed since: tell and keep it, "
        "rerun it as --rerun does, or fail with exit status 1.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only say what would be run and whether it is finished; exit status 1 if files are missing, or where "
        "--if-changed fail says no.",
    ),
]


def _launch(processes: int | None, recipe: str, overrides: list[str], *, pretrains: bool) -> None:
    """Go on in several processes, if so many are wanted, and end as they do."""
    if processes is None:
        return
    from benchmarks.running.launching import is_to_launch, launch, require_devices
    from tasks.registry import PRETRAINING, TASKS

    if is_to_launch(processes):
        require_devices(processes, recipe, overrides, {PRETRAINING} if pretrains else TASKS)
        raise typer.Exit(launch(processes, sys.argv[1:]))


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        print(f"backbench {importlib.metadata.version('backbench')}")
        raise typer.Exit


@app.callback()
def _backbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What comes before a command's name."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where images, runs, pictures and tables go.")] = Path("demo"),
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tunings of each backbone.")] = 1,
) -> None:
    """The whole loop on generated images: pre-train, fine-tune that and a random twin, lay out the tables.

    Takes about a quarter of an hour on two processor cores; nothing is downloaded. Interrupt it and repeat the command
    as you like.
    """
    from benchmarks.commands.demo import run_demo

    run_demo(out, seeds)


@app.command()
def pretrain(
    recipe: Recipe,
    data: Data,
    out: Out,
    seed: Seed = 0,
    overrides: Set = None,
    rerun: Rerun = False,
    if_changed: Changed = "keep",
    processes: Processes = None,
    dry_run: DryRun = False,
    rescan: Rescan = False,
    as_json: AsJson = False,
) -> None:
    """Pre-train a masked autoencoder on all images below --data, labels or not.

    On many GPUs: backbench pretrain --processes 8 … Repeating a command resumes it exactly.
    """
    from benchmarks.commands.screen import show_cell, show_plan
    from benchmarks.commands.sheets import nothing_else_on_stdout
    from benchmarks.planning.cells import plan_pretraining
    from benchmarks.running.cells import run_pretraining
    from benchmarks.running.repeating import Repeat

    repeat = Repeat(rerun, if_changed)
    if dry_run:
        plan = plan_pretraining(recipe, data, seed=seed, overrides=overrides or [])
        raise typer.Exit(0 if show_plan(plan, out, repeat, as_json=as_json) else 1)
    _launch(processes, recipe, overrides or [], pretrains=True)
    with nothing_else_on_stdout(as_json):
        cell = run_pretraining(recipe, data, out, seed=seed, overrides=overrides or [], repeat=repeat, rescan=rescan)
    show_cell(cell, as_json=as_json)
    raise typer.Exit(1 if repeat.is_failed_by(cell.skipped, cell.changes) else 0)


@app.command()
def run(
    recipe: Recipe,
    data: Data,
    backbone: Annotated[
        str,
        typer.Option(
            metavar="NAME[=CHECKPOINT]",
            help="A registered backbone, any timm model, or package.module:function; with the file of its weights.",
            autocompletion=complete_backbone,
        ),
    ],
    out: Out,
    method: Method = None,
    pretrain_data: PretrainData = None,
    model: Model = None,
    seed: Seed = 0,
    overrides: Set = None,
    rerun: Rerun = False,
    if_changed: Changed = "keep",
    processes: Processes = None,
    dry_run: DryRun = False,
    rescan: Rescan = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune and evaluate one backbone on one data set under one recipe.

    Classification: backbench run --recipe imagenet_vit_base --data IMAGENET --backbone mae_vit_base=FILE --out runs

    Detection: backbench run --recipe coco_fpn_vit_base --data COCO --backbone mae_vit_base=FILE --out runs

    Segmentation: backbench run --recipe ade20k_vit_base --data ADE20K --backbone mae_vit_base=FILE --out runs

    Row and column: … --backbone my_vision.models:my_vit=FILE --method MyMethod --pretrain-data IN1K --model ViT-B

    These three come before what the file says of itself, and that before what is known of the backbone's name.

    They decide no number but where a file does not tell how its pixels are normalised: a finished run whose command
    is repeated with other names is recorded under those.

    For programs: … --json prints the record and where it lies, with --dry-run what would be run.
    """
    from backbones.weights.origin import Declared
    from benchmarks.commands.screen import show_cell, show_plan
    from benchmarks.commands.sheets import nothing_else_on_stdout
    from benchmarks.planning.cells import plan_task
    from benchmarks.running.cells import run_task
    from benchmarks.running.repeating import Repeat

    declared, repeat, overrides = Declared(method, pretrain_data, model), Repeat(rerun, if_changed), overrides or []
    if dry_run:
        plan = plan_task(recipe, data, backbone, seed=seed, overrides=overrides, declared=declared)
        raise typer.Exit(0 if show_plan(plan, out, repeat, as_json=as_json) else 1)
    _launch(processes, recipe, overrides, pretrains=False)
    with nothing_else_on_stdout(as_json):
        cell = run_task(
            recipe, data, backbone, out, seed=seed, overrides=overrides, declared=declared, repeat=repeat, rescan=rescan
        )
    show_cell(cell, as_json=as_json)
    raise typer.Exit(1 if repeat.is_failed_by(cell.skipped, cell.changes) else 0)


@app.command()
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
    as_json: AsJson = False,
) -> None:
    """Lay finished runs out as the paper does, each number beside the paper's own.

    Images of your own stand under their own name: classified ones in layout transfer, the others in coco and ade20k.

    All that there is: backbench table runs

    Into a paper: backbench table runs --layout coco --only-reference -o coco.tex

    Into pandas: pandas.read_csv("all.csv") after backbench table runs -o all.csv
    """
    from benchmarks.commands.tables import show_tables

    show_tables(
        directories,
        layout=layout,
        format=format,
        conditions=where or [],
        only_reference=only_reference,
        output=output,
        as_json=as_json,
    )


@app.command()
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


app.add_typer(store_app)


@app.command("list")
def list_things(what: Annotated[Listable, typer.Argument(help="What to list.")], as_json: AsJson = False) -> None:
    """List what can be named in the other commands.

    The names alone: backbench list recipes | cut -f 1
    """
    from benchmarks.commands.listing import show_list

    show_list(what, as_json)


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, .pt, .bin or .safetensors file.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Load it into this backbone and tell where each weight lands.", autocompletion=complete_backbone
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Every tensor by itself, not all blocks' as one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is, which weights land where, and what is left over.

    For example: backbench inspect mae_pretrain_vit_base.pth --backbone mae_vit_base
    """
    if full and backbone is None:
        raise typer.BadParameter("tells where each tensor lands: give --backbone as well", param_hint="--full")
    from benchmarks.commands.inspection import show_checkpoint

    show_checkpoint(checkpoint, backbone, full=full, as_json=as_json)


app.add_typer(doctor_app)


def main() -> None:
    """The console script. Once a command is interrupted, another Ctrl-C only disturbs what Python does at its end."""
    with suppress(OSError):  # the current folder may have been removed
        look_in(Path.cwd())
    try:
        app(prog_name="backbench")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
