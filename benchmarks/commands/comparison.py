"""What `backbench compare` prints."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.running.comparison import Comparison, Row, Side
from benchmarks.running.pairs import Comparisons, compare_paths, read_allowances, worse_than_allowed
from results import PairedDifference

ONE_SEED = "Intervals (95 %) and tests are over images; the noise between seeds comes on top."
SEVERAL_SEEDS = (
    "Intervals are of 95 %: over the images, where each counts by its average over the seeds (bootstrap), and over the "
    "seeds, runs of the same seed paired (Student's t). A verdict needs both."
)


def show_comparison(a: Path, b: Path, fail_if_worse: Sequence[str] = (), *, as_json: bool = False) -> bool:
    """Compare two runs, the seeds of two, or two stores, and print what came out.

    False if A is worse than allowed, or if that has no answer for something of B. Raises as `compare_paths` does.
    """
    allowances = read_allowances(fail_if_worse)
    found = compare_paths(a, b)
    worse = worse_than_allowed(found, allowances)
    unanswered = found.unanswered if allowances else []
    if as_json:
        print_json({"a": str(a), "b": str(b), **_document(found), "worse": worse, "not_compared": unanswered})
    elif found.of_stores:
        _show_stores(plain_console(), a, b, found)
    else:
        _show_cells(plain_console(), found.pairs[0])
    sys.stdout.flush()
    for sentence in [*worse, *(f"not compared: {what}" for what in unanswered)]:
        print(f"backbench: {sentence}", file=sys.stderr)
    return not worse and not unanswered


def _show_cells(console: Console, comparison: Comparison) -> None:
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
    console.print(f"\n{comparison.a.records[0].dataset}: both on the same {_images(comparison)} images{each}")
    several = any(row.over_seeds for row in comparison.rows)
    headings = ("metric", *_NUMBERS, *(["over"] if several else []))
    rows: list[Sequence[str]] = [line for row in comparison.rows for line in _lines(row, several)]
    show(Sheet(headings, rows, numbers=frozenset(headings[1:])))
    for row in comparison.rows:
        console.print(row.verdict)
    console.print(ONE_SEED if seeds == 1 else SEVERAL_SEEDS, soft_wrap=True)


def _show_stores(console: Console, a: Path, b: Path, found: Comparisons) -> None:
    """One table of all pairs, and only those settings in which some of them differ."""
    console.print(f"A  {a}\nB  {b}\n", soft_wrap=True)
    several = any(row.over_seeds for pair in found.pairs for row in pair.rows)
    over = ["over"] if several else []
    rows: list[Sequence[str]] = []
    differing: dict[str, list[str]] = {}
    for number, pair in enumerate(found.pairs, start=1):
        record, seeds = pair.a.records[0], " ".join(map(str, pair.a.runs))
        place = (str(number), record.task, record.dataset, record.backbone, seeds, _images(pair))
        for row in pair.rows:
            better = "" if row.better is None else "A" if row.better else "B"
            rows += [(*place, *line, better) for line in _lines(row, several)]
        for line in [*pair.protocol_differences, *pair.remarks]:
            differing.setdefault(line, []).append(str(number))
    headings = ("pair", "task", "data set", "backbone", "seeds", "images", "metric", *_NUMBERS, *over, "better")
    show(Sheet(headings, rows, numbers=frozenset([*_NUMBERS, "pair", "images"])))
    for number, pair in enumerate(found.pairs, start=1):
        if pair.which:
            console.print(f"pair {number}: {pair.which.removeprefix(', ')}", soft_wrap=True)
    if differing:
        console.print("\nthe pairs differ in", style="bold")
    for line, numbers in differing.items():
        console.print(f"  {line} (pair{'s' * (len(numbers) > 1)} {', '.join(numbers)})", soft_wrap=True)
    for line in found.left_out:
        console.print(f"left out: {line}", soft_wrap=True)
    console.print(SEVERAL_SEEDS if several else ONE_SEED, soft_wrap=True)


def _document(found: Comparisons) -> dict[str, Any]:
    pairs = [
        {
            "task": pair.a.records[0].task,
            "dataset": pair.a.records[0].dataset,
            "which": pair.which.removeprefix(", "),
            "images": pair.images,
            "a": _side_document(pair.a),
            "b": _side_document(pair.b),
            "metrics": [
                {name: value for name, value in asdict(row).items() if name != "seeds"}
                | {"better": None if row.better is None else "A" if row.better else "B"}
                for row in pair.rows
            ],
            "differences": pair.protocol_differences,
            "remarks": pair.remarks,
        }
        for pair in found.pairs
    ]
    return {"pairs": pairs, "left_out": found.left_out}


def _side_document(side: Side) -> dict[str, Any]:
    record = side.records[0]
    return {
        "backbone": record.backbone,
        "recipe": record.recipe,
        "seeds": list(side.runs),
        "directories": [str(directory) for directory in side.directories],
    }


def _show_side(console: Console, name: str, side: Side) -> None:
    record, seeds = side.records[0], ", ".join(str(seed) for seed in side.runs)
    about = f"{record.backbone}, recipe {record.recipe}, {'seeds' if len(side.runs) > 1 else 'seed'} {seeds}"
    console.print(f"{name}  {about}", soft_wrap=True)
    for directory in side.directories:
        console.print(f"   {directory}", soft_wrap=True)


def _images(comparison: Comparison) -> str:
    whole, images = comparison.a.records[0].evaluation_images, f"{comparison.images:,}"
    return f"{images} of {whole:,}" if whole and whole != comparison.images else images


_NUMBERS = ("A", "B", "A − B", "95 % interval", "p")


def _lines(row: Row, several: bool) -> Iterator[tuple[str, ...]]:
    """A metric, and the numbers under its headings: the test over images, and with several seeds that over them."""
    means = (f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference.mean:+.2f}")
    yield row.metric, *means, *_test(row.difference), *(["images"] if several else [])
    if row.over_seeds:
        yield row.metric, *means, *_test(row.over_seeds), "seeds"


def _test(difference: PairedDifference) -> tuple[str, str]:
    p_value = f"{difference.p_value:.4f}" if difference.p_value >= 0.00005 else "< 0.0001"
    return f"{difference.low:+.2f} to {difference.high:+.2f}", p_value
