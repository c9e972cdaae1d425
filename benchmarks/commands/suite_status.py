"""What `backbench status` prints."""

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from rich.text import Text

from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.commands.suite_views import (
    cell_lines,
    head,
    most_urgent,
    numbers,
    spell_loss,
    spell_seconds,
    spell_updates,
)
from benchmarks.running.inventory import SUITES
from benchmarks.scheduling.documents import status_document
from benchmarks.scheduling.status import OPEN, Reader, SuiteStatus

SECONDS_BETWEEN_LOOKS = 5.0

_HEADINGS = ("suite", "cell", "state", "progress", "loss", "left", "numbers", "owner", "reason", "log")


def show_status(out: Path, *, as_json: bool, watch: bool = False) -> int:
    """The cells of all suites of a store, with their states; the exit status, 1 if one has failed or is damaged.

    watch: again every few seconds, until all cells have ended, or Ctrl-C

    Raises StoreError if there is no such directory.
    """
    reader = Reader(out)
    suites = reader.read_all()
    if as_json:
        print_json(status_document(out, suites))
    elif not suites:
        store = _store_around(out)
        instead = (
            f"`backbench runs {out}` lists runs" if store is None else f"it is within one: `backbench status {store}`"
        )
        print(f"{out}: no suites; {instead}", file=sys.stderr)
    elif watch:
        suites = _watch(reader, suites)
    elif sys.stdout.isatty():
        _show_all(suites)
    else:
        _show_lines(suites)
    return 1 if any(suite.fault or suite.of("failed", "damaged") for suite in suites) else 0


def _store_around(folder: Path) -> Path | None:
    """The store whose folder of suites this is, or whose suite."""
    whole = folder.absolute()
    return next((each.parent for each in (whole, whole.parent) if each.name == SUITES), None)


def _show_all(suites: Sequence[SuiteStatus]) -> None:
    console = plain_console()
    for number, suite in enumerate(suites):
        lines = head(suite, console.width)
        for several in cell_lines(suite.cells):
            lines += several
        for line in [*([Text()] if number else []), *lines]:
            console.print(line, soft_wrap=True)


def _show_lines(suites: Sequence[SuiteStatus]) -> None:
    sheet = Sheet(_HEADINGS)
    for suite in suites:
        if suite.fault:
            sheet.rows.append((suite.name, "", "damaged", "", "", "", "", "", suite.fault, ""))
        for cell in suite.cells:
            left = "" if cell.seconds_left is None else spell_seconds(cell.seconds_left)
            loss = spell_loss(cell).removeprefix("loss ")
            how = (cell.state, spell_updates(cell), loss, left, numbers(cell))
            sheet.rows.append((suite.name, cell.job.name, *how, cell.owner, cell.reason, str(cell.log)))
    show(sheet)


def _watch(reader: Reader, suites: list[SuiteStatus]) -> list[SuiteStatus]:
    """Show the suites until all of their cells have ended, or Ctrl-C; the last of what was seen."""
    seen = [suites]

    def look() -> list[SuiteStatus]:
        seen[0] = reader.read_all()
        return seen[0]

    with contextlib.suppress(KeyboardInterrupt):
        (_watch_screen if sys.stdout.isatty() else _watch_lines)(suites, look)
    return seen[0]


def _is_open(suites: Sequence[SuiteStatus]) -> bool:
    return any(cell.state in OPEN for suite in suites for cell in suite.cells)


def _watch_screen(suites: list[SuiteStatus], look: Callable[[], list[SuiteStatus]]) -> None:
    from rich.live import Live

    console = plain_console()
    with Live(screen_of(suites, *console.size), console=console, auto_refresh=False) as live:
        while _is_open(suites):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            suites = look()
            live.update(screen_of(suites, *console.size), refresh=True)


def screen_of(suites: Sequence[SuiteStatus], width: int, height: int) -> Text:
    """What fits on a screen: of each suite the bar, and the cells that matter most."""
    heads = [head(suite, width) for suite in suites]
    room = max(height - 1 - sum(len(lines) + 1 for lines in heads), 0) // max(len(suites), 1)
    lines = [line for suite, above in zip(suites, heads, strict=True) for line in [*above, *most_urgent(suite, room)]]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _watch_lines(suites: list[SuiteStatus], look: Callable[[], list[SuiteStatus]]) -> None:
    """A line for each suite at first, and then for each cell whose state has changed."""
    before: dict[tuple[str, str], str] = {}
    for suite in suites:
        counts = ", ".join(f"{count} {state}" for state, count in suite.counts.items())
        print(f"{suite.name}: {suite.fault or counts}", flush=True)
        before |= {(suite.name, cell.job.name): cell.state for cell in suite.cells}
    while _is_open(suites):
        time.sleep(SECONDS_BETWEEN_LOOKS)
        suites = look()
        for suite in suites:
            for cell in suite.cells:
                if before.get((suite.name, cell.job.name)) != cell.state:
                    before[suite.name, cell.job.name] = cell.state
                    told = numbers(cell) or cell.reason or cell.owner
                    time_of_day = f"{datetime.now().astimezone():%H:%M:%S}"
                    print(f"{time_of_day} {suite.name} {cell.job.name}: {cell.state}  {told}".rstrip(), flush=True)
