"""`runtime.compile`: a network through torch.compile, for as many sizes of images as a job has."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def compile_network(network: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Have the network compiled when it is called, for each size and number of images apart.

    Left to itself torch makes sizes symbols once a second one comes, at which it fails for the pyramids' remainders.
    Beyond its limit of eight sizes it goes on without compiling. The limit counts what was compiled of a function in
    the whole process, so what earlier runs have left is forgotten.
    """
    torch.compiler.reset()
    network.compile(backend=backend, dynamic=False)
