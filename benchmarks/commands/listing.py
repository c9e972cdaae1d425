"""What `backbench list` prints. What a list needs is imported for it alone, so that the others answer at once."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.commands.sheets import Sheet


def _backbones() -> dict[str, "Sheet"]:
    from backbones.normalising import normalisation_of
    from backbones.registry import list_backbones

    sheet = _sheet(
        *("name", "method", "pre-training data", "column", "architecture in timm", "normalisation"),
        caption="and every model of timm by its name, and package.module:function",
    )
    for entry in list_backbones():
        pixels = normalisation_of(entry).label
        sheet.rows.append((entry.name, entry.method, entry.pretrain_data, entry.model, entry.arch, pixels))
    return {"backbones": sheet}


def _methods() -> dict[str, "Sheet"]:
    from backbones.registry import list_backbones
    from backbones.weights.methods import METHODS

    sheet = _sheet(
        *("method", "pre-training data", "normalisation", "backbones"),
        caption="data: of the released weights; normalisation: as the method's code has it, where all files have the "
        "same; under another name a file of a method is run with --method",
    )
    names: dict[str, list[str]] = {}
    for entry in list_backbones():
        names.setdefault(entry.method, []).append(entry.name)
    for method in METHODS.values():
        pixels = method.normalisation.label if method.normalisation else ""
        sheet.rows.append((method.name, method.pretrain_data, pixels, ", ".join(names.get(method.name, []))))
    return {"methods": sheet}


def _recipes() -> dict[str, "Sheet"]:
    from benchmarks.planning.recipe import list_more_recipes, list_recipes

    more = (
        f"and {len(names)} in recipes/{folder}/: {', '.join(names)}" for folder, names in list_more_recipes().items()
    )
    sheet = _sheet("recipe", "what to expect of it", caption="; ".join(more))
    sheet.rows.extend(list_recipes().items())
    return {"recipes": sheet}


def _suites() -> dict[str, "Sheet"]:
    from benchmarks.planning.suites.suite import list_suites

    sheet = _sheet("suite", "what it compares")
    sheet.rows.extend(list_suites().items())
    return {"suites": sheet}


def _datasets() -> dict[str, "Sheet"]:
    from tasks.data_sets import DATA_SETS

    sheet = _sheet("data set", "layout")
    sheet.rows.extend((data_set.name, data_set.layout) for data_set in DATA_SETS.values())
    return {"datasets": sheet}


def _weights() -> dict[str, "Sheet"]:
    """The cells of the paper's tables, those of one row and column together; and the files."""
    from backbones.weights.published import Cell, published

    listed = published()
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for cell in listed.cells:
        rows.setdefault(cell.place[1:], []).append(cell)
    cells = _sheet(
        *("method", "pre-training data", "column", "tables", "what", "file, or how it is known"),
        caption="weights: what a run of the cell starts from, none: not released, nearest: what else can be had, "
        "finished: trained on the table's task already",
    )
    for row, group in rows.items():
        tables: dict[tuple[str, str], list[str]] = {}
        for cell in group:
            kinds = {"none": () if cell.weights else (cell.evidence,), "weights": cell.weights}
            for kind, names in (kinds | {"nearest": cell.nearest, "finished": cell.finished}).items():
                for name in names:
                    tables.setdefault((kind, name), []).append(cell.place.table)
        cells.rows.extend((*row, ", ".join(places), kind, name) for (kind, name), places in tables.items())
    files = _sheet("file", "known by", "page", "how it differs from what the paper's row had")
    files.rows.extend((file.name, file.digest, file.page, file.differs) for file in listed.files)
    return {"cells": cells, "files": files}


def _sheet(*headings: str, caption: str = "") -> "Sheet":
    from benchmarks.commands.sheets import Sheet

    return Sheet(headings, caption=caption)


LISTS: dict[str, Callable[[], dict[str, "Sheet"]]] = {
    "backbones": _backbones,
    "methods": _methods,
    "recipes": _recipes,
    "suites": _suites,
    "datasets": _datasets,
    "weights": _weights,
}
"""What `backbench list` lists, by the name that it takes: sheets by their names in JSON."""


def show_list(what: str, as_json: bool) -> None:
    """Print one of `LISTS`."""
    from benchmarks.commands.sheets import print_json, show

    sheets = LISTS[what]()
    if as_json:
        print_json({name: sheet.as_dicts() for name, sheet in sheets.items()})
    else:
        show(*sheets.values())
