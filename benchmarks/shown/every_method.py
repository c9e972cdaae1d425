"""Do the paper's four methods, in its sizes and their own formats, go through every task?

    python benchmarks/shown/every_method.py --out shown [--backbones mae_vit_base …] [--sizes 64 224]

Writes random weights as the authors released theirs, puts each through classification, Mask R-CNN and UPerNet under
the paper's recipes, a few updates on a few generated images, by the same `backbench run` as anyone's, and lays out what
was loaded, what was left out, and what it took. The metrics say nothing but that they are numbers. What has finished is
not run again; weights and checkpoints go as soon as they are not needed. ViT-H takes some 14 GB of memory.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.shown.weights import WRITERS

TASKS = ("classification", "detection", "segmentation")
_ROOT = Path(__file__).resolve().parents[2]
_METRICS = {"classification": "top1", "detection": "AP_box", "segmentation": "mIoU"}
_FOLDERS = {"classification": "", "detection": "coco", "segmentation": "ade20k"}
_DATA = ["--train", "16", "--val", "16", "--coco-train", "4", "--coco-val", "4", "--ade-train", "4", "--ade-val", "4"]
_HEADINGS = (
    *("backbone", "task", "pixels", "tensors loaded", "left out of the file", "new in the model", "row", "column"),
    *("key", "trunk", "seconds", "peak memory", "metric", "loss"),
)


@dataclass(frozen=True)
class Cell:
    """A backbone in a task, on images of so many pixels a side."""

    backbone: str
    task: str
    pixels: int

    @property
    def recipe(self) -> str:
        size = next(size for size in ("base", "large", "huge") if f"_{size}" in self.backbone)
        pyramid = "simple" if size == "huge" else "fpn"
        stems = {"classification": "imagenet", "detection": f"coco_{pyramid}", "segmentation": "ade20k"}
        return f"{stems[self.task]}_vit_{size}"

    @property
    def settings(self) -> dict[str, object]:
        """What a few updates on small images need other than the paper's recipe has."""
        is_huge = self.backbone.endswith("huge")
        common: dict[str, object] = {
            "model.image_size": self.pixels,
            "runtime.workers": 0,
            "runtime.checkpoint_every": 1000,
        }
        if is_huge:
            common["runtime.activation_checkpointing"] = True
        if self.task == "classification":
            patch = 14 if is_huge else 16
            schedule = {"schedule.epochs": 1, "schedule.warmup_epochs": 0, "optimizer.batch_size": 4}
            return common | schedule | {"model.image_size": math.ceil(self.pixels / patch) * patch}
        schedule = {"schedule.iterations": 4, "schedule.warmup_iterations": 1, "optimizer.batch_size": 2}
        if self.task == "segmentation":
            resize = f"[{4 * self.pixels},{self.pixels}]"
            windows = {"augment.resize": resize, "inference.resize": resize, "inference.stride": self.pixels * 2 // 3}
            heads = {"model.channels": 256} if is_huge else {}  # the recipe's 1280 are 3 GB more of optimiser state
            return common | schedule | windows | heads
        stops = {"schedule.milestones": "[2,3]"} if "simple" in self.recipe else {}
        return common | schedule | stops

    def command(self, data: Path, weights: Path, out: Path) -> list[str]:
        options = [part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")]
        whose = ["--data", str(data / _FOLDERS[self.task]), "--backbone", f"{self.backbone}={weights}"]
        program = [sys.executable, "-m", "benchmarks", "run", "--recipe", self.recipe]
        return [*program, *whose, "--out", str(out), "--json", *options]


def _counted(reasons: dict[str, str]) -> str:
    """How many tensors for each reason."""
    return "; ".join(f"{number}: {reason}" for reason, number in Counter(reasons.values()).most_common()) or "nothing"


def row(cell: Cell, record: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What the table says of a finished cell."""
    report = record["load_report"]
    value = {metric["name"]: metric["value"] for metric in record["metrics"]}[_METRICS[cell.task]]
    loss = record["train_loss"]
    fine = value is not None and math.isfinite(value) and loss is not None and math.isfinite(loss)
    cells = (
        *(cell.backbone, cell.task, record["recipe_settings"]["model"]["image_size"]),
        *(f"{len(report['used'])}", _counted(report["dropped"]), _counted(report["initialised"])),
        *(f"{record['method']}, {record['pretrain_data']}", record["model"], record["key"]),
        *(f"{record['parameters'] / 1e6:.1f} M", f"{seconds:.0f}", f"{record['peak_memory_mb'] / 1024:.1f} GB"),
        *("finite" if fine else f"not finite: {value}", f"{loss:.3f}"),
    )
    return dict(zip(_HEADINGS, cells, strict=True))


def failure(cell: Cell, ended: int, message: str) -> dict[str, Any]:
    """What the table says of a cell that ended otherwise: with which exit status, and its last line."""
    cells = dict.fromkeys(_HEADINGS, "–") | {"backbone": cell.backbone, "task": cell.task, "pixels": cell.pixels}
    return cells | {"metric": f"exit status {ended}: {(message.strip().splitlines() or [''])[-1]}"}


def _run(cell: Cell, data: Path, weights: Path, out: Path) -> dict[str, Any]:
    start = time.monotonic()
    done = subprocess.run(cell.command(data, weights, out / "runs"), cwd=_ROOT, capture_output=True, text=True)
    with (out / "messages.log").open("a") as log:
        log.write(
            f"== {cell.backbone}, {cell.task}, {cell.pixels} pixels: exit status {done.returncode}\n{done.stderr}"
        )
    for checkpoints in (out / "runs").rglob("checkpoints"):
        shutil.rmtree(checkpoints)
    if done.returncode:
        return failure(cell, done.returncode, done.stderr)
    return row(cell, json.loads(done.stdout)["record"], time.monotonic() - start)


def _finished(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of earlier calls, by cell; those that failed are tried again."""
    path = out / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    return {name: found for name, found in rows.items() if not str(found["metric"]).startswith("exit status")}


def _cells(backbones: list[str], sizes: list[int]) -> Iterator[tuple[str, list[Cell]]]:
    for backbone in backbones:
        yield backbone, [Cell(backbone, task, pixels) for pixels in sizes for task in TASKS]


def _write_data(root: Path, pixels: int) -> Path:
    """Generated images of that many pixels a side."""
    folder = root / f"data_{pixels}"
    if not (folder / "dataset.json").exists():
        command = [sys.executable, "-m", "benchmarks", "data", "mini", str(folder), "--image-size", str(pixels)]
        subprocess.run([*command, "--no-weights", "--unlabelled", "1", *_DATA], cwd=_ROOT, check=True)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where data, runs and table.md go")
    parser.add_argument("--backbones", nargs="+", choices=list(WRITERS), default=list(WRITERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 224], help="side of the images in pixels")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows = _finished(out)
    for backbone, cells in _cells(arguments.backbones, arguments.sizes):
        weights = out / f"{backbone}.pth"
        for cell in cells:
            name = f"{cell.backbone}, {cell.task}, {cell.pixels}"
            if name in rows:
                continue
            if not weights.exists():
                torch.manual_seed(0)
                torch.save(WRITERS[backbone](), weights)
            rows[name] = _run(cell, _write_data(out, cell.pixels), weights, out)
            print(f"{name}: {rows[name]['metric']}, {rows[name]['seconds']} s", flush=True)
            (out / "rows.json").write_text(json.dumps(rows, indent=1))
            (out / "table.md").write_text(tabulate(rows.values(), headers="keys", tablefmt="github") + "\n")
        weights.unlink(missing_ok=True)
    return int(any(not str(found["metric"]).startswith("finite") for found in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
