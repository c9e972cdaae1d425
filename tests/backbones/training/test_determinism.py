"""`runtime.deterministic`: in force during a run and not after it, and what cannot keep to it is named."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.training import determinism, machine
from backbones.training.determinism import in_fixed_order
from backbones.training.job import Job, run_job
from backbones.training.machine import CUBLAS_WORKSPACE, choose_device
from tests.support.points_runs import Points, recipe

Flags = tuple[bool, bool, bool, bool]


def flags() -> Flags:
    cudnn = torch.backends.cudnn
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.are_deterministic_algorithms_enabled(), only_warns, cudnn.deterministic, cudnn.benchmark


class Regression(BaseModel):
    """Remembers the flags of its steps; can be made of an operator that has no deterministic implementation."""

    def __init__(self, unordered: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Linear(6, 1)
        self.unordered, self.seen = unordered, set[Flags]()

    def forward(self, points: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        self.seen.add(flags())
        if self.unordered:
            torch.zeros(4).put_(torch.tensor([1, 1]), torch.ones(2))
        return {"loss": (self.network(points)[:, 0] - points.sum(1)).square().mean()}


def train(directory: Path, model: Regression, deterministic: bool) -> None:
    groups = [{"params": [*model.network.parameters()]}]
    settings = recipe(runtime={"deterministic": deterministic})
    run_job(Job(model, Points(), groups, settings, directory, seed=0, title="test"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":4096:8")


def test_the_flags_are_on_during_the_run_alone_and_change_no_number_on_a_cpu(tmp_path: Path) -> None:
    before, ordered, free = flags(), Regression(), Regression()
    train(tmp_path / "ordered", ordered, deterministic=True)
    assert ordered.seen == {(True, False, True, False)} and flags() == before
    train(tmp_path / "free", free, deterministic=False)
    assert free.seen == {before} and before[0] is False
    assert all(torch.equal(*pair) for pair in zip(ordered.parameters(), free.parameters(), strict=True))


def test_what_cannot_add_in_order_is_named_and_the_flags_are_put_back(tmp_path: Path) -> None:
    before = flags()
    with pytest.raises(InputError, match=r'"runtime.deterministic": PyTorch .* has no put_ that adds in a fixed order'):
        train(tmp_path, Regression(unordered=True), deterministic=True)
    assert flags() == before
    train(tmp_path, Regression(unordered=True), deterministic=False)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), in_fixed_order(True):
        raise RuntimeError("CUDA out of memory")


def test_a_workspace_that_the_environment_sets_otherwise_is_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":4096:2")
    with in_fixed_order(True):
        pass  # on a processor it does not matter
    monkeypatch.setattr(determinism, "device_type", lambda: "cuda")
    with (
        pytest.raises(InputError, match=f"{CUBLAS_WORKSPACE}=:4096:2, .* or set it to :4096:8 or :16:8"),
        in_fixed_order(True),
    ):
        pass


def test_the_workspace_is_chosen_before_the_first_product_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first run does not ask for a fixed order: cuBLAS reads it once."""
    monkeypatch.delenv(CUBLAS_WORKSPACE)
    monkeypatch.setattr(machine, "_chosen", "auto")
    choose_device("cpu")
    assert CUBLAS_WORKSPACE not in os.environ
    choose_device("auto")
    assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"
