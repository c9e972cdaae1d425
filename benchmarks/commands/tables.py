"""What `backbench table` prints or writes."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from benchmarks.commands.sheets import print_json
from benchmarks.planning.records import load_records
from benchmarks.running.collecting import warn
from benchmarks.running.writing import require_writable, write_bytes, write_text
from results import Table, build_table, build_tables, render_all, select_records
from results.garbage_collection import garbage_collection_paused
from results.paper_tables import PARTIAL
from results.partial_picture import partial_picture
from results.table_lines import table_lines

SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}
"""How a file is written, by the suffix of its name."""


@garbage_collection_paused()
def show_tables(
    directories: Sequence[Path],
    *,
    layout: str | None,
    format: str | None,
    conditions: Sequence[str],
    only_reference: bool,
    output: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Lay out the finished runs below the directories, in one layout or in all that have some.

    Prints it, or writes it to `output`, whole or not at all; "-" is standard output. `picture` is drawn as well. Raises
    InputError for a file whose suffix does not say how it is to be written, or says otherwise than the options, and for
    a picture of another layout than of partial fine-tuning, ResultsError for what cannot be laid out.
    """
    how = _format(format, output, as_json)
    if picture:
        _require_picture(picture, layout)
    records = [record for _, record in load_records(directories, on_unreadable=warn)]
    chosen = select_records(records, conditions, only_reference)
    tables = [build_table(chosen, layout)] if layout else build_tables(chosen)
    if output and not _is_stdout(output):
        write_text(output, f"{json.dumps(_document(tables), indent=2)}\n" if how == "json" else render_all(tables, how))
        names = ", ".join(table.name for table in tables)
        print(f"{output}: {names}", file=sys.stderr)
    elif how == "json":
        print_json(_document(tables))
    else:
        print(render_all(tables, how))
    if picture:
        write_bytes(picture, partial_picture(tables[0]))
        print(picture, file=sys.stderr)
    if layout and tables[0].left_out:
        print(f"backbench: in other layouts: {'; '.join(tables[0].left_out)}", file=sys.stderr)


def _format(format: str | None, output: Path | None, as_json: bool) -> str:
    if as_json and format:
        raise InputError(f"--json --format {format}: two formats. Give one of them")
    by_options = "json" if as_json else format
    by_name = SUFFIXES.get(output.suffix) if output else None
    if by_options and by_name and by_options != by_name:
        option = "--json" if as_json else f"--format {format}"
        raise InputError(f"{option} -o {output}: two formats. Give one of them, or a name without that suffix")
    if output and not (by_options or by_name or _is_stdout(output)):
        raise InputError(f"-o {output}: expected a name that ends in {', '.join(SUFFIXES)}; or give --format as well")
    return by_options or by_name or "md"


def _require_picture(picture: Path, layout: str | None) -> None:
    if layout != PARTIAL:
        raise InputError(f"--picture {picture}: only layout {PARTIAL} is drawn. Give --layout {PARTIAL} as well")
    if picture.suffix != ".png":
        raise InputError(f"--picture {picture}: expected a name that ends in .png")
    require_writable("--picture", picture)


def _is_stdout(output: Path) -> bool:
    """Whether that is where commands print, under whatever name: a file there would be emptied, not added to."""
    if output == Path("-"):
        return True
    try:
        return os.path.samestat(output.stat(), os.fstat(1))
    except OSError:
        return False


def _document(tables: Sequence[Table]) -> dict[str, Any]:
    return {
        "tables": [
            {
                "layout": table.name,
                "caption": table.caption,
                "sources": table.sources,
                "remarks": [remark for block in table.blocks for remark in block.remarks],
                "numbers": table_lines(table),
            }
            for table in tables
        ]
    }
