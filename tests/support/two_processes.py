"""Two processes of one job that meet as under a launcher, to do something within `together`; how they end."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from tests.support.commands import ends_of, processes


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _become(rank: int, variables: Mapping[str, str], output: Path, work: Callable[..., object], given: Any) -> None:
    import torch

    from backbones.training.machine import choose_device
    from benchmarks.commands.statuses import Commands

    with output.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2", **variables)
    choose_device("cpu")
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    app.command("work")(lambda: work(rank, *given))
    app(["work"])


def end_of_two(work: Callable[..., object], output: Path, *given: object, **variables: str) -> list[int]:
    """The exit statuses of two processes, in which a command calls `work` with their rank and what is given."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} | variables
    pair = [processes.Process(target=_become, args=(rank, meeting, output, work, given)) for rank in range(2)]
    return ends_of(pair, output)
