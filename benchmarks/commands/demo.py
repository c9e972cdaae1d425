"""The whole loop in minutes: draw images, pre-train on them, fine-tune that and a random twin, lay out the tables."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands.console import plain_console
from benchmarks.commands.data import draw_mini
from benchmarks.commands.screen import outputs, show_cell
from benchmarks.planning.records import load_records
from benchmarks.running.cells import run_pretraining, run_task
from benchmarks.running.comparison import compare_cells
from benchmarks.running.preparing import FinishedCell
from benchmarks.running.writing import write_text
from results import build_table, render, seed_interval
from results.metrics import find_metric
from results.paper_tables import PAPER_TABLES


@dataclass(frozen=True)
class Trial:
    """One task of the demo: its recipe, the folder of its data, and the table whose metrics decide."""

    recipe: str
    data: str
    table: str


TRIALS = (
    Trial("mini_classification", ".", "transfer"),
    Trial("mini_detection", "coco", "coco"),
    Trial("mini_segmentation", "ade20k", "ade20k"),
)


def run_demo(out: Path, seeds: int) -> None:
    """Run what is not finished in `out`, print the tables, and say where pictures and CSV are.

    Raises InputError if `out` cannot be written to.
    """
    console = plain_console()
    began = time.monotonic()
    data, runs = out / "data", out / "runs"
    draw_mini(data)
    pretrained = run_pretraining("mae_vit_mini", data / "unlabelled", runs, seed=0, overrides=[])
    show_cell(pretrained)
    encoder = pretrained.directory / "checkpoints/encoder.pth"
    backbones = (f"mae_vit_mini={encoder}", "random_vit_mini")
    pairs = {trial: _run_pairs(trial, data / trial.data, backbones, runs, seeds) for trial in TRIALS}
    records = [record for _, record in load_records([runs])]
    for trial in TRIALS:
        table = build_table(records, trial.table)
        for format, suffix in (("md", "md"), ("csv", "csv"), ("latex", "tex")):
            write_text(out / f"{trial.table}.{suffix}", render(table, format))
        console.print()
        print(render(table, "md"))
        for sentence in verdicts(pairs[trial], PAPER_TABLES[trial.table].metrics):
            console.print(sentence, soft_wrap=True)
    console.print(f"\n{time.monotonic() - began:,.0f} seconds in all. See:")
    firsts = [pretrained, *(cell for trial in TRIALS for cell in pairs[trial][0])]
    pictures = [path for cell in firsts for path in outputs(cell.directory) if path.suffix == ".png"]
    tables = [path for trial in TRIALS for path in sorted(out.glob(f"{trial.table}.*"))]
    for path in [*pictures, runs / "results.csv", *tables]:
        console.print(f"  {path}", soft_wrap=True)


def _run_pairs(trial: Trial, data: Path, backbones: Sequence[str], runs: Path, seeds: int) -> list[list[FinishedCell]]:
    """For every seed the task's run on each backbone."""
    pairs = []
    for seed in range(seeds):
        pair = []
        for backbone in backbones:
            pair.append(run_task(trial.recipe, data, backbone, runs, seed=seed, overrides=[]))
            show_cell(pair[-1])
        pairs.append(pair)
    return pairs


def verdicts(pairs: Sequence[Sequence[FinishedCell]], metrics: Sequence[str]) -> list[str]:
    """Whether pre-training helped, by each metric, from a pair (pre-trained, random) for every seed.

    Over the seeds, or with one seed over the images that both were evaluated on.
    """
    if len(pairs) == 1:
        ours, theirs = pairs[0]
        rows = {row.metric: row.difference for row in compare_cells(ours.directory, theirs.directory).rows}
        over = "95 % interval over the same images, paired; the noise between seeds comes on top"
        return [_verdict(name, rows[name].mean, rows[name].low, rows[name].high, over) for name in metrics]
    sentences = []
    for name in metrics:
        gains = [_value(ours, name) - _value(theirs, name) for ours, theirs in pairs]
        low, high = find_metric(name).clip_difference(*seed_interval(gains))
        over = f"95 % interval over {len(gains)} pairs of seeds"
        sentences.append(_verdict(name, sum(gains) / len(gains), low, high, over))
    return sentences


def _verdict(metric: str, gain: float, low: float, high: float, over: str) -> str:
    found = "helped" if low > 0 else "hurt" if high < 0 else "made no difference that this run could tell"
    return f"Pre-training {found}: {gain:+.1f} points {metric} over random weights ({low:+.1f} to {high:+.1f}, {over})"


def _value(cell: FinishedCell, name: str) -> float:
    return next(metric.value for metric in cell.record.metrics if metric.name == name)
