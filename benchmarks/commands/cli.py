"""The command line. What a command needs is imported when it runs, so that `backbench --help` answers at once."""

import io
import re
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
import typer.core

from backbones.errors import InputError
from benchmarks.commands.listing import LISTS
from results.errors import ResultsError
from results.paper_tables import FORMATS, PAPER_TABLES

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it (128 + SIGINT)."""


OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory")
"""In the message of the RuntimeError that torch raises, on GPU and CPU."""


class Commands(typer.core.TyperGroup):
    """Turns mistakes of the caller into one message and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # file names may be in any encoding, or in none
        try:
            return super().invoke(ctx)
        except (InputError, ResultsError) as error:
            message = str(error)
        except OSError as error:
            if error.filename is None:
                raise
            message = f"{error.filename}: {error.strerror}"
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ").replace("Input should be", "expected a value")
            raise
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
                raise
            message = (
                "out of memory. Set runtime.activation_checkpointing=true, which keeps the numbers; or lower "
                "runtime.batch_per_device: gradients accumulate, but batch norm and mixup then see fewer images, as "
                "record and tables tell; or lower runtime.workers or "
                f"model.image_size: {str(error).splitlines()[0] if str(error) else 'MemoryError'}"
            )
        except KeyboardInterrupt:
            print("\nbackbench: interrupted; repeat the command to go on from the last checkpoint", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        print(f"backbench: {message}", file=sys.stderr)
        raise typer.Exit(2)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Is this pre-trained vision backbone better than that one? Start with `backbench demo`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, help="Check data sets, and generate a small one.")
app.add_typer(data_app, name="data")

Recipe = Annotated[str, typer.Option(help="A packaged recipe (`backbench list recipes`) or a YAML file of your own.")]
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
Seed = Annotated[int, typer.Option(min=0, help="Decides weights, order, augmentation and masks.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting of the recipe, e.g. optimizer.weight_decay=0.1."
    ),
]


if TYPE_CHECKING:  # type checkers know only enums that are spelt out
    Layout: TypeAlias = str
    Format: TypeAlias = str
    Listable: TypeAlias = str
else:
    Layout = StrEnum("Layout", {name: name for name in PAPER_TABLES})
    Format = StrEnum("Format", {name: name for name in FORMATS})
    Listable = StrEnum("Listable", {name: name for name in LISTS})

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only say what would be run and whether it is finished; exit status 1 if files are missing."
    ),
]


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
    recipe: Recipe, data: Data, out: Out, seed: Seed = 0, overrides: Set = None, dry_run: DryRun = False
) -> None:
    """Pre-train a masked autoencoder on all images below --data, labels or not.

    On many GPUs: torchrun --nproc-per-node 8 -m benchmarks pretrain … Repeating a command resumes it exactly.
    """
    from benchmarks.commands.screen import show_cell, show_plan
    from benchmarks.planning.cells import plan_pretraining
    from benchmarks.running.cells import run_pretraining

    if dry_run:
        plan = plan_pretraining(recipe, data, seed=seed, overrides=overrides or [])
        raise typer.Exit(0 if show_plan(plan, out) else 1)
    show_cell(run_pretraining(recipe, data, out, seed=seed, overrides=overrides or []))


