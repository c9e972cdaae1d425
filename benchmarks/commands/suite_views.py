"""What a suite looks like on a terminal: a bar over its cells, and a line or two for each."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from benchmarks.scheduling.status import CellStatus, State, SuiteStatus
from results.metrics import METRICS
from results.paper_tables import PAPER_TABLES

_MARKS: dict[State, tuple[str, str]] = {
    "finished": ("✓", "green"),
    "at work": ("▶", "cyan"),
    "unfinished": ("‖", "yellow"),
    "stopped": ("‖", "yellow"),
    "failed": ("✗", "red"),
    "damaged": ("✗", "red"),
    "queued": ("…", "blue"),
    "waiting": ("…", "blue"),
    "missing": ("?", "magenta"),
    "to do": ("·", "bright_black"),
}
_FIRST: tuple[State, ...] = ("at work", "failed", "damaged", "unfinished", "stopped", "queued", "missing", "waiting")
"""What a screen that has no room for all cells shows, in this order."""

_BEGUN: frozenset[State] = frozenset({"at work", "unfinished", "stopped"})

_LONGEST_NAME = 60
_SHORTEST_BAR = 10
_FEWEST_HOURS = 0.005
_INDENT = "  "


def head(suite: SuiteStatus, width: int) -> list[Text]:
    """A suite's name, a bar that has each state's share in its colour, and the sums."""
    lines = [Text.assemble((suite.name, "bold"), f": {suite.about}" if suite.about else "")]
    if suite.fault:
        return [*lines, Text(f"{_INDENT}{suite.fault}", style="red")]
    counts, number = suite.counts, len(suite.cells)
    told = f" {counts.get('finished', 0)} of {number} finished"
    lines.append(_bar(suite, max(width - len(told), _SHORTEST_BAR)).append(told))
    others = ", ".join(f"{count} {state}" for state, count in counts.items() if state != "finished")
    lines.append(Text("; ".join(filter(None, (others, spell_hours(suite), spell_left(suite))))))
    return lines


def cell_lines(cells: Sequence[CellStatus]) -> list[list[Text]]:
    """The lines of each cell: what it is and how it stands, and below, what there is to say of it."""
    longest = min(max((len(cell.job.name) for cell in cells), default=0), _LONGEST_NAME)
    return [_lines(cell, longest) for cell in cells]


def most_urgent(suite: SuiteStatus, room: int) -> list[Text]:
    """The cells that a person looks for first, in so many lines: what has finished last of all, the latest of it."""
    finished = sorted((cell for cell in suite.of("finished") if cell.attempts), key=lambda cell: cell.attempts[-1][0])
    cells = [cell for state in _FIRST for cell in suite.of(state)]
    shown = [*cells, *finished[::-1]]
    lines: list[Text] = []
    for number, several in enumerate(cell_lines(shown)):
        left = len(suite.cells) - number
        if len(lines) + len(several) + (left > 1) > room:
            return [*lines, Text(f"{_INDENT}and {left} more: backbench status", style="bright_black")][: max(room, 0)]
        lines += several
    return lines


def standing(cell: CellStatus) -> str:
    """How a cell stands, in a few words: numbers, how far it is, or its state."""
    if cell.result:
        return numbers(cell)
    parts = [spell_share(cell) or ("starting" if cell.state == "at work" else ""), spell_loss(cell)]
    if cell.state == "at work" and cell.seconds_left is not None and not is_trained(cell):
        parts.append(f"{spell_seconds(cell.seconds_left)} left")
    told = ", ".join(filter(None, parts))
    if cell.state == "at work":
        return told
    return f"{cell.state}, {told}" if told else cell.state


def numbers(cell: CellStatus) -> str:
    """What a finished cell has in its table, with the published number: "top-1 83.5 (published 83.6)"."""
    result = cell.result
    if result is None:
        return ""
    table = PAPER_TABLES.get(cell.job.table)
    own = table.metric_on(cell.job.dataset) if table else None
    wanted = (own,) if own else table.metrics if table else ()
    shown = [name for name in wanted if name in result.metrics] or list(result.metrics)[:1]
    ours = ", ".join(
        f"{METRICS[name].label if name in METRICS else name} {spell_value(result.metrics[name], name)}"
        for name in shown
    )
    published = [spell_value(result.published[name], name) for name in shown if name in result.published]
    return f"{ours} (published {', '.join(published)})" if published else ours


def spell_value(value: float, metric: str) -> str:
    """A metric's value in brief: percentages as the paper has them."""
    kind = METRICS.get(metric)
    return f"{value:.1f}" if kind and kind.unit == "%" else f"{value:.4g}"


