"""What the first process of an evaluation tells the others: what to do, and no weights, which each reads for itself."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from benchmarks.running import evaluating
from tests.support.small_classifiers import MAE


class _WithoutTensors(pickle.Pickler):
    def persistent_id(self, given: object) -> None:
        assert not isinstance(given, Tensor)


def test_no_weights_travel(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def decide(decision: Callable[[], object]) -> object:
        told.append(decision())
        _WithoutTensors(io.BytesIO()).dump(told[-1])
        return told[-1]

    monkeypatch.setattr(evaluating, "first_decides", decide)
    weights, _ = MAE.write(tmp_path)
    settings = ["runtime.device=cpu", "runtime.workers=0", "precision=fp32"]
    evaluating.run_evaluation(
        *("mini_classification", mini, weights, tmp_path / "out"), overrides=settings, backbone=MAE.backbone, limit=4
    )
    assert len(told) == 2  # the cell, and that it has finished
