"""What `backbench suite --dry-run` prints: every cell of a suite before anything is started."""

import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.commands.sheets import Sheet, print_json, show, spell_size
from benchmarks.planning.suites.looking import require_sound
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.running.foreseeing import tell_listing
from benchmarks.scheduling.previews import Preview, preview

_INDENT = " " * 6
_NOTHING = "–"


def show_planned(plan: SuitePlan, *, as_json: bool) -> int:
    """Every cell of a suite, and what is missing; the exit status, 1 if anything is.

    Raises InputError that names all cells that cannot go well, as carrying the suite out does.
    """
    require_sound(plan)
    previews = preview(plan, tell_listing)
    if as_json:
        print_json(_document(plan, previews))
    elif sys.stdout.isatty():
        _print_for_people(previews)
        print(_in_all(previews))
    else:
        headings = (
            *("cell", "state", "detail", "method", "pre-training data", "column", "published", "own number"),
            *("key", "run", "hours", "disk", "weights"),
        )
        show(Sheet(headings, [_row(each) for each in previews]))
        print(_in_all(previews), file=sys.stderr)
    return 1 if any(each.state == "missing" for each in previews) else 0


def _row(each: Preview) -> tuple[str, ...]:
    cell = each.cell
    return (
        *(cell.name, each.state, each.detail, cell.method, cell.pretrain_data, cell.column),
        *(_numbers(cell.expected), _numbers(each.metrics), each.key or _NOTHING),
        *(str(each.directory or _NOTHING), _hours(each.hours), _disk(each.bytes), each.source),
    )


def _print_for_people(previews: Sequence[Preview]) -> None:
    """A line for each cell, under its comparison and table, and below it what else is to be said."""
    from rich.text import Text

    from benchmarks.commands.console import plain_console

    console = plain_console()
    width = max(72, min(console.width, 120))
    names = {id(each): _short(each) for each in previews}
    longest = min(max(map(len, names.values()), default=0), 44)
    above = None
    for each in previews:
        if each.cell.comparison != above:
            above = each.cell.comparison
            title = f"{above} (table {each.cell.table})" if above else "pre-training"
            console.print(Text(title, style="bold"), soft_wrap=True)
        numbers = " → ".join(filter(None, (_numbers(each.cell.expected), _numbers(each.metrics)))) or _NOTHING
        took = f"{_hours(each.hours)} h" if each.hours is not None else _NOTHING
        line = f"  {names[id(each)]:<{longest}}  {each.state:<10}  {numbers:<28}  {took:>7}  {each.key or _NOTHING}"
        console.print(Text(line.rstrip()), soft_wrap=True)
        for note in _notes(each):
            for part in textwrap.wrap(note, width - len(_INDENT), break_long_words=False, break_on_hyphens=False):
                console.print(Text(_INDENT + part), soft_wrap=True)


def _short(each: Preview) -> str:
    """A cell's name below its comparison's."""
    return each.cell.name.removeprefix(f"{each.cell.comparison}-").removesuffix("-seed0")


def _notes(each: Preview) -> Iterator[str]:
    if each.detail:
        yield each.detail
    if each.state == "missing" and each.source:
        yield f"weights: {each.source}"
    if each.directory and each.state in ("finished", "unfinished", "at work", "failed"):
        yield str(each.directory)


def _in_all(previews: Sequence[Preview]) -> str:
    """How many cells are how far, and what is known of what is left, in a line."""
    states = Counter(each.state for each in previews)
    left = [each for each in previews if each.state != "finished"]
    text = f"{len(previews)} cells: {', '.join(f'{count} {state}' for state, count in states.items())}"
    measured = [each.hours for each in left if each.hours is not None]
    if measured:
        of_how_many = "" if len(measured) == len(left) else f" for {len(measured)} of them, the others not measured"
        size = sum(each.bytes or 0 for each in left)
        text += f"; {_hours(sum(measured))} h and {spell_size(size)} to come{of_how_many}"
    elif left:
        text += "; hours and disk not measured yet"
    return text


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in values.items())


def _hours(hours: float | None) -> str:
    return _NOTHING if hours is None else f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def _disk(size: int | None) -> str:
    return _NOTHING if size is None else spell_size(size)


def _document(plan: SuitePlan, previews: Sequence[Preview]) -> dict[str, Any]:
    return {
        "suite": plan.name,
        "about": plan.suite.about,
        "out": str(plan.out),
        "site": str(plan.site.said_in) if plan.site.said_in else None,
        "cells": [_described(plan, each) for each in previews],
        "states": dict(Counter(each.state for each in previews)),
    }


def _described(plan: SuitePlan, each: Preview) -> dict[str, Any]:
    cell = each.cell
    return {
        "cell": cell.name,
        "comparison": cell.comparison,
        "state": each.state,
        "detail": each.detail,
        "missing": cell.missing,
        "needs": cell.needs or None,
        "task": cell.task,
        "dataset": cell.dataset,
        "recipe": cell.recipe,
        "overrides": cell.overrides,
        "deviations": cell.planned.deviations,
        "backbone": cell.planned.backbone,
        "seed": cell.seed,
        "table": cell.table or None,
        "method": cell.method or None,
        "pretrain_data": cell.pretrain_data or None,
        "model": cell.column or None,
        "published": dict(cell.expected),
        "metrics": dict(each.metrics),
        "weights": cell.weights or None,
        "weights_source": each.source or None,
        "key": each.key or None,
        "run": str(each.directory) if each.directory else None,
        "hours": each.hours,
        "bytes": each.bytes,
        "said_at": cell.place,
        "command": ["backbench", *cell.arguments(plan.out)],
    }
