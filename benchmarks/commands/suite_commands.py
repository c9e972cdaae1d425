"""The commands of whole comparisons: `suite` and `status`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backbones.errors import InputError
from benchmarks.commands.options import AsJson, Method, Model, Plugin, PretrainData

if TYPE_CHECKING:
    from benchmarks.scheduling.repeats import Call

suite_app = typer.Typer()


class Launcher(StrEnum):
    """By whom cells are carried out."""

    local = "local"
    slurm = "slurm"


@suite_app.command()
def suite(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="SUITE", help="A packaged suite (`backbench list suites`) or a YAML file.")
    ],
    out: Annotated[
        Path, typer.Option(help="Where runs, results.csv and tables go. What is finished there is skipped.")
    ],
    site: Annotated[
        Path | None,
        typer.Option(help="Where data, weights and partitions are on this machine; BACKBENCH_SITE by default."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE,…", help="These cells alone: task=detection,model=ViT-B. May be repeated."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="So many of each cell, 0, 1, …, in the place of the suite's.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=CHECKPOINT[::PART]]", help="This backbone through all comparisons, in the place of theirs."
        ),
    ] = None,
    method: Method = None,
    pretrain_data: PretrainData = None,
    model: Model = None,
    recipes_of: Annotated[
        str | None, typer.Option(metavar="MODEL", help="With --backbone: under the recipes of this model.")
    ] = None,
    plugin: Plugin = None,
    launcher: Annotated[
        Launcher,
        typer.Option(
            help="Processes of this machine, or jobs of Slurm, as the site file's section `slurm` has it: they are not "
            "waited for; repeated, the command submits what is neither finished nor queued."
        ),
    ] = Launcher.local,
    jobs: Annotated[
        str | None,
        typer.Option(
            metavar="gpu|N",
            help="One cell a GPU, or so many cells at a time, which share out the GPUs, or the processor's cores; one "
            "by default, on one GPU.",
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0, help="After so many, no cell begins, and those at work save what they have and end."),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="So often a cell is begun again that was killed, or is worth trying again.")
    ] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what each cell is and what is missing.")] = False,
    keep_nights: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Take --out for a folder of nights, each with a store of its own. Once all of tonight's cells have "
            "finished, weights, checkpoints, pictures and per-image files of all but the newest N nights go; numbers "
            "and logs stay.",
        ),
    ] = None,
    night: Annotated[
        str | None, typer.Option(metavar="DATE", help="With --keep-nights: which night, such as 2026-11-26; today's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Carry out a whole comparison: every cell of a suite, then its tables. Repeat the command as you like.

    The paper's tables: backbench suite paper --site SITE.yaml --out runs

    A method of your own, its row in every table: … --backbone my_vit=FILE --method MyMethod --model ViT-B
    """
    from benchmarks.commands.nights import end_night, store_of_night
    from benchmarks.commands.suite_endings import show_repeat
    from benchmarks.scheduling.repeats import Call

    if launcher is Launcher.slurm and (jobs is not None or hours is not None):
        raise InputError(
            "--launcher slurm: --jobs and --hours are of this machine. The site file's slurm section has limits"
        )
    nights, out = out, store_of_night(out, keep_nights, night)
    asked: dict[str, Any] = {
        "site": site,
        "only": only or (),
        "seeds": seeds,
        "backbone": backbone,
        "method": method,
        "pretrain_data": pretrain_data,
        "model": model,
        "recipes_of": recipes_of,
        "plugins": plugin or (),
    }
    call = Call({"suite": file, "jobs": jobs, **asked})
    if dry_run or launcher is Launcher.slurm or not show_repeat(out, call, as_json=as_json):
        _plan_and_carry_out(context, call, file, out, asked)
    if keep_nights is not None:
        end_night(nights, out, keep_nights)


def _plan_and_carry_out(context: typer.Context, call: "Call", file: str, out: Path, asked: dict[str, Any]) -> None:
    """Do what the command says. Raises typer.Exit where not all has finished after it, or that was not the wish."""
    from benchmarks.commands.suite_endings import command_for
    from benchmarks.commands.suites import carry_out_suite
    from benchmarks.planning.suites.looking import require_sound
    from benchmarks.planning.suites.plan import plan_suite
    from benchmarks.running.foreseeing import tell_looking
    from benchmarks.scheduling.repeats import look_at_ground, note_nothing_to_do

    given = context.params
    plan = plan_suite(file, out, **asked)
    for note in plan.notes:
        print(f"backbench: {note}", file=sys.stderr)
    if given["dry_run"]:
        from benchmarks.commands.suite_plans import show_planned

        raise typer.Exit(show_planned(plan, as_json=given["as_json"]))
    plan = require_sound(plan, tell_looking)
    ground = look_at_ground(plan, call)
    if given["launcher"] is Launcher.slurm:
        from benchmarks.commands.suites_on_slurm import submit_and_tell

        if not submit_and_tell(plan, as_json=given["as_json"]):
            raise typer.Exit(1 if any(cell.missing for cell in plan.cells) else 0)
    exit_status = carry_out_suite(
        plan,
        jobs=given["jobs"],
        hours=given["hours"],
        retries=given["retries"],
        as_json=given["as_json"],
        repeat=lambda cells: command_for(context, cells),
    )
    if exit_status:
        raise typer.Exit(exit_status)
    note_nothing_to_do(plan, call, ground)


@suite_app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where suites and their runs are: the --out of `suite`.")],
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Look again every few seconds, until all cells have ended, or Ctrl-C."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how far the suites of a store are: cells, progress, loss, time left, failures, owners.

    Writes nothing, and needs neither suite nor site file: any machine that sees the directory will do.

    Ends with exit status 1 if a cell has failed, or cannot be read, else with 0; after Ctrl-C too.
    """
    from benchmarks.commands.suite_status import show_status

    if watch and as_json:
        raise InputError("--watch --json: one document, or many. Give one of them")
    raise typer.Exit(show_status(out, as_json=as_json, watch=watch))
