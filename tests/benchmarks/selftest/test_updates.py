"""The self-test's line about the optimizer: it passes as it stands, and finds what is left out of it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.training.schedule import ScheduleHook
from benchmarks.selftest import updates
from benchmarks.selftest.lines import Bench
from benchmarks.selftest.updates import CASES, TOLERANCE, UPDATES, compare_updates


def test_the_jobs_optimizer_is_what_is_written(tmp_path: Path) -> None:
    (line,) = UPDATES
    found = line.run(Bench("cpu", tmp_path, tmp_path))
    assert found.fine, found.measured
    assert all(0 < float(error or 0) < TOLERANCE / 4 for error in found.figures.values()), found.measured


def _no_decay(group: dict[str, Any]) -> None:
    group["weight_decay"] = 0.0


def _decay_of_all(group: dict[str, Any]) -> None:
    group["weight_decay"] = 0.1


def _no_layers(group: dict[str, Any]) -> None:
    group["lr_scale"] = 1.0


def _one_layer_off(group: dict[str, Any]) -> None:
    group["lr_scale"] = min(1.0, group["lr_scale"] / 0.65)


def _other_betas(group: dict[str, Any]) -> None:
    group["betas"] = (0.9, 0.99)


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.recipe)
@pytest.mark.parametrize("fault", [_no_decay, _decay_of_all, _no_layers, _one_layer_off, _other_betas])
def test_a_setting_of_the_groups_that_is_wrong_is_found(
    fault: Any, case: updates.Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound: Any = updates.make_optimizer

    def wrong(*arguments: Any, **options: Any) -> Any:
        optimizer = sound(*arguments, **options)
        for group in optimizer.optimizer.param_groups:
            fault(group)
        return optimizer

    monkeypatch.setattr(updates, "make_optimizer", wrong)
    assert compare_updates(case, "cpu") > 10 * TOLERANCE


def test_gradients_that_are_not_clipped_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbones.training.precision.PlainOptimWrapper._clip_grad", lambda self: None)
    assert compare_updates(CASES[1], "cpu") > 10 * TOLERANCE


def test_a_rate_that_is_a_hundredth_off_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = ScheduleHook.before_train_iter

    def wrong(self: ScheduleHook, runner: Any, step: int, data_batch: object = None) -> None:
        sound(self, runner, step)
        for group in runner.optim_wrapper.optimizer.param_groups:
            group["lr"] *= 1.01

    monkeypatch.setattr(ScheduleHook, "before_train_iter", wrong)
    assert compare_updates(CASES[0], "cpu") > 10 * TOLERANCE


def test_no_update_at_all_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, closure=None: None)
    assert compare_updates(CASES[0], "cpu") == pytest.approx(1.0)


def test_a_change_that_is_no_number_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(updates, "relative", lambda found, exact: math.nan if found.ndim == 4 else 0.0)
    assert not UPDATES[0].run(Bench("cpu", tmp_path, tmp_path)).fine
