"""The screen, for text that is printed as it stands."""

from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """A console that takes nothing in paths, names and messages for markup: "[bold]" and ":cat:" are printed so."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
