"""The self-test's lines about whole jobs: killed and resumed, run twice, to their ends beside known numbers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mini import write_mini
from benchmarks.selftest import mini_jobs
from benchmarks.selftest.course import IMAGES
from benchmarks.selftest.jobs import Apart, Call, compare, kill_at, run_all
from benchmarks.selftest.lines import Bench
from benchmarks.selftest.mini_jobs import KNOWN
from benchmarks.selftest.resuming import CLASSIFICATION, PRETRAINING, RESUMING, Task, _judged, losses_after
from tests.support.in_process import run, success

EQUAL = Apart(tensors=(0, 9), weights=0.0, loss=0.0, updates=24, points=0.0)
UNEQUAL = Apart(tensors=(3, 9), weights=1e-6, loss=2e-5, updates=7, points=0.25)


def test_what_tells_two_runs_apart_is_measured(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_mini(data, **dict.fromkeys(IMAGES, 16) | {"train": 32}, processes=1)
    for name, changes in (("a", {}), ("b", {}), ("c", {"optimizer__weight_decay": 0.1})):
        success(*run(data, tmp_path / name, **changes, runtime__log_every=1, precision="fp32"))
    assert compare(tmp_path / "a", tmp_path / "b").is_nothing
    apart = compare(tmp_path / "a", tmp_path / "c")
    assert not apart.is_nothing
    assert 0 < apart.tensors[0] <= apart.tensors[1] and 0 < apart.weights < 0.1


def test_without_determinism_a_gpus_difference_is_only_told() -> None:
    found = _judged(
        {"as it is": UNEQUAL, "deterministic": EQUAL},
        {"as it is": UNEQUAL, "deterministic": EQUAL},
        {"as it is": 200.0, "deterministic": 160.0},
        "deterministic",
    )
    assert found.fine
    told = "weights 1.0e-06, loss 2.0e-05 (same up to update 7), 0.25 points"
    assert found.measured == (
        f"as it is: run again {told}, killed and resumed {told}; deterministic: run again equal bit for bit, "
        "killed and resumed equal bit for bit; deterministic 1.25 × the time, side by side"
    )
    assert (found.figures["as_it_is_resumed_weight_difference"], found.figures["deterministic_resumed_equal"]) == (
        1e-6,
        True,
    )


@pytest.mark.parametrize(
    ("again", "resumed"), [(EQUAL, UNEQUAL), (UNEQUAL, EQUAL)], ids=["resumed otherwise", "not repeatable"]
)
def test_with_determinism_a_difference_is_a_failure(again: Apart, resumed: Apart) -> None:
    speeds = {"as it is": 1.0, "deterministic": 1.0}
    fine = {"as it is": EQUAL, "deterministic": EQUAL}
    assert not _judged(fine | {"deterministic": again}, fine | {"deterministic": resumed}, speeds, "deterministic").fine
    assert not _judged({"as it is": again}, {"as it is": resumed}, {"as it is": 1.0}, "as it is").fine


@pytest.mark.parametrize(("loss", "fine"), [(2.0001, True), (2.02, False), (float("nan"), False)])
def test_where_a_gpu_has_no_fixed_order_the_first_loss_after_a_resume_is_held_to(loss: float, fine: bool) -> None:
    """Later ones drift apart by chance: 30 times as far as two runs left alone was any distance at all."""
    found = _judged({"as it is": UNEQUAL}, {"as it is": UNEQUAL}, {"as it is": 1.0}, None, (2.0, loss))
    assert found.fine == fine
    assert "first loss after a resume off by 0.0001 at most" in found.expected


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(
            replace(CLASSIFICATION, changes=("schedule.epochs=4", "schedule.warmup_epochs=1")), marks=pytest.mark.slow
        ),
        replace(PRETRAINING, changes=("schedule.epochs=4", "schedule.warmup_epochs=1", "optimizer.batch_size=16")),
    ],
    ids=lambda task: task.recipe,
)
@pytest.mark.slow
def test_a_copy_of_a_finished_job_goes_on_from_its_checkpoint(task: Task, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_mini(data, **dict.fromkeys(IMAGES, 16) | {"train": 32}, processes=1)
    task = replace(task, checkpoint="iteration_2.pth")
    first = task.call(Bench("cpu", tmp_path, data), tmp_path / "first")
    run_all([first], 1)
    before, after = losses_after(task.checkpoint, first, 1)
    assert before == after
    rewound = tmp_path / "first-rewound"
    assert "from update 2" in rewound.with_name("first-rewound.log").read_text()
    assert compare(first.out, rewound).is_nothing


def test_one_job_is_in_half_precision_on_a_gpu_and_none_on_a_cpu(tmp_path: Path) -> None:
    """In fp16 where a GPU lacks bf16, as the report's first line says: `auto`."""
    half = {
        device: [
            task.recipe
            for task in (PRETRAINING, CLASSIFICATION)
            if "precision=auto" in task.call(Bench(device, tmp_path, tmp_path), tmp_path).arguments
        ]
        for device in ("cuda", "cpu")
    }
    assert half == {"cuda": ["mini_classification"], "cpu": []}


def test_a_job_that_ends_before_it_can_be_killed_is_an_error(tmp_path: Path) -> None:
    call = Call(("list",), tmp_path / "out")
    process = subprocess.Popen([sys.executable, "-c", ""])
    with pytest.raises(RuntimeError, match=r"out ended before it wrote iteration_3\.pth"):
        kill_at({call: process}, "iteration_3.pth")


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"run --recipe nothing ended with 2: .*nothing"):
        run_all([Call(("run", "--recipe", "nothing", "--data", ".", "--backbone", "b"), tmp_path / "out")], 1)


def test_metrics_below_what_a_device_has_to_come_to_are_a_failure() -> None:
    known = {recipe: {name: one.seen[0] for name, one in of.items()} for recipe, of in KNOWN.items()}
    assert mini_jobs.judged(known, 0.35).fine
    for recipe, of in KNOWN.items():
        for name, one in of.items():
            found = mini_jobs.judged(known | {recipe: known[recipe] | {name: one.least - 0.1}}, 0.35)
            assert not found.fine and f"{name} {one.least - 0.1:.1f}" in found.measured
            assert found.measured.endswith("loss 0.350") and found.figures["reconstruction_loss"] == 0.35


@pytest.mark.slow
@pytest.mark.parametrize("line", RESUMING, ids=lambda line: line.name)
def test_on_a_cpu_all_are_equal(line: object, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_mini(data, **IMAGES)
    (found,) = [each.run(Bench("cpu", tmp_path / "scratch", data)) for each in RESUMING if each is line]
    assert found.fine, found.measured
    assert found.figures["as_it_is_resumed_tensors_unequal"] == 0
