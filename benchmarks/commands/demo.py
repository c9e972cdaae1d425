"""The whole loop in minutes: draw images, carry out the suite `demo` on them, say whether pre-training helped."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.commands.console import plain_console
from benchmarks.commands.data import draw_mini
from benchmarks.commands.screen import outputs
from benchmarks.commands.suites import carry_out_suite
from benchmarks.launching.slots import find_gpus
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.looking import require_sound
from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.running.comparison import compare_cells
from results import Record, seed_interval
from results.metrics import find_metric
from results.paper_tables import PAPER_TABLES

Run = tuple[Path, Record]

PRETRAINED, RANDOM = "pretrained", "random"
"""What the suite calls its backbones."""


def run_demo(out: Path, seeds: int) -> int:
    """Run what is not finished in `out`, print the tables, the verdicts, and where pictures and CSV are.

    Returns the exit status. Raises InputError if `out` cannot be written to.
    """
    console, began = plain_console(), time.monotonic()
    data, runs = out / "data", out / "runs"
    draw_mini(data)
    plan = require_sound(plan_suite("demo", runs, site=data / "site.yaml", seeds=seeds))
    if status := carry_out_suite(plan, jobs=cells_at_once(find_gpus())):
        return status
    found = _runs_of(plan)
    for sentence in _all_verdicts(plan, found):
        console.print(sentence, soft_wrap=True)
    console.print(f"\n{time.monotonic() - began:,.0f} seconds in all. See:")
    firsts = [found[cell.name][0] for cell in plan.cells if cell.seed == 0]
    pictures = [path for directory in firsts for path in outputs(directory) if path.suffix == ".png"]
    for path in [*pictures, runs / "results.csv"]:
        console.print(f"  {path}", soft_wrap=True)
    return 0


def cells_at_once(gpus: Sequence[str]) -> str:
    """How many, as `--jobs` has it: one a GPU, or without any two, as models this small gain less from a second core
    than a second cell does."""
    return "gpu" if gpus else "2"


def _runs_of(plan: SuitePlan) -> dict[str, Run]:
    """The run of each of a finished suite's cells."""
    runs: dict[str, Run] = {}
    for cell in plan.cells:
        planned = cell.planned
        if cell.needs:
            planned = replace(planned, checkpoint=runs[cell.needs][0] / "checkpoints/encoder.pth")
        found = planned.find_record(plan.out)
        assert found is not None
        runs[cell.name] = found
    return runs


def _all_verdicts(plan: SuitePlan, runs: dict[str, Run]) -> list[str]:
    sentences = []
    for comparison, recipe in dict.fromkeys((cell.comparison, cell.recipe) for cell in plan.cells if cell.comparison):
        cells = [cell for cell in plan.cells if (cell.comparison, cell.recipe) == (comparison, recipe)]
        ours, theirs = (_of_backbone(cells, name, runs) for name in (PRETRAINED, RANDOM))
        measured = {metric.name for metric in ours[0][1].metrics}
        shown = [name for name in PAPER_TABLES[cells[0].table].metrics if name in measured]
        sentences += verdicts(list(zip(ours, theirs, strict=True)), shown)
    return sentences


def _of_backbone(cells: Sequence[SuiteCell], backbone: str, runs: dict[str, Run]) -> list[Run]:
    """Seed by seed."""
    return [runs[cell.name] for cell in sorted(cells, key=lambda cell: cell.seed) if cell.backbone == backbone]


def verdicts(pairs: Sequence[tuple[Run, Run]], metrics: Sequence[str]) -> list[str]:
    """Whether pre-training helped, by each metric, from a pair (pre-trained, random) for every seed.

    Over the seeds, or with one seed over the images that both were evaluated on.
    """
    if len(pairs) == 1:
        (ours, _), (theirs, _) = pairs[0]
        rows = {row.metric: row.difference for row in compare_cells(ours, theirs).rows}
        over = "95 % interval over the same images, paired; the noise between seeds comes on top"
        return [_verdict(name, rows[name].mean, rows[name].low, rows[name].high, over) for name in metrics]
    sentences = []
    for name in metrics:
        gains = [_value(ours, name) - _value(theirs, name) for (_, ours), (_, theirs) in pairs]
        low, high = find_metric(name).clip_difference(*seed_interval(gains))
        over = f"95 % interval over {len(gains)} pairs of seeds"
        sentences.append(_verdict(name, sum(gains) / len(gains), low, high, over))
    return sentences


def _verdict(metric: str, gain: float, low: float, high: float, over: str) -> str:
    found = "helped" if low > 0 else "hurt" if high < 0 else "made no difference that this run could tell"
    return f"Pre-training {found}: {gain:+.1f} points {metric} over random weights ({low:+.1f} to {high:+.1f}, {over})"


def _value(record: Record, name: str) -> float:
    return next(metric.value for metric in record.metrics if metric.name == name)
