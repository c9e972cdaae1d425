"""Stores of nights and what they leave to a baseline."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.running.writing import write_record
from results import run_directory
from tests.support.results_examples import make_record

DEVICE = "AMD EPYC, 2 cores"
VERSIONS = {"torch": "2.14.1", "timm": "1.0.31"}


def put_run(
    store: Path, value: float = 83.0, losses: Sequence[float] | None = (3.0, 2.0), *, day: int = 1, **fields: Any
) -> Path:
    """A finished run with its recipe, and its log of an update a line, if it has one; finished on that day."""
    about: dict[str, Any] = {
        "device": DEVICE,
        "precision": "fp32",
        "code": "a" * 12,
        "versions": VERSIONS,
        "key": f"{fields.get('seed', 0):012x}",
        "finished_at": datetime(2026, 1, day, tzinfo=UTC),
        "train_loss": losses[-1] if losses else None,
    }
    record = make_record(value, **(about | fields))
    run = run_directory(store, record.task, record.dataset, record.backbone, record.seed, record.key, record.run)
    write_record(run, record)
    (run / "recipe.yaml").write_text("precision: fp32\n")
    if losses is not None:
        device = "cpu" if record.device == DEVICE else "cuda"
        lines = [
            {"iteration": n, "update": n, "epoch": n / 10, "loss": loss, "lr": 0.1, "device": device}
            for n, loss in enumerate(losses, start=1)
        ]
        (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "per_image.csv").write_text("image,top1,loss\na,100,0.1\n")
    (run / "weights.safetensors").write_bytes(b"large")
    return run
