"""The self-test of a resumed loss scale, on a CPU whose autocast stands in for a GPU's."""

from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper

from backbones.training import job
from backbones.training.checkpointing import CheckpointHook
from benchmarks.selftest import loss_scale
from benchmarks.selftest.lines import Bench, NotRunError
from benchmarks.selftest.loss_scale import LOSS_SCALE, STOPPED_AFTER, compare_resumed


@pytest.fixture
def _scaler_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine's wrapper with torch's scaler for CPUs, and few steps. In bfloat16 scales do not fall, they grow."""
    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, "GradScaler", partial(torch.amp.GradScaler, "cpu", growth_interval=3))
    monkeypatch.setattr(job, "resolve_precision", lambda precision, device: precision)
    monkeypatch.setattr(loss_scale, "IMAGES", 16)
    monkeypatch.setattr(loss_scale, "BATCH", 4)
    monkeypatch.setattr(loss_scale, "EPOCHS", 4)


@pytest.mark.usefixtures("_scaler_on_cpu")
def test_a_stopped_run_goes_on_with_its_scale(tmp_path: Path) -> None:
    found = compare_resumed(tmp_path)
    assert found.fine, found
    assert found.figures["steps_of_unlike_scale"] == 0
    assert found.figures["scale_at_stop"] != found.figures["scale_at_end"]
    assert found.figures["largest_relative_difference_of_losses"] == 0


@pytest.mark.usefixtures("_scaler_on_cpu")
def test_a_scale_that_is_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint without it, which mmengine's wrapper takes as well."""
    write = CheckpointHook._write

    def forget(self: CheckpointHook, runner: object, updates: int) -> None:
        write(self, runner, updates)  # type: ignore[arg-type]
        path = self.directory / f"iteration_{updates}.pth"
        content = torch.load(path, weights_only=True)
        del content["optimizer"]["loss_scaler"]
        torch.save(content, path)

    monkeypatch.setattr(CheckpointHook, "_write", forget)
    found = compare_resumed(tmp_path)
    assert not found.fine
    assert found.figures["steps_of_unlike_scale"] == 16 - STOPPED_AFTER


def test_it_is_for_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match="GPU"):
        LOSS_SCALE.run(Bench("cpu", tmp_path, tmp_path))
