"""What is no number passes in none of the self-test's lines, wherever among sound numbers it stands."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.running import trace
from benchmarks.selftest import batch_norms, jobs, loss_scale, processes
from benchmarks.selftest.attention import _worse
from benchmarks.selftest.exactness import Error, largest
from benchmarks.selftest.lines import Bench

NAN = math.nan


@pytest.mark.parametrize("values", [(NAN, 1.0), (1.0, NAN), (0.0, NAN, math.inf)])
def test_the_largest_of_numbers_and_none_is_none(values: tuple[float, ...]) -> None:
    assert math.isnan(largest(values)) and largest(value for value in values if value == value) >= 0


def test_a_block_without_numbers_is_the_worse_one() -> None:
    sound, broken = Error(0.1, 0.2, 0.3, "a"), Error(NAN, NAN, NAN, "b")
    for found in (_worse(sound, broken), _worse(broken, sound)):
        assert found.worst == "b" and all(map(math.isnan, (found.loss, found.whole, found.each)))
    assert _worse(Error(0.2, 0.1, 0.4, "c"), sound) == Error(0.2, 0.2, 0.4, "c")


def test_a_batch_norm_whose_gradients_are_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            x.register_hook(lambda gradient: gradient * NAN)
            return super().forward(x)

    monkeypatch.setattr(batch_norms, "dense_norm", lambda: Other)
    found = batch_norms.compare_chosen("cpu")
    assert not found.fine and math.isnan(float(found.figures["largest_relative_difference_float32"] or 0))


def test_a_later_update_without_a_loss_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(bench: Bench, out: Path, count: int, settings: dict[str, Any]) -> "subprocess.Popen[bytes]":
        out.mkdir(parents=True)
        losses = (2.0, NAN) if count == 2 else (2.0, 1.0)
        (out / "log.jsonl").write_text("\n".join(json.dumps({"loss": loss}) for loss in losses))
        return subprocess.Popen([sys.executable, "-c", ""])

    monkeypatch.setattr(processes, "_start", start)
    assert not processes.compare_processes(Bench("cpu", tmp_path, tmp_path), "cpu").fine


def test_a_step_of_one_process_without_gradients_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of it reaches the file that the line reads, with every call of CUDA and NCCL taken away."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda rank: None)
    for name in ("FileStore", "init_process_group", "all_reduce", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *arguments, **settings: None)
    monkeypatch.setattr(nn.Module, "cuda", lambda module: module)
    monkeypatch.setattr(processes, "DistributedDataParallel", lambda model, device_ids: model)
    for name in ("randn", "ones"):
        sound = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *shape, sound=sound, **more: sound(*shape, **more | {"device": "cpu"}))
    results = [{"loss": torch.tensor(1.0), "weight": torch.tensor(gradient)} for gradient in (1.0, NAN)]
    monkeypatch.setattr(processes, "_step", lambda model, images: results.pop(0))
    processes._one_of_nccl(0, tmp_path)
    assert math.isnan(json.loads((tmp_path / "found.json").read_text())["largest"])


def test_a_resumed_run_without_losses_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(directory: Path, stop_after: int | None) -> loss_scale.Witness:
        witness = loss_scale.Witness(stop_after)
        resumed = directory.name == "stopped" and stop_after is None
        first, last = (loss_scale.STOPPED_AFTER + 1 if resumed else 1), stop_after or 16
        witness.losses = dict.fromkeys(range(first, last + 1), NAN if resumed else 2.0)
        witness.scales = dict.fromkeys(witness.losses, 8.0)
        return witness

    monkeypatch.setattr(loss_scale, "train", train)
    found = loss_scale.compare_resumed(tmp_path)
    assert not found.fine and "losses by nan at most" in found.measured


def test_a_metric_that_is_none_sets_runs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"entries": [{"loss": 1.0}]}
    trace_of = type("Trace", (), entry)
    monkeypatch.setattr(
        trace, "compare_traces", lambda a, b, tolerance: type("", (), {"a": trace_of, "b": trace_of, "same_up_to": 1})
    )
    monkeypatch.setattr(jobs, "_last_checkpoint", lambda out: {"model": {"weight": torch.ones(2)}})
    metrics = {"a": {"top1": 80.0, "top5": NAN}, "b": {"top1": 80.0, "top5": 90.0}}
    monkeypatch.setattr(jobs, "metrics_of", lambda out: metrics[out.name])
    assert not jobs.compare(tmp_path / "a", tmp_path / "b").is_nothing
