"""The commands about what is kept of data and weights: `backbench cache …`."""

from typing import Annotated

import typer

from benchmarks.commands.options import AsJson
from benchmarks.commands.statuses import Group

cache_app = typer.Typer(
    cls=Group, no_args_is_help=True, help="What is kept of data, weights and features, to be found at once."
)


@cache_app.command("ls")
def cache_ls(as_json: AsJson = False) -> None:
    """List what is kept, of which data or weights, with its size and when it was last used.

    It lies in $XDG_CACHE_HOME/backbench, by default ~/.cache/backbench, and takes up to 4 GiB beside the images
    of data sets that were unpacked, and beside features for probes, which take up to 256 GiB: what was used longest
    ago makes room.
    """
    from benchmarks.commands.caches import show_cache

    show_cache(as_json=as_json)


@cache_app.command("rm")
def cache_rm(
    name: Annotated[
        str | None, typer.Argument(help="Features, by the last part of their place in `cache ls --json`; default: all.")
    ] = None,
    features: Annotated[bool, typer.Option("--features", help="All features, and nothing else.")] = False,
) -> None:
    """Remove what is kept: all, all features, or those of one name. It is found out again when it is needed.

    Not while a run trains on CIFAR: it reads the unpacked images from there, and ends without them.
    """
    from benchmarks.commands.caches import clear_cache, clear_features

    if features or name is not None:
        clear_features(name)
    else:
        clear_cache()
