"""The self-test's lines about the engine, each with what it has to find."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor.runtime.cache_dir_utils import cache_dir

from backbones.training import compiling
from benchmarks.selftest import batch_norms, processes
from benchmarks.selftest.compiled import compare_compiled, compiling_anew
from benchmarks.selftest.engine import ENGINE
from benchmarks.selftest.full_size import FULL_SIZE
from benchmarks.selftest.lines import Bench, NotRunError


def test_names_are_unique_and_every_line_says_how_long_it_takes() -> None:
    lines = (*ENGINE, *FULL_SIZE)
    assert len({line.name for line in lines}) == len(lines)
    assert all(line.seconds.keys() == {"cuda", "cpu"} and line.seconds["cuda"] > 0 for line in lines)


@pytest.mark.parametrize(
    "name", ["loss-scale-resumed", "batch-norm-of-two-gpus", "two-processes-nccl", "one-process-nccl"]
)
def test_what_needs_a_gpu_is_not_run_without(tmp_path: Path, name: str) -> None:
    (line,) = (line for line in ENGINE if line.name == name)
    with pytest.raises(NotRunError, match="GPU"):
        line.run(Bench("cpu", tmp_path, tmp_path))


@pytest.mark.parametrize("name", ["batch-norm-of-two-gpus", "two-processes-nccl"])
def test_two_gpus_are_asked_for_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    (line,) = (line for line in ENGINE if line.name == name)
    with pytest.raises(NotRunError, match="one GPU"):
        line.run(Bench("cuda", tmp_path, tmp_path))


def test_what_was_compiled_before_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing stays: a second self-test told 3 s of compilation, where the first had told 73."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "own")
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    with compiling_anew(tmp_path):
        assert Path(cache_dir()).parent == tmp_path
        assert Path(os.environ["TRITON_CACHE_DIR"]).parent == tmp_path
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "own" and "TRITON_CACHE_DIR" not in os.environ


class Product(nn.Module):
    """A network of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).sigmoid()


def compared(backend: str | Callable[..., Any]) -> Any:
    torch.manual_seed(0)
    network, x = Product(), torch.randn(16, 8)
    return compare_compiled(network, lambda: network(x).square().mean(), "cpu", backend)


def test_a_compiled_network_is_compared_with_itself() -> None:
    found = compared("eager")
    assert found.fine and found.figures["eager_relative_error_of_gradient"] < 0.05
    assert found.figures["seconds_per_step"] > 0


def test_a_compiler_that_changes_numbers_is_found() -> None:
    def wrong(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        return lambda *arguments: tuple(1.05 * each for each in graph(*arguments))

    found = compared(wrong)
    assert not found.fine and found.figures["relative_error_of_loss"] == pytest.approx(0.1025, abs=0.01)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["compiled-autoencoder", "compiled-pyramid"])
def test_nothing_is_compiled_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, device: str
) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    (line,) = (line for line in ENGINE if line.name == name)
    with pytest.raises(NotRunError, match="compiler"):
        line.run(Bench(device, tmp_path, tmp_path))


def test_the_chosen_batch_norm_is_batch_norm() -> None:
    found = batch_norms.compare_chosen("cpu")
    assert found.fine and found.figures["norm"] == "SynchronisedBatchNorm"


def test_a_batch_norm_of_other_statistics_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[: len(x) // 2].repeat(2, 1, 1, 1)) + 0 * x

    monkeypatch.setattr(batch_norms, "dense_norm", lambda: Other)
    assert not batch_norms.compare_chosen("cpu").fine


@pytest.mark.slow
def test_batch_norm_over_two_processes(tmp_path: Path) -> None:
    """In a folder, too, whose name is not in this locale's letters."""
    folder = tmp_path / "\udcff"
    folder.mkdir()
    found = batch_norms.compare_processes(folder, "cpu")
    assert found.fine, found


def pretend_to_run(
    monkeypatch: pytest.MonkeyPatch, losses: dict[int, list[float]], status: int = 0, patience: float = 0.0
) -> "list[subprocess.Popen[bytes]]":
    """Let runs do no more than leave a log, and end with that status, all but the first after so many seconds."""
    started = []

    def start(bench: Bench, out: Path, count: int, settings: dict[str, Any]) -> "subprocess.Popen[bytes]":
        out.mkdir(parents=True)
        lines = [json.dumps({"loss": loss}) for loss in losses[count]]
        (out / "log.jsonl").write_text("\n".join(lines))
        out.with_suffix(".log").write_text(f"starting\nbackbench: {count} lost\n")
        wait = patience if started else 0
        started.append(
            subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({wait}); raise SystemExit({status})"])
        )
        return started[-1]

    monkeypatch.setattr(processes, "_start", start)
    return started


@pytest.mark.parametrize(("second", "fine"), [(2.0001, True), (2.01, False)])
def test_losses_of_every_update_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: float, fine: bool
) -> None:
    pretend_to_run(monkeypatch, {1: [2.1, 2.0, 1.9], 2: [2.1, second, 1.9]})
    found = processes.compare_processes(Bench("cpu", tmp_path, tmp_path), "cpu")
    assert found.fine is fine and found.figures["updates"] == 3


def test_a_run_that_ends_badly_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_to_run(monkeypatch, {1: [1.0], 2: [1.0]}, status=75)
    with pytest.raises(RuntimeError, match="exit status 75, and said: backbench: 1 lost"):
        processes.compare_processes(Bench("cpu", tmp_path, tmp_path), "cpu")


def test_of_two_runs_none_is_left_where_the_other_ends_badly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = pretend_to_run(monkeypatch, {1: [1.0], 2: [1.0]}, status=75, patience=600)
    with pytest.raises(RuntimeError, match="exit status 75"):
        processes.compare_processes(Bench("cpu", tmp_path, tmp_path), "cpu")
    assert [process.poll() for process in started] == [75, -signal.SIGTERM]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(mini: Path, tmp_path: Path) -> None:
    found = processes.compare_processes(Bench("cpu", tmp_path, mini), "cpu")
    assert found.fine and found.figures["updates"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compiled-autoencoder", "compiled-pyramid"])
def test_torchs_own_compiler_serves(tmp_path: Path, name: str) -> None:
    (line,) = (line for line in ENGINE if line.name == name)
    found = line.run(Bench("cpu", tmp_path, tmp_path))
    assert found.fine, found
