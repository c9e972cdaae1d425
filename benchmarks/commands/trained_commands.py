"""The commands about networks that are trained already."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from backbones.errors import DataError
from benchmarks.commands.beginning import import_plugins
from benchmarks.commands.completion import complete_backbone, complete_recipe
from benchmarks.commands.options import (
    AsJson,
    Changed,
    Data,
    DryRun,
    Method,
    Model,
    Plugin,
    PretrainData,
    Processes,
    Rerun,
    Rescan,
    Set,
)

trained_app = typer.Typer()

TARGETS = ("timm", "transformers", "mmseg", "detectron2", "mae")

if TYPE_CHECKING:  # type checkers know only enums that are spelt out
    TargetName: TypeAlias = str
else:
    TargetName = StrEnum("TargetName", {name: name for name in TARGETS})


@trained_app.command()
def evaluate(
    data: Data,
    weights: Annotated[
        Path, typer.Option(metavar="FILE|RUN", help="A finished run's folder, or a file of a whole network, with head.")
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A packaged recipe, or a YAML file of your own; of a run by default its own.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where run directories and results.csv go.")] = Path("runs"),
    backbone: Annotated[
        str | None,
        typer.Option(help="Which model a file's trunk is, where it does not tell.", autocompletion=complete_backbone),
    ] = None,
    method: Method = None,
    pretrain_data: PretrainData = None,
    model: Model = None,
    plugin: Plugin = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at so many images only, spread over all; the result says so.")
    ] = None,
    overrides: Set = None,
    rerun: Rerun = False,
    if_changed: Changed = "keep",
    processes: Processes = None,
    dry_run: DryRun = False,
    rescan: Rescan = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a network that is trained already, and nothing else, to the same record as `run` leaves.

    A run of ours, in windows or whole, at other scales: … --weights runs/…/seed0-KEY --set inference.flip=true

    Weights that others trained: … --recipe imagenet_vit_base --weights mae_finetuned_vit_base.pth
    """
    from backbones.weights.origin import Declared
    from benchmarks.commands.screen import show_cell, show_plan
    from benchmarks.commands.sheets import nothing_else_on_stdout
    from benchmarks.planning.evaluations import plan_evaluation
    from benchmarks.running.evaluating import run_evaluation
    from benchmarks.running.repeating import Repeat

    repeat = Repeat(rerun, if_changed)
    import_plugins(plugin, meets=not dry_run)
    if dry_run:
        plan = plan_evaluation(
            *(recipe, data, weights),
            overrides=overrides or [],
            declared=Declared(method, pretrain_data, model),
            backbone=backbone,
            limit=limit,
        )
        raise typer.Exit(0 if show_plan(plan, out, repeat, as_json=as_json) else 1)
    _launch(processes, recipe, overrides or [])
    with nothing_else_on_stdout(as_json):
        cell = run_evaluation(
            *(recipe, data, weights, out),
            overrides=overrides or [],
            backbone=backbone,
            declared=Declared(method, pretrain_data, model),
            limit=limit,
            repeat=repeat,
            rescan=rescan,
        )
    show_cell(cell, as_json=as_json)
    raise typer.Exit(1 if repeat.is_failed_by(cell.skipped, cell.changes) else 0)


@trained_app.command()
def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run's folder, or the weights.safetensors in it.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE…", help="Images, and folders of images, searched to any depth.")
    ],
    out: Annotated[
        Path, typer.Option(help="Where pictures/ and predictions.json go. What is there of the same name is replaced.")
    ] = Path("predictions"),
    top: Annotated[
        int | None, typer.Option(min=1, help="Classification: so many classes of each image; by default 5.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Detection: objects that score at least this; by default 0.3.")
    ] = None,
    mask_ratio: Annotated[
        float | None, typer.Option(min=0, max=1, help="Autoencoders: the share to hide; by default as in training.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Autoencoders: which patches are hidden; by default 0.")
    ] = None,
    plugin: Plugin = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Draw what a trained network sees in images: classes, objects with masks, the class of every pixel, or what an
    autoencoder paints where patches are hidden.

    backbench predict runs/…/seed0-KEY photo.jpg holiday/ --out seen

    Images are read and resized as in evaluation. Those that cannot be read are named at the end, with exit status 3.
    """
    import sys

    from benchmarks.commands.screen import show_predicted
    from benchmarks.commands.sheets import nothing_else_on_stdout
    from benchmarks.running.predicting import predict_images

    import_plugins(plugin)
    asked = {"top": top, "score": score, "mask_ratio": mask_ratio, "seed": seed}
    stdout = sys.stdout
    with nothing_else_on_stdout(as_json):
        done = predict_images(
            *(run, images, out),
            asked={name: value for name, value in asked.items() if value is not None},
            overrides=overrides or [],
            stream=stdout if as_json else None,
        )
        show_predicted(done)
    raise typer.Exit(DataError.status if done.unreadable else 0)


@trained_app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(metavar="RUN|FILE", help="A finished run's folder, its weights.safetensors, or a backbone's."),
    ],
    to: Annotated[TargetName, typer.Option(help="In whose names; see above.")],
    out: Annotated[
        Path, typer.Option(help="Where to: a folder for timm and transformers, a file for the others (.pth, .pkl).")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(help="Which model a backbone's file is of.", autocompletion=complete_backbone),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Of a backbone's file: the side in pixels to interpolate positions to.")
    ] = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="For transformers, of a pre-training: a ViTMAEForPreTraining.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier export left there.")] = False,
    plugin: Plugin = None,
) -> None:
    """Hand on what was trained here, in the names of another library.

    timm: a folder for timm.create_model("local-dir:DIR", pretrained=True), encoders and classifiers, of any timm model

    transformers: a folder for AutoModel or AutoModelForImageClassification.from_pretrained(DIR), of ViTs and BEiTs

    mae: facebookresearch/mae's pre-trained file, decoder and all, or its fine-tuned one

    mmseg: UPerNet of the adapter `beit`, beside it the configuration that builds it; of an encoder the backbone

    detectron2: ViTDet, which is Mask R-CNN with the adapter `simple`, and its configuration; of an encoder the backbone
    """
    from benchmarks.commands.exports import show_export
    from benchmarks.running.exporting import export as write_export

    import_plugins(plugin)
    exported = write_export(
        source,
        str(to),  # type: ignore[arg-type]
        out,
        backbone=backbone,
        image_size=image_size,
        decoder=decoder,
        overwrite=overwrite,
    )
    show_export(exported)


def _launch(processes: int | None, recipe: str | None, overrides: list[str]) -> None:
    """Go on in several processes, if so many are wanted, and end as they do."""
    import sys

    from benchmarks.commands.statuses import after_repeating
    from benchmarks.running.evaluating import require_devices
    from benchmarks.running.launching import is_to_launch, launch

    if processes and is_to_launch(processes):
        require_devices(processes, recipe, overrides)
        raise typer.Exit(launch(processes, sys.argv[1:], after_repeating("evaluate")))
