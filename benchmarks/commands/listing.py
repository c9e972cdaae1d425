"""What `backbench list` prints. What a list needs is imported for it alone, so that the others answer at once."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table


def _backbones() -> Table:
    from backbones.registry import list_backbones, normalisation_of

    table = plain_table("name", "method", "pre-training data", "column", "architecture in timm", "normalisation")
    for entry in list_backbones():
        pixels = normalisation_of(entry).label
        table.add_row(entry.name, entry.method, entry.pretrain_data, entry.model, entry.arch, pixels)
    table.caption = "and every model of timm by its name, and package.module:function"
    return table


def _methods() -> Table:
    from backbones.weights.methods import METHODS

    table = plain_table("method", "pre-training data")
    for method in METHODS.values():
        table.add_row(method.name, method.pretrain_data)
    return table


def _recipes() -> Table:
    from benchmarks.planning.recipe import list_recipes

    table = plain_table("recipe", "what to expect of it")
    for name, line in list_recipes().items():
        table.add_row(name, line)
    return table


def _datasets() -> Table:
    from tasks.registry import DATA_SETS

    table = plain_table("data set", "layout")
    for data_set in DATA_SETS.values():
        table.add_row(data_set.name, data_set.layout)
    return table


LISTS: dict[str, Callable[[], Table]] = {
    "backbones": _backbones,
    "methods": _methods,
    "recipes": _recipes,
    "datasets": _datasets,
}
"""What `backbench list` lists, by the name that it takes."""


def show_list(what: str) -> None:
    """Print one of `LISTS`."""
    Console(highlight=False).print(LISTS[what]())


def plain_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
