"""Options of commands."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from benchmarks.commands.completion import complete_recipe

Rescan = Annotated[
    bool,
    typer.Option(
        "--rescan",
        help="List and read the data anew, whatever is known of it from before: for files that were changed in place.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else; messages go to standard error.")
]
Begin = Annotated[
    Path | None, typer.Option("--from", metavar="FILE", help="Begin with an autoencoder's weights, or an encoder's.")
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="So many processes on this machine, one a GPU. On several machines: torchrun, or srun."),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE.py",
        help="A file of your own that calls register_backbone, register_method or register_pretraining; imported "
        "before anything is looked up. May be repeated.",
    ),
]
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

if TYPE_CHECKING:  # type checkers know only enums that are spelt out
    IfChanged: TypeAlias = Literal["keep", "rerun", "fail"]
else:
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
