"""Two processes of one job that take each other for two machines."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from backbones.errors import FirstFailedError, InputError
from tests.support.commands import call_command, ends_of, processes


def _in_one(rank: int, directory: Path, do: Callable[[int, Path], object]) -> None:
    torch.set_num_threads(1)  # the parent's threads are not in a fork
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    socket.gethostname = lambda: f"node{rank}"
    store = torch.distributed.FileStore(str(directory / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        found = do(rank, directory)
    except (KeyboardInterrupt, InputError, FirstFailedError) as error:
        found = f"{type(error).__name__}: {error}"
    torch.save(found, directory / f"{rank}.pth")
    torch.distributed.destroy_process_group()


def in_two(directory: Path, do: Callable[[int, Path], object]) -> list[Any]:
    """What `do` gives, called with the rank and the directory, or its error in words, in each of the two."""
    (directory / "store").unlink(missing_ok=True)
    torch.multiprocessing.start_processes(_in_one, (directory, do), nprocs=2, start_method="fork")
    return [torch.load(directory / f"{rank}.pth") for rank in range(2)]


def _command_in_one(rank: int, environment: dict[str, str], place: Path, arguments: list[str], output: Path) -> None:
    os.chdir(place)
    os.environ.update(environment)  # the server's is that of the first test that asked it for a process
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    socket.gethostname = lambda: f"node{rank}"
    call_command(arguments, output)


def backbench_in_two(arguments: list[str], places: list[Path], output: Path) -> list[int]:
    """Run a command in both, each of which is in a folder of its own; their exit statuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    pair = [
        processes.Process(target=_command_in_one, args=(rank, environment, place, arguments, output))
        for rank, place in enumerate(places)
    ]
    return ends_of(pair, output)
