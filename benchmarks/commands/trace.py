"""What `backbench compare --trace` prints."""

import math
from pathlib import Path
from typing import Any

from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import print_json
from benchmarks.running.trace import Difference, TraceComparison, compare_traces


def show_trace_comparison(a: Path, b: Path, tolerance: float | None, *, as_json: bool = False) -> bool:
    """Compare two runs' logs and print how far they are the same; whether they are. Raises as `compare_traces` does."""
    comparison = compare_traces(a, b, tolerance)
    if as_json:
        print_json(_document(comparison))
        return comparison.are_the_same
    console = plain_console()
    for name, trace in (("A", comparison.a), ("B", comparison.b)):
        console.print(f"{name}  {trace.directory}, {trace.updates:,} updates", soft_wrap=True)
    for line in _verdict(comparison):
        console.print(line, soft_wrap=True)
    return comparison.are_the_same


def _document(comparison: TraceComparison) -> dict[str, Any]:
    differences = [
        {"name": each.name, "a": _number(each.a), "b": _number(each.b), "relative": _number(each.relative)}
        for each in comparison.differences
    ]
    return {
        "a": {"directory": str(comparison.a.directory), "updates": comparison.a.updates},
        "b": {"directory": str(comparison.b.directory), "updates": comparison.b.updates},
        "same": comparison.are_the_same,
        "same_up_to": comparison.same_up_to,
        "first_difference": {"update": comparison.differs_at, "values": differences} if differences else None,
        "tolerance": comparison.tolerance,
        "settings": comparison.settings,
        "origins": comparison.origins,
        "not_compared": comparison.gaps,
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity."""
    return value if value is None or math.isfinite(value) else str(value)


def _verdict(comparison: TraceComparison) -> list[str]:
    how = f"within a relative {comparison.tolerance:g}" if comparison.tolerance else "to the last digit"
    lines = [f"same up to update {comparison.same_up_to:,}, {how}"]
    if comparison.differs_at is None:
        ends = {"A": comparison.a.updates, "B": comparison.b.updates}
        lines += [
            f"{name} ends there" for name, end in ends.items() if end == comparison.same_up_to < max(ends.values())
        ]
    else:
        lines.append(f"first difference at update {comparison.differs_at:,}:")
        lines += [f"  {_told(difference)}" for difference in comparison.differences]
    if comparison.gaps:
        lines.append("not all could be compared:")
        lines += [f"  {gap}" for gap in comparison.gaps]
    if comparison.settings:
        lines += ["settings that differ:", *(f"  {setting}" for setting in comparison.settings)]
    if comparison.origins:
        lines.append(f"what else differs: {', '.join(comparison.origins)}")
    return lines


def _told(difference: Difference) -> str:
    share = "" if difference.relative is None else f", relative {difference.relative:.1e}"
    return f"{difference.name}: A {_shown(difference.a)}, B {_shown(difference.b)}{share}"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value!r}"
