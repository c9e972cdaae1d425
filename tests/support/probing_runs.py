"""Probes on features that take a second or two, and what they leave."""

from pathlib import Path

from results import Record, find_records

PROBES = ("mini_knn", "mini_linear_grid", "mini_logistic_regression", "mini_few_labels")
QUICK = {
    "mini_linear_grid": {"grid.iterations": 40, "grid.rates": "[0.001,0.1]", "held_out.share": 0.25},
    "mini_logistic_regression": {"regression.steps": 3, "regression.least_exponent": -1, "held_out.share": 0.25},
    "mini_few_labels": {"few_labels.per_class": "[1,2]", "few_labels.draws": 2},
}


def arguments(
    recipe: str, data: Path, out: Path, *more: object, backbone: str = "random_vit_mini", **changes: object
) -> list[object]:
    """Those of a run, with `QUICK` settings."""
    settings = QUICK.get(recipe, {}) | {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    own = ["--set", "runtime.workers=0", "--set", "runtime.device=cpu"]
    return ["run", "--recipe", recipe, "--data", data, "--backbone", backbone, "--out", out, *own, *overrides, *more]


def only(out: Path) -> Record:
    """The record of a store that has one."""
    ((_, record),) = find_records([out])
    return record


def values(record: Record) -> dict[str, float]:
    """What was measured, by the metric's name."""
    return {metric.name: metric.value for metric in record.metrics}


def of(out: Path, task: str) -> tuple[Path, Record]:
    """The directory and the record of a task's one run."""
    (found,) = [(directory, record) for directory, record in find_records([out]) if record.task == task]
    return found