@app.command()
def run(
    recipe: Recipe,
    data: Data,
    backbone: Annotated[
        str,
        typer.Option(
            metavar="NAME[=CHECKPOINT]",
            help="A registered backbone, any timm model, or package.module:function; with the file of its weights.",
        ),
    ],
    out: Out,
    method: Method = None,
    pretrain_data: PretrainData = None,
    model: Model = None,
    seed: Seed = 0,
    overrides: Set = None,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune and evaluate one backbone on one data set under one recipe.

    Classification: backbench run --recipe imagenet_vit_base --data IMAGENET --backbone mae_vit_base=FILE --out runs

    Detection: backbench run --recipe coco_fpn_vit_base --data COCO --backbone mae_vit_base=FILE --out runs

    Segmentation: backbench run --recipe ade20k_vit_base --data ADE20K --backbone mae_vit_base=FILE --out runs

    Row and column: … --backbone my_vision.models:my_vit=FILE --method MyMethod --pretrain-data IN1K --model ViT-B

    These three come before what the file says of itself, and that before what is known of the backbone's name.

    They decide no number but where a file does not tell how its pixels are normalised: a finished run whose command
    is repeated with other names is recorded under those.
    """
    from backbones.weights.origin import Declared
    from benchmarks.commands.screen import show_cell, show_plan
    from benchmarks.planning.cells import plan_task
    from benchmarks.running.cells import run_task

    declared = Declared(method, pretrain_data, model)
    if dry_run:
        plan = plan_task(recipe, data, backbone, seed=seed, overrides=overrides or [], declared=declared)
        raise typer.Exit(0 if show_plan(plan, out) else 1)
    show_cell(run_task(recipe, data, backbone, out, seed=seed, overrides=overrides or [], declared=declared))


@app.command()
def table(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories that hold runs.")],
    layout: Annotated[Layout, typer.Option(help="Which of the paper's tables.")],
    format: Annotated[Format, typer.Option(help="How to write it.")] = "md",
    where: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Only runs of which this is true, e.g. method=MAE.")
    ] = None,
    only_reference: Annotated[
        bool, typer.Option("--only-reference", help="Leave out runs that deviate from their reference recipe.")
    ] = False,
) -> None:
    """Lay finished runs out as the paper does, each number beside the paper's own.

    Images of your own stand under their own name: classified ones in layout transfer, the others in coco and ade20k.
    """
    from benchmarks.planning.records import load_records
    from benchmarks.running.collecting import warn
    from results import build_table, render, select_records

    records = [record for _, record in load_records(directories, on_unreadable=warn)]
    built = build_table(select_records(records, where or [], only_reference), layout)
    print(render(built, format))
    if built.left_out:
        print(f"backbench: in other layouts: {'; '.join(built.left_out)}", file=sys.stderr)


@app.command()
def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A finished run's directory, or one that holds runs of several seeds.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="What to test it against.")],
) -> None:
    """Is run A better than run B? Tests them on the same images, paired, which tells more than their two intervals.

    Both must have been evaluated on the same images of the same data set. Where A and B hold several seeds, runs of the
    same seed are paired, and a verdict needs the images' test and the seeds'. For example, with the runs of the demo:
    backbench compare demo/runs/classification/mini/mae_vit_mini demo/runs/classification/mini/random_vit_mini
    """
    from benchmarks.commands.comparison import show_comparison

    show_comparison(a, b)


@app.command()
def collect(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Directories that were --out of runs.")],
) -> None:
    """Write results.csv anew from the finished runs below each directory.

    Every run does so when it ends; this is for directories that were copied together, or cleared of runs.
    """
    from benchmarks.running.collecting import RESULTS
    from benchmarks.running.collecting import collect as collect_results

    for directory in directories:
        runs = collect_results(directory)
        print(f"{directory / RESULTS}: {runs} finished runs")


@app.command("list")
def list_things(what: Annotated[Listable, typer.Argument(help="What to list.")]) -> None:
    """List what can be named in the other commands."""
    from benchmarks.commands.listing import show_list

    show_list(what)


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, .pt, .bin or .safetensors file.")],
    backbone: Annotated[
        str | None, typer.Option(help="Load it into this backbone and tell where each weight lands.")
    ] = None,
) -> None:
    """Say what a checkpoint is, which weights land where, and what is left over."""
    from benchmarks.commands.screen import show_checkpoint

    show_checkpoint(checkpoint, backbone)


@app.command()
def doctor() -> None:
    """Versions, devices, what works here and what doesn't."""
    from benchmarks.commands.doctor import examine

    raise typer.Exit(0 if examine() else 1)


@data_app.command("mini")
def data_mini(
    root: Annotated[Path, typer.Argument(help="The folder to draw into.")],
    level: Annotated[str, typer.Option(help="smooth (the demo's) or textured (harder).")] = "smooth",
    unlabelled: Annotated[int, typer.Option(min=0, help="Images for pre-training.")] = 12_000,
    train: Annotated[int, typer.Option(min=1, help="Labelled images to fine-tune on.")] = 1_000,
    val: Annotated[int, typer.Option(min=1, help="Labelled images to evaluate on.")] = 2_000,
    coco_train: Annotated[int, typer.Option(min=1, help="Images in COCO's format to train on.")] = 1_000,
    coco_val: Annotated[int, typer.Option(min=1, help="Images in COCO's format to evaluate on.")] = 500,
    ade_train: Annotated[int, typer.Option(min=1, help="Images in ADE20K's format to train on.")] = 1_000,
    ade_val: Annotated[int, typer.Option(min=1, help="Images in ADE20K's format to evaluate on.")] = 500,
    image_size: Annotated[int, typer.Option(min=16, help="Side of the images in pixels.")] = 56,
    seed: Annotated[int, typer.Option(min=0, help="Decides every scene.")] = 0,
) -> None:
    """Draw the small generated data set: what the demo runs on.

    ROOT is in ImageNet's layout, ROOT/coco in COCO's, ROOT/ade20k in ADE20K's.
    """
    from benchmarks.commands.data import draw_mini

    draw_mini(
        root,
        level=level,
        unlabelled=unlabelled,
        train=train,
        val=val,
        coco_train=coco_train,
        coco_val=coco_val,
        ade_train=ade_train,
        ade_val=ade_val,
        image_size=image_size,
        seed=seed,
    )


@data_app.command("check")
def data_check(
    dataset: Annotated[str, typer.Argument(help="`backbench list datasets` names them.")],
    root: Annotated[Path, typer.Option(help="The data set's root folder.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="For coco and ade20k: where their parts lie, e.g. data.train_json=FILE, data.classes=FILE.",
        ),
    ] = None,
) -> None:
    """Check a data set before a long run: layout, counts, annotations, unreadable files.

    Exit status 1 if something is wrong.
    """
    from benchmarks.commands.data import show_data_check

    raise typer.Exit(0 if show_data_check(dataset, root, overrides or []) else 1)


def main() -> None:
    """The console script. Once a command is interrupted, another Ctrl-C only disturbs what Python does at its end."""
    try:
        app(prog_name="backbench")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
