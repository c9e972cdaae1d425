"""Several processes that are killed and go on train as those that nobody killed."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.training.job import Job, run_job
from tests.support.points_runs import KilledAt, KilledError, Points, recipe

PROCESSES = 3
"""Of two, each number is the sum of two others, in whatever order they are added."""


class Summed(BaseModel):
    """Predict the sum of a point's coordinates."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        layers = [part for _ in range(4) for part in (nn.Linear(32, 32), nn.GELU())]
        self.network = nn.Sequential(nn.Linear(6, 32), *layers, nn.Linear(32, 1))

    def forward(self, points: Tensor, mode: str, **about: object) -> Any:
        return {"loss": (self.network(points)[:, 0] - points.sum(1)).square().mean()}


def train(directory: Path, *hooks: Hook) -> list[Tensor]:
    """The weights at the end."""
    model, runtime = Summed(), {"checkpoint_every": 3}
    groups = [{"params": list(model.parameters())}]
    settings = recipe(runtime=runtime, optimizer={"base_lr": 0.5})
    run_job(Job(model, Points(), groups, settings, directory, 0, "test", hooks=hooks))
    return [weight.detach() for weight in model.parameters()]


def train_in_one(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)  # the parent's threads are not in a fork
    number, count = str(rank), str(PROCESSES)
    os.environ.update(WORLD_SIZE=count, RANK=number, LOCAL_RANK=number, LOCAL_WORLD_SIZE=count)
    store = torch.distributed.FileStore(str(directory / "store"), PROCESSES)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    whole = train(directory / "whole")
    with pytest.raises(KilledError):
        train(directory / "killed", KilledAt(5))
    resumed = train(directory / "killed")
    assert all(map(torch.equal, resumed, whole))
    torch.distributed.destroy_process_group()


def test_processes_that_were_killed_end_with_the_same_weights(tmp_path: Path) -> None:
    """DistributedDataParallel orders gradients anew after its first step, and what lies elsewhere is added in another
    order: the step after a resume was another one."""
    torch.multiprocessing.start_processes(train_in_one, (tmp_path,), nprocs=PROCESSES, start_method="fork")
