"""Stores of runs for verdicts: MAE's four seeds in four nights, and a night that is to be judged."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.running.writing import write_record
from results import Record, run_directory
from tests.support.results_examples import make_record

SEEDS = (83.63, 83.66, 83.52, 83.46)
"""Top-1 of ViT-B in facebookresearch/mae, FINETUNE.md."""

MAE: dict[str, Any] = {
    "protocol": {"optimizer.lr": "0.001", "schedule.epochs": "100"},
    "data_fingerprint": "0123456789ab",
    "device": "NVIDIA H100",
    "precision": "bf16",
    "train_images_per_second": 1000.0,
    "peak_memory_mb": 9000.0,
}
RANDOM: dict[str, Any] = MAE | {"method": "random", "pretrain_data": "", "backbone": "random_vit_base"}


def put(store: Path, value: float, seed: int = 9, day: int = 26, **fields: Any) -> Path:
    """A finished run of that day of January; where it lies."""
    return put_record(store, make_record(value, seed, finished_at=datetime(2026, 1, day, tzinfo=UTC), **fields))


def put_record(store: Path, record: Record) -> Path:
    directory = run_directory(store, record.task, record.dataset, record.backbone, record.seed, record.key)
    write_record(directory, record)
    return directory


def put_nights(nights: Path) -> Path:
    """Four nights of two cells, a seed each."""
    for day, value in enumerate(SEEDS, start=1):
        speed = 1000.0 + 2 * day
        put(nights / f"2026-01-{day:02}", value, day, day, **MAE | {"train_images_per_second": speed})
        put(nights / f"2026-01-{day:02}", value - 5, day, day, **RANDOM | {"train_images_per_second": speed})
    return nights
