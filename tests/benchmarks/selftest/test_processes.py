"""The processes of `backbench doctor --train`: who may start it, what they are told, and that none outlives it."""

from pathlib import Path

import pytest

from benchmarks.selftest.worker import Worker
from tests.support.in_process import refusal
from tests.support.selftest_lines import MORE, OF_LAUNCHERS

LINES = "tests.support.selftest_lines:MORE"
BY_NAME = {line.name: line for line in MORE}


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("torchrun", {"WORLD_SIZE": "2", "RANK": "0"}),
        (
            "srun",
            {
                "SLURM_STEP_ID": "0",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": "0",
                "SLURM_LOCALID": "0",
                "SLURM_NODELIST": "a",
            },
        ),
    ],
)
def test_one_of_several_processes_is_refused(
    launcher: str, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    message = refusal("doctor", "--train", "--device", "cpu", "--out", tmp_path / "out")
    assert message.startswith("doctor --train: the self-test starts its own processes. Run it in one, without ")
    assert f" without {launcher}: this is one of 2" in message
    assert not (tmp_path / "out").exists()


def test_jobs_are_not_told_of_the_launcher_of_the_self_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `torchrun --nproc-per-node 1` they would take its place in a job for theirs."""
    for name, value in OF_LAUNCHERS.items():
        monkeypatch.setenv(name, value)
    with Worker(LINES, "cpu", tmp_path / "log") as worker:
        outcome = worker.try_line(BY_NAME["told-of-launcher"], tmp_path, tmp_path, limit=60)
    assert outcome.state == "ok", outcome
