"""`backbench check-backbone`: whether a model of one's own is fit for every task."""

from typing import Annotated

import typer

from benchmarks.commands.completion import complete_backbone
from benchmarks.commands.options import AsJson, Plugin

backbone_app = typer.Typer()


@backbone_app.command("check-backbone")
def check_backbone(
    backbone: Annotated[
        str,
        typer.Argument(
            metavar="NAME[=CHECKPOINT]",
            help="A registered backbone, any timm model, or package.module:function; with the file of its weights.",
            autocompletion=complete_backbone,
        ),
    ],
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Try a backbone in every task on a few random images, and say what is to be mended.

    Shapes at several sizes, gradients of all parameters, evaluation, layers for layer-wise decay, bf16, weights saved
    and loaded, frozen features, and how its pixels are normalised. docs/backbones.md says what a backbone must have.

    A function of one's own: backbench check-backbone my_vision.models:my_vit

    Exit status 1 if a task would not run as it should.
    """
    from backbones.plugins import import_files
    from benchmarks.commands.check_backbone import show_checks

    import_files(plugin or [])
    raise typer.Exit(0 if show_checks(backbone, as_json=as_json) else 1)
