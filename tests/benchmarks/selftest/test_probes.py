"""The self-test's line about probes: it passes as they stand, and finds wrong neighbours, heads and regressions."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from benchmarks.selftest import probes
from benchmarks.selftest.lines import Bench
from benchmarks.selftest.probes import PROBES
from tasks.probing import linear_grid, logistic, neighbours


def found_by_the_line(tmp_path: Path) -> Any:
    (line,) = PROBES
    return line.run(Bench("cpu", tmp_path, tmp_path))


def test_probes_pass(tmp_path: Path) -> None:
    found = found_by_the_line(tmp_path)
    assert found.fine, found.measured


def _in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are not compared again."""
    sound: Any = neighbours._cosines
    monkeypatch.setattr(neighbours, "_cosines", lambda *given: sound(*given).float().double())


def _late_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal neighbours the last is taken."""

    def ordered(similarities: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
        indices, order = indices.sort(dim=1, descending=True)
        similarities, best = similarities.gather(1, order).sort(dim=1, descending=True, stable=True)
        return similarities[:, :count], indices.gather(1, best)[:, :count]

    monkeypatch.setattr(neighbours, "_ordered", ordered)


def _heads_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first training, the device's, has another momentum."""
    sound, calls = linear_grid.train, []

    def train(*given: Any) -> Any:
        calls.append(given)
        monkeypatch.setattr(linear_grid, "MOMENTUM", 0.9 if len(calls) > 1 else 0.899)
        return sound(*given)

    monkeypatch.setattr(probes.linear_grid, "train", train)


def _regression_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first solution, the device's, has a larger penalty."""
    sound, calls = logistic.solve, []

    def solve(features: Tensor, targets: Tensor, classes: int, strengths: Any) -> Any:
        calls.append(features)
        return sound(features, targets, classes, strengths if len(calls) > 1 else [0.999 * each for each in strengths])

    monkeypatch.setattr(probes.logistic, "solve", solve)


@pytest.mark.parametrize("fault", [_in_single_precision, _late_ones_first, _heads_off, _regression_off])
def test_a_planted_fault_is_found(fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert not found_by_the_line(tmp_path).fine
