"""What `backbench suite` prints at its end: tables, what is not as it should be, and what it took."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

import typer

from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import print_json
from benchmarks.commands.suite_views import spell_device_hours, spell_seconds
from benchmarks.scheduling.ending import Ending, end_suite, summary_document
from benchmarks.scheduling.repeats import Call, find_repeat
from results import render_all

_NAMED = 3
"""Cells that are named where many are alike."""


def show_ending(ending: Ending) -> None:
    """The tables, then a line for whatever deviates, failed, is missing or unfinished, files, and time."""
    if ending.tables:
        print(render_all(list(ending.tables), "md"), flush=True)
    console = plain_console()
    for line in ending_lines(ending):
        console.print(line, soft_wrap=True)


def show_repeat(out: Path, call: Call, *, as_json: bool) -> bool:
    """The same, of a call that asks for nothing that is not done; whether it is such a one."""
    repeat = find_repeat(out, call)
    if repeat is None:
        return False
    ending = end_suite(repeat.folder, repeat.cells, wall_seconds=call.seconds, beside_others=repeat.beside_others)
    if len(ending.ours.of("finished")) < len(repeat.cells):
        return False
    ending = replace(ending, wall_seconds=call.seconds)
    for note in repeat.notes:
        print(f"backbench: {note}", file=sys.stderr)
    if as_json:
        print_json(summary_document(ending))
    else:
        show_ending(ending)
    return True


def ending_lines(ending: Ending) -> list[str]:
    """All that is to be said beside the tables."""
    lines = [f"deviates: {', '.join(deviations)}: {_several(cells)}" for deviations, cells in ending.deviations.items()]
    for cell in ending.failed:
        lines += [f"failed: {cell.job.name}: {cell.reason}", f"  {cell.log}"]
    if ending.again:
        lines += ["  to repeat just that:", f"  {ending.again}"]
    lines += [f"missing: {cell.job.name}: {cell.reason}" for cell in ending.missing]
    lines += [
        f"unfinished: {cell.job.name}: {cell.state}{f', {cell.reason}' if cell.reason else ''}"
        for cell in ending.unfinished
    ]
    if ending.unfinished:
        lines.append("  repeat the command to go on with them")
    if ending.results.is_file():
        lines.append(str(ending.results))
    if ending.files:
        names = ", ".join(path.name for path in ending.files)
        lines.append(f"{ending.files[0].parent}: {names}")
    return [*lines, *_took(ending)]


def command_for(context: typer.Context, cells: Sequence[str]) -> str:
    """The command of this call for some of the cells: as it was given, but for which cells it is of."""
    words = ["backbench", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in ("only", "dry_run"):
            continue
        value = context.params[name]
        option = "" if parameter.param_type_name == "argument" else parameter.opts[0]
        for one in value if isinstance(value, list | tuple) else [value]:
            told = one.value if isinstance(one, Enum) else one
            words += [text for text in (option, "" if told is True else str(told)) if text]
    return shlex.join([*words, *(word for cell in cells for word in ("--only", f"cell={cell}"))])


def _several(names: Sequence[str]) -> str:
    """So many names, of many the first."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _took(ending: Ending) -> list[str]:
    whole, ours = ending.whole, ending.ours
    spent = spell_device_hours(*ending.spent, "")
    call = f"{len(ours.of('finished'))} of {len(ours.cells)} cells finished; this call took"
    lines = [f"{call} {', '.join(filter(None, (spell_seconds(ending.wall_seconds), spent.strip())))}"]
    in_all = spell_device_hours(whole.gpu_hours, whole.cpu_hours, "").strip()
    if in_all:
        at_work = spell_seconds(whole.seconds_at_work)
        lines.append(f"the suite in all: {at_work} with a cell at work, {in_all}")
    return lines
