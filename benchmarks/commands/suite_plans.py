"""What `backbench suite --dry-run` prints: every cell of a suite before anything is started."""

import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.commands.sheets import Sheet, print_json, show, spell_size
from benchmarks.planning.suites.looking import require_sound
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.running.foreseeing import tell_looking
from benchmarks.scheduling.folders import SuiteFolder, read_earlier
from benchmarks.scheduling.previews import Preview, preview

_INDENT = " " * 6
_NOTHING = "–"


def show_planned(plan: SuitePlan, *, as_json: bool) -> int:
    """Every cell of a suite, and what is missing; the exit status, 1 if anything is.

    Raises InputError that names all cells that cannot go well, as carrying the suite out does.
    """
    read_earlier(SuiteFolder(plan.out, plan.name), plan)  # refuses what carrying out would
    plan = require_sound(plan, tell_looking)
    previews = preview(plan, tell_looking)
    if as_json:
        print_json(_document(plan, previews))
    elif sys.stdout.isatty():
        _print_for_people(previews)
        print(_in_all(previews))
    else:
        headings = (
            *("cell", "state", "detail", "method", "pre-training data", "column", "published", "own number"),
            *("key", "run", "hours", "measured on", "disk", "weights"),
        )
        show(Sheet(headings, [_row(each) for each in previews]))
        print(_in_all(previews), file=sys.stderr)
    return 1 if any(each.state == "missing" for each in previews) else 0


def _row(each: Preview) -> tuple[str, ...]:
    cell = each.cell
    return (
        *(cell.name, each.state, each.detail, cell.method, cell.pretrain_data, cell.column),
        *(_numbers(cell.expected), _numbers(each.metrics), each.key or _NOTHING),
        *(str(each.directory or _NOTHING), _hours(each.hours), each.devices, _disk(each.bytes), each.source),
    )


def _print_for_people(previews: Sequence[Preview]) -> None:
    """A line for each cell, under its comparison and table; and at the end what is missing, each once."""
    from rich.text import Text

    from benchmarks.commands.console import plain_console

    console = plain_console()
    width = max(72, min(console.width, 120))

    def tell(text: str, indent: str = "", style: str = "") -> None:
        parts = textwrap.wrap(text, width - len(indent), break_long_words=False, break_on_hyphens=False)
        for part in parts:
            console.print(Text(indent + part, style=style), soft_wrap=True)

    longest = min(max(map(len, map(_short, previews)), default=0), 44)
    above = None
    for each in previews:
        if each.cell.comparison != above:
            above = each.cell.comparison
            tell(f"{above} (table {each.cell.table})" if above else "pre-training", style="bold")
        numbers = " → ".join(filter(None, (_numbers(each.cell.expected), _numbers(each.metrics)))) or _NOTHING
        took = f"{_hours(each.hours)} h" if each.hours else _NOTHING
        line = f"  {_short(each):<{longest}}  {each.state:<10}  {numbers:<28}  {took:>7}  {each.key or _kinds(each)}"
        console.print(Text(line.rstrip()), soft_wrap=True)
        if each.detail and each.detail != "; ".join(each.cell.missing):
            tell(each.detail, _INDENT)
        if each.directory and each.state in ("finished", "unfinished", "at work", "failed"):
            console.print(Text(f"{_INDENT}{each.directory}"), soft_wrap=True)
    lacks = _lacks(previews)
    if lacks:
        tell("missing", style="bold")
    for lack, (count, source) in lacks.items():
        tell(f"{lack} ({count} cell{'s' if count > 1 else ''})", "  ")
        if source:
            tell(source, _INDENT)


def _kinds(each: Preview) -> str:
    """What is missing of a cell, in a word: "data, weights"."""
    return ", ".join(text.partition(" ")[0] for text in each.cell.missing) or _NOTHING


def _lacks(previews: Sequence[Preview]) -> dict[str, tuple[int, str]]:
    """By what is missing, how many cells need it, and of weights where they are to be had."""
    lacks: dict[str, tuple[int, str]] = {}
    for each in previews:
        for text in each.cell.missing:
            count, _ = lacks.get(text, (0, ""))
            lacks[text] = (count + 1, each.source if text.startswith("weights ") else "")
    return dict(sorted(lacks.items()))


def _short(each: Preview) -> str:
    """A cell's name below its comparison's."""
    return each.cell.name.removeprefix(f"{each.cell.comparison}-").removesuffix("-seed0")


def _in_all(previews: Sequence[Preview]) -> str:
    """How many cells are how far, and what is known of what is left, in a line."""
    states = Counter(each.state for each in previews)
    left = [each for each in previews if each.state != "finished"]
    in_all = f"{len(previews)} cell{'' if len(previews) == 1 else 's'}"
    text = f"{in_all}: {', '.join(f'{count} {state}' for state, count in states.items())}"
    measured = [each for each in left if each.hours is not None]
    if measured:
        of_how_many = "" if len(measured) == len(left) else f" for {len(measured)} of them, the others not measured"
        size = sum(each.bytes or 0 for each in left)
        hours = _hours_by_devices(measured)
        told = [f"{_hours(of_those)} h{f' on {devices}' if devices else ''}" for devices, of_those in hours.items()]
        text += f"; {', '.join([*told, spell_size(size)])} to come{of_how_many}"
    elif left:
        text += "; hours and disk not measured yet"
    return text


def _hours_by_devices(previews: Sequence[Preview]) -> dict[str, float]:
    """What is left, by what it was measured on: hours on different devices cannot be added up."""
    sums: dict[str, float] = {}
    for each in previews:
        if each.hours:
            sums[each.devices] = sums.get(each.devices, 0.0) + each.hours
    return sums


def _numbers(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in values.items())


def _hours(hours: float | None) -> str:
    if hours is None:
        return _NOTHING
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


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
        "measured": {
            "cells": sum(each.state != "finished" and each.hours is not None for each in previews),
            "hours": _hours_by_devices(previews),
            "bytes": sum(each.bytes or 0 for each in previews),
        },
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
        "measured_on": each.devices or None,
        "bytes": each.bytes,
        "said_at": cell.place,
        "command": ["backbench", *cell.arguments(plan.out)],
    }
