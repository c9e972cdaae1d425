"""What a script hands on of its comparisons, as JSON, and the table that is made of it."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median

import torch
from pydantic import BaseModel
from tabulate import tabulate

from backbones.training.machine import device_name
from benchmarks.speed.comparing.turns import Turns, is_steady

HOST_BOUND = 0.95
"""From this share of the host on, the table says that a step waits for it."""

COLUMNS = ("what", "peer", "ratio", "ours against the peer's", "memory", "device")


class Spread(BaseModel, frozen=True):
    """The median of some turns, and their range."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, figures: Iterable[float]) -> "Spread":
        """Of at least one figure."""
        each = list(figures)
        return cls(median=median(each), lowest=min(each), highest=max(each))

    @property
    def steady(self) -> bool:
        """Whether the median says enough."""
        return is_steady((self.lowest, self.median, self.highest))


class Comparison(BaseModel, frozen=True):
    """One line of the table.

    what:             what was done, by ours
    peer:             who did it beside ours; empty where nobody did
    unit:             of `ours` and `theirs`, "images/s" or "s"
    ratio:            how many times as fast ours was: of the medians, and the range over the turns
    our_memory_gib:   the most that was held at once, None where nobody looked
    our_host_share:   of a step on a GPU: after which part of it the program has told the GPU all, None elsewhere
    device:           as a person would name it
    """

    what: str
    unit: str
    ours: Spread
    peer: str = ""
    theirs: Spread | None = None
    ratio: Spread | None = None
    our_memory_gib: float | None = None
    their_memory_gib: float | None = None
    our_host_share: float | None = None
    their_host_share: float | None = None
    device: str


class Figures(BaseModel, frozen=True):
    """All comparisons of a script."""

    torch: str
    comparisons: list[Comparison]


def compare(
    what: str, ours: Turns, peer: str = "", theirs: Turns | None = None, images: int | None = None
) -> Comparison:
    """Compare on the device that was chosen: in images a second if a step takes so many, else in seconds."""

    def spread(turns: Turns) -> Spread:
        return Spread.of(images / seconds if images else seconds for seconds in turns.seconds)

    ratio = None
    if theirs:
        ratios = [them / us for them, us in zip(theirs.seconds, ours.seconds, strict=True)]
        middle = median(theirs.seconds) / median(ours.seconds)
        ratio = Spread(median=middle, lowest=min(ratios), highest=max(ratios))
    return Comparison(
        what=what,
        unit="images/s" if images else "s",
        ours=spread(ours),
        peer=peer,
        theirs=theirs and spread(theirs),
        ratio=ratio,
        our_memory_gib=ours.memory_gib,
        their_memory_gib=theirs and theirs.memory_gib,
        our_host_share=ours.host_share,
        their_host_share=theirs and theirs.host_share,
        device=device_name(),
    )


def write_figures(path: Path | None, comparisons: list[Comparison]) -> None:
    """Write them as JSON, if a file for it was named."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Figures(torch=torch.__version__, comparisons=comparisons).model_dump_json(indent=2))


def markdown_table(comparisons: Iterable[Comparison]) -> str:
    """All of them, one a line."""
    rows = [
        (each.what, each.peer or "–", _ratio(each), _speeds(each), _memory(each), each.device) for each in comparisons
    ]
    return tabulate(rows, COLUMNS, tablefmt="pipe", disable_numparse=True)


def _ratio(comparison: Comparison) -> str:
    ratio = comparison.ratio
    if ratio is None:
        return "–"
    places = 0 if ratio.median >= 10 else 2
    middle, low, high = (f"{value:,.{places}f}" for value in (ratio.median, ratio.lowest, ratio.highest))
    return f"{middle} × ({low} to {high})" if ratio.lowest < ratio.highest else f"{middle} ×"


def _speeds(comparison: Comparison) -> str:
    sides = (comparison.ours, comparison.our_host_share), (comparison.theirs, comparison.their_host_share)
    figures = [_speed(side, host) for side, host in sides if side]
    return f"{' against '.join(figures)} {comparison.unit}"


def _speed(side: Spread, host_share: float | None) -> str:
    """The median, the range where turns are far apart, and whether the host holds the step up."""
    middle, low, high = (_digits(value) for value in (side.median, side.lowest, side.highest))
    notes = [] if side.steady else [f"{low} to {high}"]
    if host_share is not None and host_share >= HOST_BOUND:
        notes.append("waits for the host")
    return f"{middle} ({', '.join(notes)})" if notes else middle


def _memory(comparison: Comparison) -> str:
    figures = [
        f"{memory:.1f}" for memory in (comparison.our_memory_gib, comparison.their_memory_gib) if memory is not None
    ]
    return f"{' against '.join(figures)} GiB" if figures else "–"


def _digits(value: float) -> str:
    """Three significant digits, all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")