def spell_share(cell: CellStatus) -> str:
    """How much of its training is done."""
    progress = cell.progress
    if not (progress and progress.update is not None and progress.updates):
        return ""
    return "evaluating" if is_trained(cell) else f"{100 * progress.update // progress.updates} %"


def is_trained(cell: CellStatus) -> bool:
    """Whether all of its updates are done, and only evaluating is left."""
    progress = cell.progress
    return progress is not None and progress.update is not None and progress.update == progress.updates


def spell_updates(cell: CellStatus) -> str:
    """Such as "update 12,345 of 90,000"; empty where the log does not tell."""
    progress = cell.progress
    if not (progress and progress.update is not None and progress.updates is not None):
        return ""
    return f"update {progress.update:,} of {progress.updates:,}"


def spell_loss(cell: CellStatus) -> str:
    return f"loss {cell.progress.loss:.4f}" if cell.progress else ""


def spell_hours(suite: SuiteStatus) -> str:
    """GPU hours until now, or those of processors."""
    return spell_device_hours(suite.gpu_hours, suite.cpu_hours, "so far")


def spell_device_hours(gpu: float, cpu: float, when: str) -> str:
    """Such as "31.2 GPU hours so far"; empty where there are next to none."""
    told = [
        f"{hours:,.{1 if hours >= 1 else 2}f} {kind} hours"
        for hours, kind in ((gpu, "GPU"), (cpu, "CPU"))
        if hours >= _FEWEST_HOURS
    ]
    return f"{' and '.join(told)} {when}" if told else ""


def spell_left(suite: SuiteStatus) -> str:
    """How long all of it takes yet, as far as that is known; empty where nobody is at work."""
    if not suite.of("at work"):
        return ""
    left = suite.seconds_left
    if left is None:
        return "how long yet is not known"
    return f"about {spell_seconds(left)} left"


def spell_seconds(seconds: float) -> str:
    """Such as "3 d 4 h", "5 h 12 min", "7 min", "40 s"."""
    whole = round(seconds)
    for length, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= length:
            rest = whole % length // smaller
            return f"{whole // length} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"


def _bar(suite: SuiteStatus, width: int) -> Text:
    """A line of that width, of which each state has its share; of cells that have begun, as far as they are."""
    weights: dict[State, float] = dict.fromkeys(_MARKS, 0.0)
    for cell in suite.cells:
        progress = cell.progress
        done = progress.update / progress.updates if progress and progress.update and progress.updates else 0.0
        part = done if cell.state in _BEGUN else 1.0
        weights[cell.state] += part
        weights["to do"] += 1.0 - part
    bar, until, total = Text(), 0.0, max(sum(weights.values()), 1.0)
    drawn = 0
    for state, weight in weights.items():
        until += weight
        wanted = round(until / total * width)
        bar.append("━" * (wanted - drawn), style=_MARKS[state][1])
        drawn = wanted
    return bar


def _lines(cell: CellStatus, longest: int) -> list[Text]:
    mark, colour = _MARKS[cell.state]
    name = Text(cell.job.name.ljust(longest), style="bright_black" if cell.state == "to do" else "")
    first = Text.assemble((mark, colour), " ", name, _INDENT, (standing(cell), "" if cell.result else colour))
    return [first, *(Text(f"{_INDENT * 2}{line}", style="bright_black") for line in _notes(cell))]


def _notes(cell: CellStatus) -> Iterable[str]:
    if cell.state == "at work":
        yield ", ".join(filter(None, (spell_updates(cell), cell.owner)))
    elif cell.reason:
        yield cell.reason
    if cell.state in ("failed", "damaged") and cell.attempts:
        yield str(cell.log)
