"""Options that several commands have."""

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
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE.py",
        help="A file of your own that calls register_backbone or register_method; imported before anything is looked "
        "up. May be repeated.",
    ),
]
