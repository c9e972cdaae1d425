"""A table as text: markdown that reads well in a terminal, CSV for programs, LaTeX for papers."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from results.errors import ResultsError
from results.measurements import Number
from results.paper_tables import FORMATS
from results.table_lines import COLUMNS, table_lines
from results.tables import Block, Row, Table

NONE = "–"
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row it would be taken for an option of the line before, and so would *
    "*": "{*}",
    "†": r"\dag{}",
    "×": r"\texttimes{}",
    "±": r"\textpm{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
}


def render(table: Table, format: str = "md") -> str:
    """The table as text that ends in one newline. `format` is "md", "csv" or "latex".

    Raises ResultsError for another format.
    """
    writers: dict[str, Callable[[Table], str]] = dict(zip(FORMATS, (to_markdown, to_csv, to_latex), strict=True))
    if format not in writers:
        raise ResultsError(f'format "{format}": no such format of a table. There are: {", ".join(FORMATS)}')
    return writers[format](table)


def render_all(tables: Sequence[Table], format: str = "md") -> str:
    """Several tables as one text, in CSV under one heading. Raises ResultsError for another format."""
    texts = [render(table, format) for table in tables]
    if format == "csv":
        return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])
    return "\n".join(texts)


def to_markdown(table: Table) -> str:
    """One heading, pipe table with aligned columns, and list of footnotes for each block, then the caption.

    A number reads `**83.6** [83.3, 83.9] (3 seeds) †a`: value, interval, seeds if several, footnote.
    """
    marks = footnotes(table)
    parts = []
    for block in table.blocks:
        notes = [f"- {mark}: {_escape_markdown(text)}" for text, mark in _notes_of(block, marks).items()]
        notes += [f"- {_escape_markdown(remark)}" for remark in block.remarks]
        parts += [f"### {_escape_markdown(block.title)}", _markdown_grid(block, marks), "\n".join(notes)]
    parts.append(_caption(table, table.blocks))
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(table: Table) -> str:
    """One number a line, ours and the published ones (`published` true or false), at full precision.

    The columns are those of `results.table_lines`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in table_lines(table):
        writer.writerow(str(entry).lower() if isinstance(entry, bool) else entry for entry in line.values())
    return text.getvalue()


def to_latex(table: Table) -> str:
    """One `table` environment a block, for `\\usepackage{booktabs}`, footnotes below the numbers."""
    marks = footnotes(table)
    lines = ["% needs \\usepackage{booktabs}"]
    for block in table.blocks:
        notes = [f"{mark}: {text}" for text, mark in _notes_of(block, marks).items()] + list(block.remarks)
        caption = f"{block.title}. {_caption(table, [block])}"
        alignment = "l" * len(block.label_headings) + "".join(
            "r" if column.published else "l" for column in block.columns
        )
        lines += [
            "",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _latex_line([escape_latex(heading) for heading in _headings(block)]),
            r"\midrule",
            *(_latex_line(_latex_cells(row, marks)) for row in block.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par{{\footnotesize {escape_latex(note)}}}" for note in notes),
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def footnotes(table: Table) -> dict[str, str]:
    """The mark of each footnote, †a, †b and so on in the order in which a reader meets them, by the footnote's text."""
    notes = dict.fromkeys(
        cell.note
        for block in table.blocks
        for row in block.rows
        for cell in row.cells
        if isinstance(cell, Number) and cell.note
    )
    return {note: f"†{_letters(index)}" for index, note in enumerate(notes)}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(LATEX.get(character, character) for character in _one_line(text))


def _markdown_grid(block: Block, marks: Mapping[str, str]) -> str:
    from tabulate import tabulate

    lines = [
        [_escape_markdown(label) or NONE for label in row.labels] + [_markdown_cell(cell, marks) for cell in row.cells]
        for row in block.rows
    ]
    sides = ["left"] * len(block.label_headings) + ["right" if column.published else "left" for column in block.columns]
    headings = [_escape_markdown(heading) for heading in _headings(block)]
    return tabulate(lines, headings, tablefmt="pipe", disable_numparse=True, colalign=sides)


def _markdown_cell(cell: Number | float | None, marks: Mapping[str, str]) -> str:
    if not isinstance(cell, Number):
        return NONE if cell is None else f"{cell:.1f}"
    value = f"**{cell.value:.1f}**" if cell.best else f"{cell.value:.1f}"
    return f"{value}{_qualification(cell)} {marks.get(cell.note, '')}".rstrip()


def _latex_cells(row: Row, marks: Mapping[str, str]) -> list[str]:
    labels = [escape_latex(label or NONE) for label in row.labels]
    return labels + [_latex_cell(cell, marks) for cell in row.cells]


def _latex_cell(cell: Number | float | None, marks: Mapping[str, str]) -> str:
    if not isinstance(cell, Number):
        return "--" if cell is None else f"{cell:.1f}"
    value = rf"\textbf{{{cell.value:.1f}}}" if cell.best else f"{cell.value:.1f}"
    mark = rf"\textsuperscript{{{escape_latex(marks[cell.note])}}}" if cell.note else ""
    return value + mark + _qualification(cell)


def _latex_line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _qualification(number: Number) -> str:
    interval = f" [{number.low:.1f}, {number.high:.1f}]" if number.interval else ""
    return interval + (f" ({len(number.seeds)} seeds)" if len(number.seeds) > 1 else "")


def _headings(block: Block) -> list[str]:
    return [*block.label_headings, *(column.label for column in block.columns)]


def _notes_of(block: Block, marks: Mapping[str, str]) -> dict[str, str]:
    used = {cell.note for row in block.rows for cell in row.cells if isinstance(cell, Number)}
    return {text: mark for text, mark in marks.items() if text in used}


def _caption(table: Table, blocks: Iterable[Block]) -> str:
    """The notation, and where the published numbers come from if these blocks show any."""
    if not any(column.published for block in blocks for column in block.columns):
        return table.caption
    return f"{table.caption} (paper): {'; '.join(table.sources)}."


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*`<])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _letters(index: int) -> str:
    """a to z, then aa, ab and so on."""
    letters = ""
    index += 1
    while index > 0:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return letters
