"""Do several processes train what one trains? Over gloo on the CPU, over NCCL on GPUs."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.running.launching import PROGRAM
from benchmarks.selftest.exactness import largest
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError

PROCESSES = 2
TOLERANCE = {"cpu": 1e-3, "cuda": 1e-2}
"""Of each update's loss, relative, in single precision: what sums in another order become over some updates. A GPU's
convolutions round to TF32 by default."""

NCCL_TOLERANCE = 1e-4

PATIENCE = 240.0
"""Seconds within which commands of seconds have to end."""

GRACE = 20.0
"""Seconds to save what there is, once told to stop."""


def compare_processes(bench: Bench, device: str, epochs: int = 2) -> Found:
    """The mini classification by two processes beside one, each update's batch being the same."""
    runs = {count: bench.scratch / f"{count}_processes" for count in (1, PROCESSES)}
    settings = {
        "runtime.device": device,
        "runtime.workers": 0,
        "runtime.log_every": 1,
        "precision": "fp32",
        "schedule.epochs": epochs,
        "schedule.warmup_epochs": 1,
    }
    started = {count: _start(bench, out, count, settings) for count, out in runs.items()}
    try:
        for count, process in started.items():
            _require_success(count, process, runs[count])
    finally:
        for process in started.values():
            _end(process)
    losses = {count: _losses(out) for count, out in runs.items()}
    assert len(losses[1]) == len(losses[PROCESSES]) > 0
    off = largest(abs(ours / alone - 1) for ours, alone in zip(losses[PROCESSES], losses[1], strict=True))
    measured = f"loss after {len(losses[1])} updates {losses[PROCESSES][-1]:.5f} and {losses[1][-1]:.5f}, off by "
    figures: dict[str, float | int | str | bool | None] = {
        "updates": len(losses[1]),
        "largest_relative_difference_of_losses": off,
    }
    within = TOLERANCE[device]
    return Found(off <= within, f"{measured}{off:.1e} at most", f"within {within:g}", figures)


def _start(bench: Bench, out: Path, count: int, settings: dict[str, Any]) -> "subprocess.Popen[bytes]":
    """A run of the mini classification; what it prints goes to a file beside its directory."""
    house = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (house, os.environ.get("PYTHONPATH"))))}
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command: Sequence[str] = [
        *(sys.executable, *PROGRAM, "run", "--recipe", "mini_classification", "--backbone", "random_vit_mini"),
        *("--data", str(bench.data), "--out", str(out), "--processes", str(count), *overrides),
    ]
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _require_success(count: int, process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Raise RuntimeError with the last line of what a run printed, if it has not ended well."""
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{count} process(es) have not ended after {PATIENCE:.0f} s") from None
    if status:
        lines = out.with_suffix(".log").read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "nothing"
        raise RuntimeError(f"{count} process(es) ended with exit status {status}, and said: {said}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, which torch's agent hands on to those that it has started, and SIGKILL for one that takes no notice."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _losses(out: Path) -> list[float]:
    (log,) = out.rglob("log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def _step(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    loss = model(images).square().mean()
    loss.backward()
    gradients = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    return {"loss": loss.detach(), **{name: gradient for name, gradient in gradients.items() if gradient is not None}}


def meeting_place(directory: Path, processes: int) -> torch.distributed.FileStore:
    """Where so many processes of a line find each other: a file in its folder."""
    path: Any = os.fsencode(directory / "store")  # a string it takes for UTF-8, whatever the locale
    return torch.distributed.FileStore(path, processes)


def _one_of_nccl(rank: int, directory: Path) -> None:
    """A step under DistributedDataParallel and one without, and a sum over all processes; the largest difference."""
    torch.cuda.set_device(rank)
    store = meeting_place(directory, 1)
    torch.distributed.init_process_group("nccl", store=store, rank=rank, world_size=1)
    torch.manual_seed(0)
    first = nn.Conv2d(3, 16, 3, bias=False)  # before batch norm a bias would have no gradient but rounding
    model = nn.Sequential(first, nn.SyncBatchNorm(16), nn.ReLU(), nn.Conv2d(16, 8, 3)).cuda()
    images = torch.randn(4, 3, 32, 32, device="cuda")
    alone = _step(model, images)
    model.zero_grad()
    together = _step(DistributedDataParallel(model, device_ids=[rank]), images)
    numbers = torch.ones(1000, device="cuda")
    torch.distributed.all_reduce(numbers)
    off = largest(((together[name] - value).norm() / value.norm()).item() for name, value in alone.items())
    found = {"largest": off, "sum": numbers.sum().item()}
    (directory / "found.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def _try_nccl_alone(bench: Bench) -> Found:
    if bench.device != "cuda":
        raise NotRunError("NCCL is for GPUs")
    if not torch.distributed.is_nccl_available():
        raise NotRunError("this PyTorch is built without NCCL")
    torch.multiprocessing.start_processes(_one_of_nccl, (bench.scratch,), nprocs=1, start_method="spawn")
    found = json.loads((bench.scratch / "found.json").read_text())
    off = found["largest"]
    figures = {"largest_relative_difference": off}
    fine = found["sum"] == 1000 and off <= NCCL_TOLERANCE
    return Found(fine, f"loss and gradients off by {off:.1e}", f"within {NCCL_TOLERANCE:g}", figures)


def _try_gpus(bench: Bench) -> Found:
    if bench.device != "cuda":
        raise NotRunError("NCCL is for GPUs")
    if torch.cuda.device_count() < PROCESSES:
        raise NotRunError("one GPU")
    return compare_processes(bench, "cuda")


TOGETHER = (
    Line(
        name="two-processes-gloo",
        what="the mini classification by two processes (gloo, CPU) beside one: each update's loss",
        seconds={"cuda": 60.0, "cpu": 60.0},
        run=lambda bench: compare_processes(bench, "cpu"),
    ),
    Line(
        name="two-processes-nccl",
        what="the same by two GPUs (NCCL) beside one",
        seconds={"cuda": 60.0, "cpu": 0.0},
        run=_try_gpus,
    ),
    Line(
        name="one-process-nccl",
        what="a step under NCCL's process group of one GPU beside the same step without",
        seconds={"cuda": 25.0, "cpu": 0.0},
        run=_try_nccl_alone,
    ),
)
