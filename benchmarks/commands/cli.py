"""The command line. What a command needs is imported when it runs, so that `backbench --help` answers at once."""

import signal
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

import tasks  # noqa: F401  All four packages are imported now: no file of such a name in the current folder hides one.
from backbones.plugins import look_in
from benchmarks.commands.backbone_commands import backbone_app
from benchmarks.commands.baseline_commands import baseline_app
from benchmarks.commands.beginning import import_plugins, launch_if_wanted
from benchmarks.commands.cache_commands import cache_app
from benchmarks.commands.completion import complete_backbone
from benchmarks.commands.data_commands import data_app
from benchmarks.commands.doctor_commands import doctor_app
from benchmarks.commands.history_commands import history_app
from benchmarks.commands.listing import LISTS
from benchmarks.commands.options import (
    AsJson,
    Begin,
    Changed,
    Data,
    DryRun,
    Method,
    Model,
    Out,
    Plugin,
    PretrainData,
    Processes,
    Recipe,
    Rerun,
    Rescan,
    Seed,
    Set,
)
from benchmarks.commands.regress_commands import regress_app
from benchmarks.commands.result_commands import result_app
from benchmarks.commands.statuses import EPILOGUE, INTERRUPTED, Commands
from benchmarks.commands.store_commands import store_app
from benchmarks.commands.suite_commands import suite_app
from benchmarks.commands.trained_commands import trained_app
from benchmarks.running.of_suite import telling_suite

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
app.add_typer(baseline_app, name="baseline")

if TYPE_CHECKING:  # type checkers know only enums that are spelt out
    Listable: TypeAlias = str
else:
    Listable = StrEnum("Listable", {name: name for name in LISTS})


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

    Takes seven to twelve minutes on two processor cores; nothing is downloaded. Interrupt it and repeat the command
    as you like.
    """
    from benchmarks.commands.demo import run_demo

    raise typer.Exit(run_demo(out, seeds))


@app.command()
def pretrain(
    recipe: Recipe,
    data: Data,
    out: Out,
    begin: Begin = None,
    seed: Seed = 0,
    overrides: Set = None,
    rerun: Rerun = False,
    if_changed: Changed = "keep",
    processes: Processes = None,
    dry_run: DryRun = False,
    rescan: Rescan = False,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Pre-train a masked autoencoder, or a method of your own, on all images below --data, labels or not.

    On many GPUs: backbench pretrain --processes 8 … Repeating a command resumes it exactly.

    A method of your own: --set model.arch=package.module:function, or a name given to register_pretraining.
    """
    from backbones.pretraining.images import require_outside
    from benchmarks.commands.screen import show_cell, show_plan
    from benchmarks.commands.sheets import nothing_else_on_stdout
    from benchmarks.planning.cells import plan_pretraining
    from benchmarks.running.cells import run_pretraining
    from benchmarks.running.repeating import Repeat

    repeat = Repeat(rerun, if_changed)
    import_plugins(plugin, meets=not dry_run)
    if dry_run:
        require_outside(data, out)
        plan = plan_pretraining(recipe, data, seed=seed, overrides=overrides or [], begin=begin)
        raise typer.Exit(0 if show_plan(plan, out, repeat, as_json=as_json) else 1)
    launch_if_wanted(processes, recipe, overrides or [], pretrains=True)
    with nothing_else_on_stdout(as_json):
        cell = run_pretraining(
            recipe, data, out, seed=seed, overrides=overrides or [], begin=begin, repeat=repeat, rescan=rescan
        )
    show_cell(cell, as_json=as_json)
    raise typer.Exit(1 if repeat.is_failed_by(cell.skipped, cell.changes) else 0)


@app.command()
def run(
    recipe: Recipe,
    data: Data,
    backbone: Annotated[
        str,
        typer.Option(
            metavar="NAME[=CHECKPOINT[::PART]]",
            help="A registered backbone, any timm model, or package.module:function; with the file of its weights, "
            "and the part of that, as FILE::teacher.backbone.",
            autocompletion=complete_backbone,
        ),
    ],
    out: Out,
    method: Method = None,
    pretrain_data: PretrainData = None,
    model: Model = None,
    plugin: Plugin = None,
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

    A model of your own, and its row and column, in three ways. A function, and flags:

    … --backbone my_vision.models:my_vit=FILE --method MyMethod --pretrain-data IN1K --model ViT-B

    A file that calls register_backbone: … --plugin my_method.py --backbone mymethod_vit_base=FILE

    An installed package with the entry point backbench.backbones: … --backbone mymethod_vit_base=FILE

    Flags come before what the file says of itself, and that before what is known of the backbone's name.

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
    import_plugins(plugin, meets=not dry_run)
    if dry_run:
        plan = plan_task(recipe, data, backbone, seed=seed, overrides=overrides, declared=declared)
        raise typer.Exit(0 if show_plan(plan, out, repeat, as_json=as_json) else 1)
    launch_if_wanted(processes, recipe, overrides, pretrains=False)
    with nothing_else_on_stdout(as_json):
        cell = run_task(
            recipe, data, backbone, out, seed=seed, overrides=overrides, declared=declared, repeat=repeat, rescan=rescan
        )
    show_cell(cell, as_json=as_json)
    raise typer.Exit(1 if repeat.is_failed_by(cell.skipped, cell.changes) else 0)


app.add_typer(suite_app)
app.add_typer(trained_app)
app.add_typer(result_app)
app.add_typer(regress_app)
app.add_typer(store_app)
app.add_typer(history_app)


@app.command("list")
def list_things(
    what: Annotated[Listable, typer.Argument(help="What to list.")], plugin: Plugin = None, as_json: AsJson = False
) -> None:
    """List what can be named in the other commands.

    The names alone: backbench list recipes | cut -f 1
    """
    from benchmarks.commands.listing import show_list

    import_plugins(plugin)
    show_list(what, as_json)


@app.command()
def inspect(
    checkpoint: Annotated[
        Path, typer.Argument(help="A .pth, .pt, .bin or .safetensors file, or a folder; FILE::PART for a part.")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Load it into this backbone and tell where each weight lands.", autocompletion=complete_backbone
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Every tensor by itself, not all blocks' as one.")] = False,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is, which weights land where, and what is left over.

    For example: backbench inspect mae_pretrain_vit_base.pth --backbone mae_vit_base
    """
    if full and backbone is None:
        raise typer.BadParameter("tells where each tensor lands: give --backbone as well", param_hint="--full")
    from benchmarks.commands.inspection import show_checkpoint

    import_plugins(plugin)
    show_checkpoint(checkpoint, backbone, full=full, as_json=as_json)


app.add_typer(backbone_app)
app.add_typer(doctor_app)


def main() -> None:
    """The console script. Once a command is interrupted, another Ctrl-C only disturbs what Python does at its end."""
    with suppress(OSError):  # the current folder may have been removed
        look_in(Path.cwd())
    with telling_suite():
        try:
            app(prog_name="backbench")
        except SystemExit as end:
            if end.code == INTERRUPTED:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            raise
