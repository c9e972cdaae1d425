"""The commands about what is kept of data and weights: `backbench cache …`."""

import typer

from benchmarks.commands.options import AsJson
from benchmarks.commands.statuses import Group

cache_app = typer.Typer(cls=Group, no_args_is_help=True, help="What is kept of data and weights, to be found at once.")


@cache_app.command("ls")
def cache_ls(as_json: AsJson = False) -> None:
    """List what is kept, of which data or weights, with its size and when it was last used.

    It lies in $XDG_CACHE_HOME/backbench, by default ~/.cache/backbench, and takes up to 4 GiB beside the images
    of data sets that were unpacked.
    """
    from benchmarks.commands.caches import show_cache

    show_cache(as_json=as_json)


@cache_app.command("rm")
def cache_rm() -> None:
    """Remove all that is kept. It is found out again when it is needed.

    Not while a run trains on CIFAR: it reads the unpacked images from there, and ends without them.
    """
    from benchmarks.commands.caches import clear_cache

    clear_cache()
