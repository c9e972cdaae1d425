"""What `backbench compare --trace` prints."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.commands.sheets import print_json
from benchmarks.running.trace import Difference, TraceComparison, compare_traces


def show_trace_comparison(a: Path, b: Path, tolerance: float | None, *, as_json: bool = False) -> bool:
    """Compare two runs' logs and print how far they are the same; whether they are. Raises as `compare_traces` does."""
    console = Console(highlight=False, markup=False)
    comparison = compare_traces(a, b, tolerance)
    if as_json:
        print_json(_document(comparison))
        return comparison.differs_at is None
    for name, trace in (("A", comparison.a), ("B", comparison.b)):
        console.print(f"{name}  {trace.directory}, {trace.updates:,} updates", soft_wrap=True)
    for line in _verdict(comparison):
        console.print(line, soft_wrap=True)
    return comparison.differs_at is None


def _document(comparison: TraceComparison) -> dict[str, Any]:
    sides = {"a": comparison.a, "b": comparison.b}
    return {
        **{name: {"directory": str(of.directory), "updates": of.updates} for name, of in sides.items()},
        "same_up_to": comparison.same_up_to,
        "differs_at": comparison.differs_at,
        "differences": [asdict(difference) for difference in comparison.differences],
        "tolerance": comparison.tolerance,
        "settings": comparison.settings,
    }


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
    if comparison.settings:
        lines += ["settings that differ:", *(f"  {setting}" for setting in comparison.settings)]
    return lines


def _told(difference: Difference) -> str:
    share = "" if difference.relative is None else f", relative {difference.relative:.1e}"
    return f"{difference.name}: A {_shown(difference.a)}, B {_shown(difference.b)}{share}"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value!r}"
