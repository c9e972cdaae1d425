"""Jobs of the command line in processes of their own, as a cluster starts them, and what tells two of them apart."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.selftest.exactness import largest

_HOUSE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Call:
    """A command of backbench whose results go below `out`, and what it prints to a file beside it."""

    arguments: tuple[str, ...]
    out: Path

    @property
    def log(self) -> Path:
        return self.out.with_name(f"{self.out.name}.log")

    def start(self, threads: int | None) -> subprocess.Popen[bytes]:
        """Start it; threads: of the processor, None for as many as PyTorch likes."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        paths = [str(_HOUSE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        environment["XDG_CACHE_HOME"] = str(self.out.parent.absolute() / "cache")  # the data will be gone soon
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "benchmarks", *self.arguments, "--out", str(self.out)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
            )

    def finish(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for its end. Raises RuntimeError, with the last thing that it said, for one that is not good."""
        if status := process.wait():
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise RuntimeError(f"{' '.join(self.arguments[:3])} ended with {status}: {lines[-1] if lines else ''}")


def run_all(calls: Sequence[Call], threads: int | None) -> None:
    """Run calls side by side, to their ends. Raises RuntimeError for one that ends badly."""
    processes = [call.start(threads) for call in calls]
    try:
        for call, process in zip(calls, processes, strict=True):
            call.finish(process)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def kill_at(jobs: Mapping[Call, "subprocess.Popen[bytes]"], checkpoint: str) -> None:
    """SIGKILL for each job once it has written that checkpoint. Raises RuntimeError for one that ends before."""
    alive = dict(jobs)
    while alive:
        for call, process in list(alive.items()):
            if list(call.out.glob(f"*/*/*/*/checkpoints/{checkpoint}")):
                process.kill()
                del alive[call]
                if process.wait() != -signal.SIGKILL:
                    raise RuntimeError(f"{call.out.name} ended by itself before it could be killed")
            elif process.poll() is not None:
                call.finish(process)
                raise RuntimeError(f"{call.out.name} ended before it wrote {checkpoint}")
        time.sleep(0.02)


def run_directory(out: Path) -> Path:
    """The only run below a directory."""
    (recipe,) = out.glob("*/*/*/*/recipe.yaml")
    return recipe.parent


def record_of(out: Path) -> dict[str, Any]:
    """The record of the only run below a directory."""
    record: dict[str, Any] = json.loads((run_directory(out) / "record.json").read_text())
    return record


def metrics_of(out: Path) -> dict[str, float]:
    """Its metrics by name."""
    return {metric["name"]: float(metric["value"]) for metric in record_of(out)["metrics"]}


@dataclass(frozen=True)
class Apart:
    """How far two runs of the same thing are apart.

    tensors: of the last checkpoint, weights and optimizer, how many are not equal to the last digit, of how many
    weights: the relative difference of all weights as one vector
    loss:    likewise of the last loss in the log
    updates: up to which update both logs say the same to the last digit
    points:  the largest difference of a metric; pre-training has none
    """

    tensors: tuple[int, int]
    weights: float
    loss: float
    updates: int
    points: float

    @property
    def is_nothing(self) -> bool:
        return self.tensors[0] == 0 and self.loss == 0 and self.points == 0

    def __str__(self) -> str:
        if self.is_nothing:
            return "equal bit for bit"
        same = f"same up to update {self.updates}"
        return f"weights {self.weights:.1e}, loss {self.loss:.1e} ({same}), {self.points:.2f} points"


def compare(a: Path, b: Path) -> Apart:
    """Compare the only runs below two directories."""
    from benchmarks.running.trace import compare_traces

    ours, theirs = _tensors(_last_checkpoint(a)), _tensors(_last_checkpoint(b))
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"{a} and {b}: their checkpoints have other tensors")
    unequal = sum(not torch.equal(ours[name], theirs[name]) for name in ours)
    weights = [name for name in ours if name.startswith(".model.") and ours[name].is_floating_point()]
    difference = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in weights)
    size = sum(float(theirs[name].double().square().sum()) for name in weights)
    trace = compare_traces(a, b, tolerance=0.0)
    losses = [float(trace_of.entries[-1]["loss"]) for trace_of in (trace.a, trace.b)]
    metrics, others = metrics_of(a), metrics_of(b)
    return Apart(
        tensors=(unequal, len(ours)),
        weights=(difference / size) ** 0.5,
        loss=abs(losses[0] - losses[1]) / max(abs(losses[1]), 1e-300),
        updates=trace.same_up_to,
        points=largest([0.0, *(abs(metrics[name] - others[name]) for name in metrics)]),
    )


def _last_checkpoint(out: Path) -> Any:
    found = (run_directory(out) / "checkpoints").glob("iteration_*.pth")
    last = max(found, key=lambda path: int(path.stem.split("_")[1]))
    return torch.load(last, map_location="cpu", weights_only=True)


def _tensors(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """All tensors of a nested checkpoint, by their path."""
    if isinstance(value, Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[str, Tensor] = {}
    for key, inner in items:
        found |= _tensors(inner, f"{prefix}.{key}")
    return found
