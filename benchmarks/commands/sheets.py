"""Tables on the screen: columns where people read, lines with tabs where programs do; and JSON documents."""

import contextlib
import json
import math
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

_INDENT = " " * 4
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Sheet:
    """Rows under headings.

    numbers: the headings of columns that stand on the right
    caption: for people
    notes:   for people, below each row
    widths:  the fewest characters of the first columns, where rows are shown one by one
    is_of_paths: the last column holds paths, which are to be copied: no terminal is too narrow for them
    """

    headings: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    caption: str = ""
    numbers: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    is_of_paths: bool = False
    widths: Sequence[int] = ()

    def as_dicts(self) -> list[dict[str, str]]:
        """A dictionary a row, by the headings as identifiers: "pre-training data" is `pre_training_data`."""
        names = [re.sub(r"\W+", "_", heading) for heading in self.headings]
        return [dict(zip(names, row, strict=True)) for row in self.rows]


def show(*sheets: Sheet, with_headings: bool = True) -> None:
    """Print tables: on a terminal in columns, elsewhere one line a row, with a tab from one entry to the next."""
    for number, sheet in enumerate(sheets):
        if number:
            print()
        if sys.stdout.isatty():
            (_show_paths if sheet.is_of_paths else _show_columns)(sheet, with_headings)
            continue
        for row in [*([sheet.headings] if with_headings else []), *sheet.rows]:
            print("\t".join(" ".join(entry.split()) for entry in row))


def _show_columns(sheet: Sheet, with_headings: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from benchmarks.commands.console import plain_console

    table = Table(
        box=None, pad_edge=False, header_style="bold", show_header=with_headings, caption=sheet.caption or None
    )
    for heading, width in zip_longest(sheet.headings, sheet.widths):
        justify: Literal["right", "left"] = "right" if heading in sheet.numbers else "left"
        table.add_column(heading, overflow="fold", justify=justify, min_width=width)
    for row in sheet.rows:
        table.add_row(*(Text(entry) for entry in row))
    plain_console().print(table)


def _show_paths(sheet: Sheet, with_headings: bool) -> None:
    """Columns, of which the last has lines of its own where not all fits; no line end is put into a path."""
    from rich.text import Text

    from benchmarks.commands.console import plain_console

    console = plain_console()
    rows = [sheet.headings, *sheet.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fits = sum(widths) + 2 * len(widths[1:]) <= console.width
    for number, row in enumerate(rows):
        if not (number or with_headings):
            continue
        columns = [
            entry.rjust(width) if heading in sheet.numbers else entry.ljust(width)
            for heading, entry, width in zip(sheet.headings, row[:-1], widths, strict=False)
        ]
        lines = ["  ".join([*columns, row[-1]])] if fits else ["  ".join(columns).rstrip(), _INDENT + row[-1]]
        if number and sheet.notes:
            room = console.width - len(_INDENT)
            note = textwrap.wrap(sheet.notes[number - 1], room, break_long_words=False, break_on_hyphens=False)
            lines += [_INDENT + line for line in note]
        for line in lines:
            console.print(Text(line, style="" if number else "bold"), soft_wrap=True)


def print_json(document: Any) -> None:
    """One document, all that stands on standard output; null for numbers that JSON has no word for."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value


@contextlib.contextmanager
def nothing_else_on_stdout(json_wanted: bool) -> Iterator[None]:
    """Within the block what is printed goes to standard error, if a JSON document is to be all on standard output."""
    with contextlib.redirect_stdout(sys.stderr) if json_wanted else contextlib.nullcontext():
        yield


def spell_size(count: int) -> str:
    """Bytes, such as 1.5 GiB."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def spell_age(seconds: float) -> str:
    """Whole days, hours, minutes or seconds, such as 3 d."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return "0 s"
