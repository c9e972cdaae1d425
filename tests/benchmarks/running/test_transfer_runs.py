"""The five sets of the third table, each fine-tuned on its generated counterpart, killed twice, and in the table."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.mini import TRANSFER_SETS, write_transfer_set
from tests.support.commands import Moment, read_record, run_arguments
from tests.support.in_process import success
from tests.support.resuming import LOG, WRITE, assert_same_result, finish, finish_killed

SETTINGS: dict[str, Any] = {
    "optimizer__batch_size": 16,
    "schedule__epochs": 3,
    "schedule__warmup_epochs": 1,
    "augment__mixup": 0.8,
    "runtime__checkpoint_every": 2,
    "runtime__log_every": 1,
    "runtime__workers": 0,
    "precision": "fp32",
}
"""Nine updates of 48 images."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_a_killed_run_ends_the_same_and_stands_in_the_table(name: str, tmp_path: Path) -> None:
    data = tmp_path / name
    write_transfer_set(data, name, train=48, val=32)
    reference, out = tmp_path / "whole/runs", tmp_path / "killed/runs"
    whole, killed = (run_arguments(data, each, dataset=name, **SETTINGS) for each in (reference, out))
    finish(whole, reference)
    finish_killed(killed, out, [Moment(LOG, 3), Moment(WRITE, 2)])
    assert_same_result(out, reference)
    record = read_record(out)
    assert (record["table"], record["dataset"]) == ("transfer", f"mini-{name}")
    assert f"recorded as data set mini-{name} (48 training images and 32 to evaluate on" in record["notes"][0]
    shown = success("table", out, "--layout", "transfer").output
    assert shown.startswith(f"### mini-{name}: top-1 accuracy in %\n") and "| random " in shown
