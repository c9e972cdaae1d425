"""The history of nights as a picture: small multiples, a panel for each cell."""

import io
import math
from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from results.regression.findings import CellName
from results.regression.history import Change, Drift, History, Series
from results.regression.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS = 60
"""In one picture; those with changes go first."""

_COLUMNS = 4
_PANEL = (4.2, 2.7)
_DOTS_PER_INCH = 110
_MARGINS = (0.68, 0.12, 0.26, 0.3, 0.07)
"""Inches left of an axis, for its numbers and what they are of, right of it, above it for the cell's name, below it for
dates, and between the axes of one panel."""

_HEAD = 0.5
"""Inches for the title of all."""

_LETTERS = 52
"""That fit above a panel."""

_INK, _GREY, _BAND, _MIDDLE = "#1f3b5c", "#6f757d", "#dbe7f3", "#a9c4e0"
_WORSE, _BETTER = "#b3261e", "#1b7f3b"


def history_picture(history: History) -> bytes:
    """A PNG with the nights of every cell: its metric over the band of the baseline, below it its speed, and its
    memory where that changed.

    Change points are vertical lines with their size, drifts dashed ones: red where they are for the worse, else green.
    Cells with changes or a drift come first; of more than `MOST_CELLS` the picture has no more than these many.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    FigureCanvasAgg(draw_history(history)).print_png(file)  # `savefig` draws all of it twice
    return file.getvalue()


def draw_history(history: History) -> "Figure":
    """The figure that `history_picture` has as a PNG.

    All panels have the same size and the same margins, in inches: to measure the texts of 60 of them took longer than
    to draw these.
    """
    from matplotlib.figure import Figure

    cells, names = _in_order(history), history.names
    shown = cells[:MOST_CELLS]
    columns = max(1, min(_COLUMNS, math.ceil(math.sqrt(len(shown)))))
    rows = max(1, math.ceil(len(shown) / columns))
    width, height = (1.5 * length if len(shown) == 1 else length for length in _PANEL)
    whole = width * columns, height * rows + _HEAD
    figure = Figure(whole, dpi=_DOTS_PER_INCH)
    top = 1 - 0.4 * _HEAD / whole[1]
    figure.suptitle(_title(history, len(cells), len(shown)), fontsize=9, x=0.01, y=top, ha="left", color=_INK)
    days = _Days(history.nights)
    for place, (accuracy, *costs) in enumerate(shown):
        left, upper = width * (place % columns), whole[1] - _HEAD - height * (place // columns)
        boxes = [
            (left / whole[0] + x / whole[0], (upper - y) / whole[1], wide / whole[0], high / whole[1])
            for x, y, wide, high in _boxes(width, height, len(costs))
        ]
        above = figure.add_axes(boxes[0])
        _draw(above, accuracy, days)
        name = _shortened(_legible(names[accuracy.cell, accuracy.protocol]))
        above.set_title(name, fontsize=8, loc="left", color=_INK, parse_math=False)
        axes = [above, *(figure.add_axes(box, sharex=above) for box in boxes[1:])]
        for below, cost in zip(axes[1:], costs, strict=True):
            _draw(below, cost, days)
        for one in axes[:-1]:
            one.tick_params(labelbottom=False)
        days.label(axes[-1])
    return figure


def _boxes(width: float, height: float, costs: int) -> Iterator[tuple[float, float, float, float]]:
    """In a panel, in inches, the axes of its metric and of each cost below it, a third as high as that one.

    Each as the distance of its lower left corner from the left and from the top, its width and its height.
    """
    left, right, above, below, between = _MARGINS
    share = (height - above - below - between * costs) / (3 + costs)
    lower = above + 3 * share
    yield left, lower, width - left - right, 3 * share
    for _ in range(costs):
        lower += between + share
        yield left, lower, width - left - right, share


def _in_order(history: History) -> list[list[Series]]:
    """Of each cell and protocol accuracy, speed, and memory where that changed; those with findings first."""
    panels: dict[tuple[CellName, str], list[Series]] = {}
    for one in history.series:
        if one.quantity != "memory" or one.has_findings:
            panels.setdefault((one.cell, one.protocol), []).append(one)
    return sorted(panels.values(), key=lambda panel: not any(one.has_findings for one in panel))


def _title(history: History, cells: int, shown: int) -> str:
    nights = history.nights
    span = "no nights"
    if nights:
        span = f"{counted(len(nights), 'night')}, {' to '.join(dict.fromkeys((nights[0], nights[-1])))}"
    left_out = f"; the first {shown} are shown" if shown < cells else ""
    return f"{span}, {counted(cells, 'cell')}{left_out}. Shaded: mean ± 2σ of the baseline"


class _Days:
    """Where a night stands on the horizontal axis: by its date where all nights are dates, else by its number."""

    def __init__(self, nights: Sequence[str]) -> None:
        try:
            first = [date.fromisoformat(night).toordinal() for night in nights]
        except ValueError:
            first = [*range(len(nights))]
        self.places = dict(zip(nights, first, strict=True))

    def of(self, nights: Sequence[str]) -> list[int]:
        return [self.places[night] for night in nights]

    def label(self, axes: "Axes") -> None:
        """Name the first night, the last and one in the middle."""
        nights = [*self.places]
        chosen = [nights[place] for place in sorted({0, len(nights) // 2, len(nights) - 1})]
        axes.set_xticks(self.of(chosen), [night.removeprefix("20") for night in chosen])
        if len(chosen) > 1:
            first, *_, last = axes.get_xticklabels()
            first.set_horizontalalignment("left")
            last.set_horizontalalignment("right")


def _draw(axes: "Axes", one: Series, days: _Days) -> None:
    """The nights of a series, its band, its levels, changes and drift."""
    places = days.of(one.nights)
    if one.band:
        axes.axhspan(*one.band, color=_BAND, linewidth=0, zorder=0)
        axes.axhline(sum(one.band) / 2, color=_MIDDLE, linewidth=0.8, zorder=0)
    axes.plot(places, one.values, color=_INK, linewidth=0.8, marker="o", markersize=2.4, zorder=2)
    least = _least_height(one)
    low, high = min(*one.values, *(one.band or one.values)), max(*one.values, *(one.band or one.values))
    middle, height = (low + high) / 2, max(high - low, least)
    room = 0.24 if one.changes or one.drift else 0.08
    axes.set_ylim(middle - 0.58 * height, middle + (0.5 + room) * height)
    for found, where in _marks(one, days):
        colour = _WORSE if found.is_worse else _BETTER
        if isinstance(found, Drift):
            ends = days.of((found.since, found.until))
            axes.plot(ends, (found.before, found.after), color=colour, linewidth=1.4, linestyle=(0, (4, 2)), zorder=3)
        else:
            axes.axvline(where, color=colour, linewidth=1.1, zorder=1)
        _write_size(axes, one, found, where, places)
    axes.set_ylabel(one.label, fontsize=7, color=_GREY)
    axes.locator_params(axis="y", nbins=5 if one.quantity == "accuracy" else 2)
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    _dress(axes)


def _dress(axes: "Axes") -> None:
    axes.tick_params(labelsize=6.5, colors=_GREY, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GREY)


def _least_height(one: Series) -> float:
    """Of the vertical axis, so that a number that repeats is a line and not a mountain range of rounding."""
    level = max(abs(value) for value in one.values)
    return max(0.02 * level if one.quantity != "accuracy" else 0.002 * level, 1e-9)


def _marks(one: Series, days: _Days) -> Iterator[tuple[Change | Drift, float]]:
    """Changes between the night before and their first, and the drift at its middle."""
    for change in one.changes:
        number = one.nights.index(change.night)
        before, first = days.of(one.nights[number - 1 : number + 1])
        yield change, (before + first) / 2
    if one.drift:
        since, until = days.of((one.drift.since, one.drift.until))
        yield one.drift, (since + until) / 2


def _write_size(axes: "Axes", one: Series, found: Change | Drift, where: float, places: Sequence[int]) -> None:
    text = one.shown_size(found.size)
    words: dict[str, Any] = {"fontsize": 7.5, "color": _WORSE if found.is_worse else _BETTER, "va": "top"}
    top = axes.get_xaxis_transform()
    if isinstance(found, Drift):
        axes.text(where, 0.99, f"drift {text}", transform=top, ha="center", **words)
        return
    is_late = where > places[0] + 0.7 * (places[-1] - places[0])
    axes.annotate(
        text,
        (where, 0.99),
        xycoords=top,
        xytext=(-3 if is_late else 3, 0),
        textcoords="offset points",
        ha="right" if is_late else "left",
        **words,
    )


def _legible(text: str) -> str:
    """The text, in which a letter that the font lacks is spelled out: of names of such letters each differs."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    return "".join(
        letter if font.get_char_index(ord(letter)) else letter.encode("ascii", "backslashreplace").decode()
        for letter in text
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
