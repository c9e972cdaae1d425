"""The whole loop in minutes: draw images, pre-train on them, fine-tune that and a random twin, lay out the table."""

import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.cells import FinishedCell, run_pretraining, run_task
from benchmarks.screen import draw_mini, outputs, show_cell
from results import build_table, find_records, paired_difference, render, seed_interval, write_atomically

RECIPE = "mini_classification"


def run_demo(out: Path, seeds: int) -> None:
    """Run what is not finished in `out`, print the table, and say where pictures and CSV are.

    Raises InputError if `out` cannot be written to.
    """
    console = Console(highlight=False)
    began = time.monotonic()
    data, runs = out / "data", out / "runs"
    draw_mini(data)
    pretrained = run_pretraining("mae_vit_mini", data / "unlabelled", runs, seed=0, overrides=[])
    show_cell(pretrained)
    encoder = pretrained.directory / "checkpoints/encoder.pth"
    backbones = {"mae": f"mae_vit_mini={encoder}", "random": "random_vit_mini"}
    cells: dict[str, list[FinishedCell]] = {name: [] for name in backbones}
    for seed in range(seeds):
        for name, backbone in backbones.items():
            cells[name].append(run_task(RECIPE, data, backbone, runs, seed=seed, overrides=[]))
            show_cell(cells[name][-1])
    records = [record for _, record in find_records([runs])]
    table = build_table(records, "imagenet")
    for format, suffix in (("md", "md"), ("csv", "csv"), ("latex", "tex")):
        write_atomically(out / f"imagenet.{suffix}", render(table, format))
    console.print()
    print(render(table, "md"))
    console.print(verdict(cells["mae"], cells["random"]), soft_wrap=True)
    console.print(f"\n{time.monotonic() - began:,.0f} seconds in all. See:")
    for path in [*outputs(pretrained.directory)[-1:], runs / "results.csv", *sorted(out.glob("imagenet.*"))]:
        console.print(f"  {path}", soft_wrap=True)


def verdict(ours: list[FinishedCell], theirs: list[FinishedCell]) -> str:
    """Whether pre-training helped, over the seeds, or with one seed over the images that both were evaluated on."""
    gains = [_top1(mine) - _top1(other) for mine, other in zip(ours, theirs, strict=True)]
    if len(gains) == 1:
        difference = paired_difference(_per_image(ours[0]), _per_image(theirs[0]))
        mean, low, high = difference.mean, difference.low, difference.high
        over = "95 % interval over the same images, paired; the noise between seeds comes on top"
    else:
        mean = sum(gains) / len(gains)
        low, high = seed_interval(gains)
        over = f"95 % interval over {len(gains)} pairs of seeds"
    found = "helped" if low > 0 else "hurt" if high < 0 else "made no difference that this run could tell"
    return f"Pre-training {found}: {mean:+.1f} points top-1 over random weights ({low:+.1f} to {high:+.1f}, {over})"


def _top1(cell: FinishedCell) -> float:
    return next(metric.value for metric in cell.record.metrics if metric.name == "top1")


def _per_image(cell: FinishedCell) -> list[float]:
    frame = pd.read_csv(cell.directory / "per_image.csv").sort_values("image")
    return frame["top1"].tolist()
