"""What `backbench compare` prints."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.running.comparison import Row, compare_cells


def show_comparison(a: Path, b: Path) -> None:
    """Compare two runs and print what came out. Raises as `compare_cells` does."""
    console = Console(highlight=False, markup=False)
    with console.status("testing on the same images"):
        comparison = compare_cells(a, b)
    for name, directory, record in (
        ("A", comparison.a, comparison.a_record),
        ("B", comparison.b, comparison.b_record),
    ):
        about = f"{record.backbone}, recipe {record.recipe}, seed {record.seed}"
        console.print(f"{name}  {about}\n   {directory}", soft_wrap=True)
    if comparison.protocol_differences:
        console.print("\nnot the same protocol: the difference is not the backbone's alone", style="bold")
        for line in comparison.protocol_differences:
            console.print(f"  {line}", soft_wrap=True)
    console.print(f"\n{comparison.a_record.dataset}: both on the same {comparison.images:,} images")
    console.print(_table(comparison.rows))
    for row in comparison.rows:
        console.print(row.verdict)
    console.print("Intervals (95 %) and tests are over images; the noise between seeds comes on top.", soft_wrap=True)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    for heading in ("A", "B", "A − B", "95 % interval", "p"):
        table.add_column(heading, justify="right")
    for row in rows:
        difference = row.difference
        table.add_row(
            row.metric,
            f"{row.a:.2f}",
            f"{row.b:.2f}",
            f"{difference.mean:+.2f}",
            f"{difference.low:+.2f} to {difference.high:+.2f}",
            f"{difference.p_value:.4f}",
        )
    return table
