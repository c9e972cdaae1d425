"""Accuracy over how many of the last blocks were trained, as a picture: a curve for each backbone."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from results.errors import ResultsError
from results.measurements import Number
from results.tables import Block, Table
from results.trained_blocks import read_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (6.0, 4.0)
_DOTS_PER_INCH = 110
_GREY = "#6f757d"


@dataclass(frozen=True)
class Curve:
    """The numbers of one backbone by how many blocks were trained, ascending."""

    label: str
    points: tuple[tuple[int, Number], ...]


def curves(block: Block) -> list[Curve]:
    """Those of one data set. Numbers whose column tells no blocks are left out.

    Where there are several of so many blocks, such as of trainings of several lengths, the best counts: so MAE has it
    (appendix A.1).
    """
    found: dict[str, dict[int, Number]] = {}
    for row in block.rows:
        for column, cell in zip(block.columns, row.cells, strict=True):
            trained = read_column(column.model)
            if trained and isinstance(cell, Number):
                model, blocks = trained
                points = found.setdefault(f"{', '.join(filter(None, row.labels))}: {model}", {})
                points[blocks] = max(points.get(blocks, cell), cell, key=lambda number: number.value)
    return [Curve(label, tuple(sorted(points.items()))) for label, points in found.items()]


def partial_picture(table: Table) -> bytes:
    """A PNG with a panel for each data set: top-1 over trained blocks, with the 95 % intervals of the table.

    Raises ResultsError for a table in which no column tells of blocks.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(draw_partial(table)).print_png(file)
    return file.getvalue()


def draw_partial(table: Table) -> "Figure":
    """The figure that `partial_picture` has as a PNG."""
    from matplotlib.figure import Figure

    panels = [(block.title, found) for block in table.blocks if (found := curves(block))]
    if not panels:
        raise ResultsError(f'layout "{table.name}" has no numbers by trained blocks to draw. Expected layout "partial"')
    width, height = _PANEL
    figure = Figure((width, height * len(panels)), dpi=_DOTS_PER_INCH, layout="constrained")
    for place, (title, found) in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, place)
        _draw(axes, found)
        axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    return figure


def _draw(axes: "Axes", found: Sequence[Curve]) -> None:
    for curve in found:
        blocks, numbers = zip(*curve.points, strict=True)
        (line,) = axes.plot(
            blocks, [each.value for each in numbers], marker="o", markersize=4, linewidth=1.4, label=curve.label
        )
        for place, number in curve.points:
            if number.low is not None and number.high is not None:
                axes.vlines(place, number.low, number.high, color=line.get_color(), linewidth=0.8)
    axes.set_xticks(sorted({place for curve in found for place, _ in curve.points}))
    axes.set_xlabel("trained blocks, from the last one (0: norm and head alone)", fontsize=8, color=_GREY)
    axes.set_ylabel("top-1 in %", fontsize=8, color=_GREY)
    axes.tick_params(labelsize=7.5, colors=_GREY)
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(fontsize=7.5, frameon=False, loc="best")
    for text in legend.get_texts():
        text.set_parse_math(False)
