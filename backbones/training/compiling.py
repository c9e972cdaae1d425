"""`runtime.compile`: a network through torch.compile, for as many sizes of images as a job has."""

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backbones.errors import InputError

_KEY = 'key "runtime.compile"'


def require_compiler(device: str) -> None:
    """Raise InputError where there is nothing to compile with: torch writes C++, triton C, for Python's headers.

    Which compilers they look for is as `torch._inductor.config` and `triton.runtime.build` have it.

    device: "cuda" or "cpu"
    """
    language, variable, compilers = (
        ("C", "CC", ("gcc", "clang"))
        if device == "cuda"
        else ("C++", "CXX", ("clang++" if sys.platform == "darwin" else "g++",))
    )
    if given := os.environ.get(variable):
        compilers = (shlex.split(given)[0],)
    if not any(map(shutil.which, compilers)):
        whose = f", which the variable {variable} names" if given else ""
        raise InputError(
            f"{_KEY}: torch.compile needs a {language} compiler, and finds no {' and no '.join(compilers)}{whose}. "
            f"Install {'one' if given else compilers[0]} or leave it at false"
        )
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise InputError(
            f"{_KEY}: torch.compile needs Python's headers, and finds no Python.h. Install them (Debian's python3-dev) "
            "or leave it at false"
        )
    if device == "cuda" and find_spec("triton") is None:
        raise InputError(f"{_KEY}: torch.compile needs triton on a GPU. Install it or leave it at false")


def compile_network(network: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Have the network compiled when it is called, for each size and number of images apart.

    Left to itself torch makes sizes symbols once a second one comes, at which it fails for the pyramids' remainders.
    Beyond its limit of eight sizes it goes on without compiling. The limit counts what was compiled of a function in
    the whole process, so what earlier runs have left is forgotten.
    """
    torch.compiler.reset()
    network.compile(backend=backend, dynamic=False)
