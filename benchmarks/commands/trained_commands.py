"""The commands about networks that are trained already."""

from pathlib import Path
from typing import Annotated

import typer

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
    _launch(processes)
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


def _launch(processes: int | None) -> None:
    """Go on in several processes, if so many are wanted, and end as they do."""
    import sys

    from benchmarks.running.launching import is_to_launch, launch

    if processes and is_to_launch(processes):
        raise typer.Exit(launch(processes, sys.argv[1:]))
