"""Options of commands."""

from pathlib import Path
from typing import Annotated

import typer

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
