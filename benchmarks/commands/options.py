"""Options that several commands have."""

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
