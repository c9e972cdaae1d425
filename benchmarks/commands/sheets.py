"""Tables on the screen: columns where people read, lines with tabs where programs do; and JSON documents."""

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sheet:
    """Rows under headings. `numbers` are the headings of columns that stand on the right; `caption` is for people."""

    headings: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    caption: str = ""
    numbers: frozenset[str] = frozenset()

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
            _show_columns(sheet, with_headings)
            continue
        for row in [*([sheet.headings] if with_headings else []), *sheet.rows]:
            print("\t".join(" ".join(entry.split()) for entry in row))


def _show_columns(sheet: Sheet, with_headings: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, pad_edge=False, header_style="bold", show_header=with_headings, caption=sheet.caption or None
    )
    for heading in sheet.headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in sheet.numbers else "left")
    for row in sheet.rows:
        table.add_row(*(Text(entry) for entry in row))
    Console(highlight=False).print(table)


def print_json(document: Any) -> None:
    """One document, all that stands on standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


@contextlib.contextmanager
def nothing_else_on_stdout(json_wanted: bool) -> Iterator[None]:
    """Within the block what is printed goes to standard error, if a JSON document is to be all on standard output."""
    with contextlib.redirect_stdout(sys.stderr) if json_wanted else contextlib.nullcontext():
        yield
