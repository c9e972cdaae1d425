"""Is batch norm over all processes, as the dense tasks choose it, the batch norm of one process with all images?"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbones.training.precision import resolve_precision
from benchmarks.selftest.exactness import largest
from benchmarks.selftest.lines import Bench, Found, Line, NotRunError
from benchmarks.selftest.processes import meeting_place
from tasks.batch_norm import SynchronisedBatchNorm, dense_norm

CHANNELS, SIDE = 64, 24
SHARES = (5, 3)
"""Images of each of two processes."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}


def _train(norm: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """One step under a loss in which every activation counts differently: what comes out and what is learnt."""
    x = images.clone().requires_grad_()
    found = norm(x)
    weights = torch.linspace(-1, 1, CHANNELS * SIDE**2, device=x.device).view(CHANNELS, SIDE, SIDE)
    (found.float().sigmoid() * weights).sum().backward()
    assert x.grad is not None
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    statistics = {"mean": norm.running_mean, "variance": norm.running_var}
    return {"found": found.detach(), "x": x.grad, **gradients, **statistics}


def _activations() -> Tensor:
    shape = (sum(SHARES), CHANNELS, SIDE, SIDE)
    return 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _largest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference in any of them, as a share of its own largest number."""
    return largest(((found[name] - value).abs().max() / value.abs().max()).item() for name, value in expected.items())


def compare_chosen(device: str) -> Found:
    """The norm that the dense tasks choose on the device, in one process, beside `nn.BatchNorm2d`."""
    chosen: Any = dense_norm()
    half = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[resolve_precision("auto", device)]
    figures: dict[str, float | int | str | bool | None] = {"norm": chosen.__name__}
    fine, parts = True, []
    for dtype in dict.fromkeys((torch.float32, half)):
        images = _activations().to(device, dtype)
        norms = [kind(CHANNELS).to(device) for kind in (chosen, nn.BatchNorm2d)]
        off = _largest(*(_train(norm, images) for norm in norms))
        name = str(dtype).removeprefix("torch.")
        figures[f"largest_relative_difference_{name}"] = off
        fine = fine and off <= TOLERANCE[dtype]
        parts.append(f"{off:.1e} ({name})")
    within = ", ".join(f"{TOLERANCE[dtype]:g}" for dtype in dict.fromkeys((torch.float32, half)))
    return Found(fine, f"{chosen.__name__}: {', '.join(parts)}", f"within {within}", figures)


def _train_share(rank: int, directory: Path, device: str) -> None:
    """One process's step, with the norm that the dense tasks choose; what came of it goes to a file of its own."""
    os.environ |= {"WORLD_SIZE": str(len(SHARES)), "RANK": str(rank)}
    torch.set_num_threads(1)
    backend, place = ("nccl", f"cuda:{rank}") if device == "cuda" else ("gloo", "cpu")
    if device == "cuda":
        torch.cuda.set_device(rank)
    store = meeting_place(directory, len(SHARES))
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=len(SHARES))
    norm: Any = nn.SyncBatchNorm if device == "cuda" else SynchronisedBatchNorm
    trained = _train(norm(CHANNELS).to(place), _activations().split(SHARES)[rank].to(place))
    torch.save({name: value.cpu() for name, value in trained.items()}, directory / f"{rank}.pth")
    torch.distributed.destroy_process_group()


def compare_processes(directory: Path, device: str) -> Found:
    """Two processes, on the CPU or a GPU each, with unlike numbers of images, beside one with all of them."""
    alone = _train(nn.BatchNorm2d(CHANNELS).to(device), _activations().to(device))
    expected = {name: value.cpu() for name, value in alone.items()}
    if device == "cpu":  # detectron2 keeps the biased variance
        numbers = sum(SHARES) * SIDE**2
        expected["variance"] = 0.9 + (expected["variance"] - 0.9) * (1 - 1 / numbers)
    torch.multiprocessing.start_processes(_train_share, (directory, device), nprocs=len(SHARES), start_method="spawn")
    parts = [torch.load(directory / f"{rank}.pth", weights_only=True) for rank in range(len(SHARES))]
    found = {name: torch.cat([part[name] for part in parts]) for name in ("found", "x")}
    found |= {name: sum(part[name] for part in parts) for name in ("weight", "bias")}
    off = largest(_largest({**part, **found}, expected) for part in parts)
    within = TOLERANCE[torch.float32]
    return Found(off <= within, f"{off:.1e}", f"within {within:g}", {"largest_relative_difference": off})


def _try_gpus(bench: Bench) -> Found:
    if bench.device != "cuda":
        raise NotRunError("NCCL is for GPUs")
    if torch.cuda.device_count() < len(SHARES):
        raise NotRunError("one GPU")
    return compare_processes(bench.scratch, "cuda")


BATCH_NORMS = (
    Line(
        name="batch-norm",
        what="the dense tasks' batch norm in one process beside BatchNorm2d: outputs, gradients, statistics",
        seconds={"cuda": 2.0, "cpu": 2.0},
        run=lambda bench: compare_chosen(bench.device),
    ),
    Line(
        name="batch-norm-of-two",
        what="batch norm over two processes (gloo, CPU) beside one process with all images",
        seconds={"cuda": 25.0, "cpu": 15.0},
        run=lambda bench: compare_processes(bench.scratch, "cpu"),
    ),
    Line(
        name="batch-norm-of-two-gpus",
        what="SyncBatchNorm over two GPUs (NCCL), as the dense tasks use it there, beside one GPU with all images",
        seconds={"cuda": 25.0, "cpu": 0.0},
        run=_try_gpus,
    ),
)
