"""Stores of suites made by hand: cells in any state, with runs, logs, owners and records."""

import hashlib
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.running.claim import RECIPE
from benchmarks.running.of_suite import RUN
from benchmarks.running.owners import this_process
from benchmarks.running.writing import write_record
from benchmarks.scheduling.folders import Attempt, CellFolder, CellState, Job, Plan, SuiteFolder
from results import run_directory
from tests.support.results_examples import make_record
from tests.support.stores import ELSEWHERE

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_job(name: str, seed: int = 0, **fields: Any) -> Job:
    """A cell of the paper's ImageNet table."""
    settings: dict[str, Any] = {
        "arguments": ("run", "--recipe", "imagenet_vit_base"),
        "task": "classification",
        "dataset": "imagenet1k",
        "backbone": "mae_vit_base",
        "recipe": "imagenet_vit_base",
        "table": "imagenet",
        "method": "MAE",
        "pretrain_data": "IN1K",
        "column": "ViT-B",
    }
    plan = hashlib.sha256(f"plan of {name} {seed}".encode()).hexdigest()[:12]
    return Job(name=name, seed=seed, **(settings | {"plan": plan} | fields))


def put_suite(out: Path, *jobs: Job, name: str = "paper", about: str = "the paper's tables") -> SuiteFolder:
    """A suite's plan, in a store."""
    folder = SuiteFolder(out, name)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write(Plan(suite=name, about=about, jobs=jobs))
    return folder


def put_run_of(folder: SuiteFolder, job: Job, *, of: int = 100, update: int = 50, tells: bool = True) -> Path:
    """The run of a cell, so far; with a log of a line every ten updates, of two seconds each."""
    run = run_directory(folder.out, job.task, job.dataset, job.backbone, job.seed, _key(job))
    (run / "checkpoints").mkdir(parents=True)
    (run / RECIPE).write_text(f"task: {job.task}\ndataset: {job.dataset}\nschedule: {{epochs: 10}}\n")
    (run / "checkpoints" / f"iteration_{update}.pth").write_bytes(b"x" * 1024)
    lines = [_line(done, of) for done in range(10, update + 1, 10)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if tells:
        cell = cell_of(folder, job)
        (cell.path / RUN).write_text(f"{run.relative_to(folder.out)}\n/data/imagenet\n")
    return run


def put_finished(folder: SuiteFolder, job: Job, value: float = 83.5, **fields: Any) -> Path:
    """A cell that has finished after two hours."""
    run = put_run_of(folder, job, update=100)
    named = {"method": job.method, "pretrain_data": job.pretrain_data, "model": job.column, "backbone": job.backbone}
    about = {
        "task": job.task,
        "dataset": job.dataset,
        "recipe": job.recipe,
        "table": job.table,
        "key": _key(job),
        "declared": job.declared,
    }
    named |= {"plan": job.plan}
    settings = {**named, **about, "suite": folder.name, "total_seconds": 7200.0, "device": "AMD EPYC"}
    write_record(run, make_record(value, job.seed, **(settings | fields)))
    ended = BEGAN + timedelta(hours=2)
    put_state(folder, job, "finished", attempts=(Attempt(by=ELSEWHERE.name, began=BEGAN, ended=ended, status=0),))
    return run


def put_state(folder: SuiteFolder, of: Job, outcome: Any, reason: str = "", **fields: Any) -> None:
    attempt = Attempt(by=ELSEWHERE.name, began=BEGAN, ended=BEGAN + timedelta(hours=1), status=1)
    state = CellState(outcome=outcome, reason=reason, **({"attempts": (attempt,)} | fields))
    cell_of(folder, of).write(state)


def own(folder: SuiteFolder, job: Job, *, here: bool = True, silent_for: float = 0.0) -> None:
    """The lease on a cell: of this process, or of one elsewhere that gave its last sign of life so long ago."""
    lease = cell_of(folder, job).owner
    lease.write_bytes((this_process() if here else ELSEWHERE).marker)
    os.utime(lease, (time.time() - silent_for,) * 2)


def cell_of(folder: SuiteFolder, job: Job) -> CellFolder:
    cell = folder.cell(job.name)
    cell.path.mkdir(parents=True, exist_ok=True)
    return cell


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below, with when it was written and what is in it."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def _key(job: Job) -> str:
    return hashlib.sha256(f"{job.name} {job.seed}".encode()).hexdigest()[:12]


def _line(done: int, of: int) -> dict[str, Any]:
    counts = {"iteration": done, "update": done, "updates": of, "epoch": done / 10}
    return {**counts, "loss": 1.0 - done / 1000, "seconds": 2.0 * done, "device": "cpu"}
