"""The commands about data sets: `backbench data …`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.commands.completion import complete_data_set
from benchmarks.commands.statuses import Group

data_app = typer.Typer(cls=Group, no_args_is_help=True, help="Check data sets, and generate a small one.")


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
    transfer_train: Annotated[
        int, typer.Option(min=0, help="Images of each of iNaturalist's and Places' sets to train on; 0: none of these.")
    ] = 480,
    transfer_val: Annotated[int, typer.Option(min=1, help="Images of each of them to evaluate on.")] = 80,
    image_size: Annotated[int, typer.Option(min=16, help="Side of the images in pixels.")] = 56,
    seed: Annotated[int, typer.Option(min=0, help="Decides every scene.")] = 0,
    weights: Annotated[bool, typer.Option(help="Random weights, in place of pre-trained ones, for the suites.")] = True,
) -> None:
    """Draw the small generated data set: what the demo runs on.

    ROOT is in ImageNet's layout, ROOT/coco in COCO's, ROOT/ade20k in ADE20K's; ROOT/inat2017, /inat2018, /inat2019,
    /places205 and /places365 are as those are distributed. ROOT/site.yaml says so to `backbench suite`.
    """
    from benchmarks.commands.data import draw_mini, draw_transfer_sets, require_enough_for_transfer, write_weights

    if transfer_train:
        require_enough_for_transfer(transfer_train, transfer_val)
    every_set: Any = {"level": level, "image_size": image_size, "seed": seed}
    draw_mini(
        root,
        unlabelled=unlabelled,
        train=train,
        val=val,
        coco_train=coco_train,
        coco_val=coco_val,
        ade_train=ade_train,
        ade_val=ade_val,
        **every_set,
    )
    if transfer_train:
        draw_transfer_sets(root, train=transfer_train, val=transfer_val, **every_set)
    if weights:
        write_weights(root, seed)


@data_app.command("check")
def data_check(
    dataset: Annotated[
        str, typer.Argument(help="`backbench list datasets` names them.", autocompletion=complete_data_set)
    ],
    data: Annotated[Path | None, typer.Option(help="The data set's root folder.")] = None,
    root: Annotated[Path | None, typer.Option(hidden=True, help="What --data was called before.")] = None,
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

    Exit status 1 if something is wrong. For example: backbench data check coco --data COCO

    Of one's own: backbench data check ade20k --data SCENES --set data.classes=classes.txt
    """
    from benchmarks.commands.data import show_data_check

    folder = data or root
    if folder is None:
        raise typer.BadParameter("missing: the data set's root folder", param_hint="--data")
    raise typer.Exit(0 if show_data_check(dataset, folder, overrides or []) else 1)
