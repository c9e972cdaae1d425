"""The self-test's lines about the dense tasks, with the batch norm that a GPU has, at sizes of a few seconds."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from backbones import create_backbone
from benchmarks.selftest import dense
from benchmarks.selftest.dense import DENSE
from benchmarks.selftest.lines import Bench, Line


@pytest.mark.slow
@pytest.mark.parametrize("line", DENSE, ids=lambda line: line.name)
def test_a_sound_model_passes(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(name: str, *arguments: Any, **options: Any) -> nn.Module:
        return create_backbone("random_vit_tiny", *arguments, **options)

    monkeypatch.setattr("backbones.create_backbone", small)
    monkeypatch.setattr("tasks.segmentation.task.create_backbone", small)
    for place in ("tasks.detection.detector", "tasks.segmentation.task", "tasks.segmentation.segmentor"):
        monkeypatch.setattr(f"{place}.dense_norm", lambda: nn.SyncBatchNorm)
    monkeypatch.setattr(dense, "DETECTOR_SIDE", {"cpu": 64})
    monkeypatch.setattr(dense, "SEGMENTOR_SIDE", {"cpu": 48})
    found = line.run(Bench("cpu", tmp_path, tmp_path))
    assert found.fine, found.measured
    assert 0 < float(found.figures["fp32_gradient_error"] or 0) < 5e-5
