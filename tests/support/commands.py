"""Running backbench's commands in processes of their own, and looking at what they leave behind."""

import functools
import itertools
import json
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PATIENCE = 300.0
"""Seconds within which a command has to end, however busy the machine is."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["benchmarks.running.cells", "benchmarks.commands.screen", "tasks.detection.task", "tasks.segmentation.task"]
)


@dataclass(frozen=True)
class Moment:
    """A moment in a command's life: when it calls a function, given by its full name, for the `call`-th time."""

    function: str
    call: int = 1


def _signal_at(moment: Moment, number: signal.Signals) -> None:
    """Make this process send itself a signal at that moment."""
    owner_name, _, name = moment.function.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    original, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(original)
    def counted(*arguments: Any, **named: Any) -> Any:
        if next(calls) == moment.call:
            os.kill(os.getpid(), number)
        return original(*arguments, **named)

    setattr(owner, name, counted)


def ends_of(pair: Sequence[Any], output: Path) -> list[int]:
    """Start processes and wait for them; their exit statuses. They print to a file, which tells of one that hangs."""
    for process in pair:
        process.start()
    for process in pair:
        process.join(PATIENCE)
    unfinished = [process for process in pair if process.exitcode is None]
    for process in unfinished:
        process.kill()
    assert not unfinished, output.read_text()
    return [process.exitcode for process in pair]


def call_command(
    arguments: list[str], output: Path, moments: tuple[Moment, ...] = (), number: signal.Signals = signal.SIGKILL
) -> None:
    """Become the command line: its streams go to a file, its exit status is the process's."""
    with output.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it, and so would what it forks
    multiprocessing.set_start_method("fork", force=True)  # of loader processes, as on a command line
    torch.set_num_threads(1)
    for moment in moments:
        _signal_at(moment, number)
    from benchmarks.commands.cli import main

    sys.argv = ["backbench", *arguments]
    main()


def backbench(
    arguments: list[str],
    output: Path,
    moment: Moment | tuple[Moment, ...] | None = None,
    number: signal.Signals = signal.SIGKILL,
) -> int:
    """Run a command, in a process of its own that gets a signal at each moment; its exit status, negative for a signal.

    The process is forked from a server that has imported the libraries, which takes longer than a test's runs. What
    the command prints is appended to `output`.
    """
    moments = moment if isinstance(moment, tuple) else (moment,) if moment else ()
    process = processes.Process(target=call_command, args=(arguments, output, moments, number))
    process.start()
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"not finished within {PATIENCE} s: {output.read_text()}")
    return process.exitcode


def start_torchrun(arguments: list[str], processes: int = 2) -> subprocess.Popen[str]:
    """Start a command in several processes on this machine's CPU; its screen output is one stream."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*launcher, "-m", "benchmarks", *arguments, "--set", "runtime.device=cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def torchrun(arguments: list[str], processes: int = 2) -> str:
    """Run a command in several processes to its end, which has to be a good one; what they printed."""
    with start_torchrun(arguments, processes) as launcher:
        try:
            text, _ = launcher.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            launcher.kill()
            raise
    assert launcher.returncode == 0, text
    return text


def pretrain_arguments(data: Path, out: Path, **changes: object) -> list[str]:
    """`backbench pretrain` of the mini model."""
    return ["pretrain", "--recipe", "mae_vit_mini", "--data", str(data), "--out", str(out), *overrides(**changes)]


def run_arguments(
    data: Path,
    out: Path,
    backbone: str = "random_vit_mini",
    seed: int = 0,
    recipe: str = "mini_classification",
    **changes: object,
) -> list[str]:
    """`backbench run` of a recipe."""
    fixed = ["run", "--recipe", recipe, "--data", str(data), "--backbone", backbone, "--out", str(out)]
    return [*fixed, "--seed", str(seed), *overrides(**changes)]


def overrides(**changes: object) -> list[str]:
    """`schedule__epochs=2` becomes `--set schedule.epochs=2`."""
    return [part for key, value in changes.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def run_directory(out: Path, seed: int | None = None) -> Path:
    """The only run directory below `out`, or the only one of that seed."""
    (recipe,) = out.glob(f"*/*/*/{'*' if seed is None else f'seed{seed}-*'}/recipe.yaml")
    return recipe.parent


def read_record(out: Path, seed: int | None = None) -> dict[str, Any]:
    """The only record below `out`, or the only one of that seed."""
    record: dict[str, Any] = json.loads((run_directory(out, seed) / "record.json").read_text())
    return record


def metric_values(record: dict[str, Any]) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in record["metrics"]}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs between two runs of the same thing."""
    costs = {"train_images_per_second", "peak_memory_mb", "wall_seconds", "evaluation_seconds", "total_seconds"}
    return {name: value for name, value in record.items() if name not in costs | {"finished_at", "command"}}


def log_lines(out: Path) -> int:
    """How many lines the log of the only run below `out` has."""
    return (run_directory(out) / "log.jsonl").read_text().count("\n")


def last_checkpoint(out: Path) -> Path:
    """The checkpoint of the most iterations."""
    found = (run_directory(out) / "checkpoints").glob("iteration_*.pth")
    return max(found, key=lambda path: int(path.stem.split("_")[1]))


def tensors(value: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a nested checkpoint, by their path."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: dict[str, torch.Tensor] = {}
    for key, inner in items:
        found |= tensors(inner, f"{prefix}.{key}")
    return found


def checkpoint_tensors(out: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint below `out`, weights and optimizer state."""
    return tensors(torch.load(last_checkpoint(out), weights_only=True))
