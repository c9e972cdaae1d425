"""Records made by hand for the tests of tables."""

import re
from datetime import UTC, datetime
from typing import Any

from results import Metric, Record, cell_key

DEVIATION = "schedule.epochs=25 (reference 100)"


def make_record(value: float = 83.0, seed: int = 0, metric: str = "top1", **fields: Any) -> Record:
    evaluation = {"split": "val", "n_eval": 50_000} | {
        name: fields.pop(name) for name in ("split", "n_eval", "ci_low", "ci_high") if name in fields
    }
    settings: dict[str, Any] = {
        "table": "imagenet",
        "task": "classification",
        "dataset": "imagenet1k",
        "metrics": [Metric(name=metric, value=value, **evaluation)],
        "method": "MAE",
        "pretrain_data": "IN1K",
        "model": "ViT-B",
        "backbone": "mae_vit_base",
        "seed": seed,
        "recipe": "imagenet_vit_base",
        "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
    } | fields
    key = cell_key({name: str(setting) for name, setting in settings.items()})
    return Record(**({"key": key} | settings))


def make_random(value: float = 78.0, seed: int = 0, **fields: Any) -> Record:
    return make_record(
        value, seed, **({"method": "random", "pretrain_data": "", "backbone": "random_vit_base"} | fields)
    )


def read_markdown(text: str) -> list[list[list[str]]]:
    """Each pipe table as its heading and its lines."""
    grids = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [
        [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            for line in grid.splitlines()
            if "---" not in line
        ]
        for grid in grids
    ]
