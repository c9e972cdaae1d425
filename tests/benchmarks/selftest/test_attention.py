"""The self-test's lines about attention: they pass as it stands, and find relative positions that are wrong by 1 %."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backbones.adapters import relative_position
from benchmarks.commands import selftest
from benchmarks.selftest import attention
from benchmarks.selftest.attention import ATTENTION
from benchmarks.selftest.lines import Bench, Line
from tests.support.in_process import call
from tests.support.selftest_lines import BY_NAME


@pytest.mark.parametrize("line", ATTENTION, ids=lambda line: line.name)
def test_sound_attention_passes(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SIDE", {"cpu": 272})
    monkeypatch.setattr(attention, "IMAGES", {"cpu": 1})
    found = line.run(Bench("cpu", tmp_path, tmp_path))
    assert found.fine, found.measured
    assert 0 < float(found.figures["fp32_output_error"] or 0) < 2e-6
    assert 1e-4 < float(found.figures["bf16_output_error"] or 0) < 1e-2


@pytest.mark.slow
def test_positions_that_are_wrong_by_a_hundredth_fail_their_line_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [BY_NAME["first"], *ATTENTION[:2], BY_NAME["last"]]
    monkeypatch.setattr(selftest, "LINES", lines)
    monkeypatch.setattr(selftest, "COURSE", "tests.support.broken_positions:" + "LINES")
    monkeypatch.setattr("benchmarks.selftest.course._draw", lambda data: None)
    result = call("doctor", "--train", "--device", "cpu", "--minutes", 5, "--out", tmp_path)
    assert result.exit_code == 1
    assert "3 lines ok, 1 failed: attention-fpn" in result.output.splitlines()


def _last_map_only(q: Tensor, terms: list[Tensor], attend: Any) -> Tensor:
    """Nothing comes of any map but the last."""
    attended = attend(q, terms)
    return torch.cat([torch.zeros_like(attended[:-1]), attended[-1:]])


def _table_learns_from_last_map_only(q: Tensor, terms: list[Tensor], attend: Any) -> Tensor:
    detached = [term.detach() for term in terms]
    return torch.cat([attend(q, detached)[:-1], attend(q, terms)[-1:]])


class _Twice(torch.autograd.Function):
    """What comes in, with twice its gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def _table_learns_twice_in_bfloat16(q: Tensor, terms: list[Tensor], attend: Any) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        terms = [_Twice.apply(term) for term in terms]
    return attend(q, terms)  # type: ignore[no-any-return]


def _plant(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sound: Any = relative_position._attend_rows

    def faulty(q: Tensor, k: Tensor, v: Tensor, terms: list[Tensor], *others: Any) -> Tensor:
        return fault(q, terms, lambda q, terms: sound(q, k, v, terms, *others))  # type: ignore[no-any-return]

    monkeypatch.setattr(relative_position, "_attend_rows", faulty)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Attention goes the way of a GPU, which takes some rows of all maps at a time and computes them again."""
    monkeypatch.setattr(attention, "SIDE", {"cpu": 96})
    monkeypatch.setattr(relative_position, "serves", lambda q, dropout: False)
    monkeypatch.setattr(relative_position, "_on_gpu", lambda q: True)
    monkeypatch.setattr(relative_position, "_MOST_KEPT", 0)
    return Bench("cpu", tmp_path, tmp_path)


@pytest.mark.parametrize("fault", [_last_map_only, _table_learns_from_last_map_only])
def test_a_fault_in_all_maps_but_the_last_is_found(fault: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ATTENTION[2]
    assert line.run(bench).fine
    _plant(fault, monkeypatch)
    found = line.run(bench)
    assert not found.fine
    assert float(found.figures["fp32_worst_gradient_error"] or 0) > 0.2


def test_a_table_that_learns_wrongly_in_half_precision_alone_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all gradients it has a thousandth."""
    _plant(_table_learns_twice_in_bfloat16, monkeypatch)
    found = ATTENTION[2].run(bench)
    assert not found.fine
    assert float(found.figures["fp32_worst_gradient_error"] or 0) < 1e-5
    assert float(found.figures["bf16_gradient_error"] or 0) < 1e-2
    assert found.figures["bf16_worst_parameter"] == "attend.relative_position_bias_table"
