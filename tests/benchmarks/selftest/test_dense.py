"""The self-test's lines about the dense tasks, with the batch norm that a GPU has, at sizes of a few seconds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling.proposal_generator import RPN
from torch import Tensor, nn
from torch.nn import functional

from backbones import create_backbone
from benchmarks.selftest import dense
from benchmarks.selftest.dense import DENSE
from benchmarks.selftest.lines import Bench, Line
from tasks.segmentation import segmentor

DETECTOR, _, SEGMENTOR = DENSE


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where the lines try small models on small images."""

    def small(name: str, *arguments: Any, **options: Any) -> nn.Module:
        return create_backbone("random_vit_tiny", *arguments, **options)

    monkeypatch.setattr("backbones.create_backbone", small)
    monkeypatch.setattr("tasks.segmentation.task.create_backbone", small)
    for place in ("tasks.detection.detector", "tasks.segmentation.task", "tasks.segmentation.segmentor"):
        monkeypatch.setattr(f"{place}.dense_norm", lambda: nn.SyncBatchNorm)
    monkeypatch.setattr(dense, "DETECTOR_SIDE", {"cpu": 64})
    monkeypatch.setattr(dense, "SEGMENTOR_SIDE", {"cpu": 48})
    torch.manual_seed(0)
    return Bench("cpu", tmp_path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("line", DENSE, ids=lambda line: line.name)
def test_a_sound_model_passes(line: Line, bench: Bench) -> None:
    found = line.run(bench)
    assert found.fine, found.measured
    assert 0 < float(found.figures["fp32_gradient_error"] or 0) < 5e-5


@pytest.mark.slow
def test_losses_of_region_proposals_that_are_off_by_a_hundredth_are_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device's are in single precision, beside which double precision is sound."""
    sound: Any = RPN.losses

    def wrong(self: RPN, anchors: Any, logits: list[Tensor], *others: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = sound(self, anchors, logits, *others)
        share = 1.0 if logits[0].dtype == torch.float64 else 1.01
        return losses | {"loss_rpn_loc": share * losses["loss_rpn_loc"]}

    monkeypatch.setattr(RPN, "losses", wrong)
    found = DETECTOR.run(bench)
    assert not found.fine
    assert "proposal_generator" in str(found.figures["fp32_worst_parameter"])


def _count_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def accuracy(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
        return 100 * (logits.argmax(1) == labels).float().mean()[None]

    monkeypatch.setattr("tasks.segmentation.heads.pixel_accuracy", accuracy)


def _learn_from_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    sound: Any = functional.cross_entropy

    def wrong(logits: Tensor, labels: Tensor, ignore_index: int, **others: Any) -> Tensor:
        if logits.dtype == torch.float32:
            labels = labels.where(labels != ignore_index, 0)
        return sound(logits, labels, ignore_index=ignore_index, **others)  # type: ignore[no-any-return]

    monkeypatch.setattr(functional, "cross_entropy", wrong)


def _enlarge_maxima(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a hundredth, in single precision; gradients are compared with averages in their place."""
    sound: Any = nn.MaxPool2d.forward
    share = {torch.float32: 1.01}
    monkeypatch.setattr(nn.MaxPool2d, "forward", lambda self, x: sound(self, x) * share.get(x.dtype, 1.0))


def _keep_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    sound: Any = segmentor._padding

    def wrong(images: Tensor, *sizes: Tensor) -> Tensor:
        calls.append(None)
        return sound(images, *sizes) & (len(calls) % 2 == 0)  # type: ignore[no-any-return]

    monkeypatch.setattr(segmentor, "_padding", wrong)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [_count_ignored, _learn_from_ignored, _enlarge_maxima, _keep_padding])
def test_ignored_pixels_that_count_wrong_maxima_and_padding_that_stays_are_found(
    fault: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    assert not SEGMENTOR.run(bench).fine
