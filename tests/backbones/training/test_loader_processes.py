"""The processes that load images, beside the one that trains."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import torch

from backbones.training.runner import _loader


class Signalled(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Whoever reads it gets the signals that schedulers send; its samples are the process's group."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        return {"group": torch.tensor(os.getpgrp())}


def test_a_loader_process_outlives_signals_to_the_whole_job() -> None:
    """The run was stopped by "DataLoader worker is killed by signal: Terminated", unsaved, instead."""
    recipe: Any = SimpleNamespace(runtime=SimpleNamespace(workers=1))
    groups = torch.cat([batch["group"] for batch in _loader(Signalled(), recipe, None, batch_size=2)])
    assert len(groups) == 4 and len(groups.unique()) == 1 and groups[0] != os.getpgrp()


def test_a_loader_process_ends_when_its_parent_says_so() -> None:
    """Perhaps again: a signal that waits swallows the next of its kind, and this process sends itself some."""
    recipe: Any = SimpleNamespace(runtime=SimpleNamespace(workers=1))
    batches: Any = iter(_loader(Signalled(), recipe, None, batch_size=1))
    next(batches)
    (process,) = batches._workers
    for _ in range(30):
        process.terminate()
        process.join(1)
        if process.exitcode is not None:
            break
    assert process.exitcode == 0
