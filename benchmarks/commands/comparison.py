"""What `backbench compare` prints."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.running.comparison import Row, Side, compare_cells
from results import PairedDifference

ONE_SEED = "Intervals (95 %) and tests are over images; the noise between seeds comes on top."
SEVERAL_SEEDS = (
    "Intervals are of 95 %: over the images, where each counts by its average over the seeds (bootstrap), and over the "
    "seeds, runs of the same seed paired (Student's t). A verdict needs both."
)


def show_comparison(a: Path, b: Path) -> None:
    """Compare two runs, or the seeds of two, and print what came out. Raises as `compare_cells` does."""
    console = Console(highlight=False, markup=False)
    comparison = compare_cells(a, b)
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        _show_side(console, name, side)
    for remark in comparison.remarks:
        console.print(remark, soft_wrap=True)
    if comparison.protocol_differences:
        console.print("\nnot the same protocol: the difference is not the backbone's alone", style="bold")
        for line in comparison.protocol_differences:
            console.print(f"  {line}", soft_wrap=True)
    seeds = len(comparison.a.runs)
    each = f", {seeds} seeds each" if seeds > 1 else ""
    record, images = comparison.a.records[0], f"{comparison.images:,}"
    if record.evaluation_images and record.evaluation_images != comparison.images:
        images += f" of {record.evaluation_images:,}"
    console.print(f"\n{record.dataset}: both on the same {images} images{each}")
    console.print(_table(comparison.rows))
    for row in comparison.rows:
        console.print(row.verdict)
    console.print(ONE_SEED if seeds == 1 else SEVERAL_SEEDS, soft_wrap=True)


def _show_side(console: Console, name: str, side: Side) -> None:
    record, seeds = side.records[0], ", ".join(str(seed) for seed in side.runs)
    about = f"{record.backbone}, recipe {record.recipe}, {'seeds' if len(side.runs) > 1 else 'seed'} {seeds}"
    console.print(f"{name}  {about}", soft_wrap=True)
    for directory in side.directories:
        console.print(f"   {directory}", soft_wrap=True)


def _table(rows: Sequence[Row]) -> Table:
    """A line for each metric; with several seeds one for the test over images and one for that over seeds."""
    several = any(row.over_seeds for row in rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    for heading in ("A", "B", "A − B", "95 % interval", "p", *(["over"] if several else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        numbers = [row.metric, f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference.mean:+.2f}", *_test(row.difference)]
        table.add_row(*numbers, *(["images"] if several else []))
        if row.over_seeds:
            table.add_row("", "", "", "", *_test(row.over_seeds), "seeds")
    return table


def _test(difference: PairedDifference) -> tuple[str, str]:
    p_value = f"{difference.p_value:.4f}" if difference.p_value >= 0.00005 else "< 0.0001"
    return f"{difference.low:+.2f} to {difference.high:+.2f}", p_value
