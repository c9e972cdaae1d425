"""Suites and their cells as JSON documents; docs/status.md says what each field holds."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scheduling.status import CellStatus, SuiteStatus, device_hours


def status_document(out: Path, suites: Sequence[SuiteStatus]) -> dict[str, Any]:
    """All suites of a store as one document; docs/status.md says what each field holds."""
    counts, cells = Counter[str](), [cell for suite in suites for cell in suite.cells]
    for suite in suites:
        counts.update(suite.counts)
    return {
        "directory": str(out),
        "cells": len(cells),
        "counts": dict(counts),
        "gpu_hours": device_hours(cells, on_gpu=True),
        "cpu_hours": device_hours(cells, on_gpu=False),
        "suites": [suite_document(suite) for suite in suites],
    }


def suite_document(suite: SuiteStatus) -> dict[str, Any]:
    """A suite and all of its cells."""
    return {
        "suite": suite.name,
        "about": suite.about,
        "fault": suite.fault,
        "counts": suite.counts,
        "seconds_left": suite.seconds_left,
        "seconds_at_work": suite.seconds_at_work,
        "gpu_hours": suite.gpu_hours,
        "cpu_hours": suite.cpu_hours,
        "cells": [cell_document(cell) for cell in suite.cells],
    }


def cell_document(cell: CellStatus) -> dict[str, Any]:
    """A cell: what it is, how it stands, and where its run and its log are."""
    job, progress, result = cell.job, cell.progress, cell.result
    return {
        "cell": job.name,
        "state": cell.state,
        "reason": cell.reason,
        **job.model_dump(
            include={"task", "dataset", "recipe", "backbone", "method", "pretrain_data", "column", "seed", "table"}
        ),
        "published": dict(result.published if result else job.expected),
        "metrics": dict(result.metrics) if result else {},
        "deviations": list(result.deviations) if result else [],
        "update": progress and progress.update,
        "updates": progress and progress.updates,
        "loss": progress and progress.loss,
        "seconds_left": cell.seconds_left,
        "gpu_hours": device_hours([cell], on_gpu=True),
        "cpu_hours": device_hours([cell], on_gpu=False),
        "attempts": len(cell.attempts),
        "began": cell.attempts[-1][0].isoformat() if cell.attempts else None,
        "owner": cell.owner or None,
        "slurm_job": cell.slurm_job or None,
        "run": cell.run and str(cell.run),
        "log": str(cell.log),
    }
