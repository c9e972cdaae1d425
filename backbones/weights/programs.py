"""TorchScript programs, as which OpenAI releases CLIP: their weights, without the program.

The archive's `data.pkl` is the tree of modules. It is unpickled with nothing but dictionaries, lists, tensors and a
bare bag of attributes for every module; the code beside it is not looked at.
"""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.errors import InputError

_TREE, _CODE = "/data.pkl", "/constants.pkl"

_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}


class _Module:
    """Stands in for every class of modules: its attributes are set, and nothing of it is called."""


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(root + _TREE))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle":
            return _first
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of a tree of modules")

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of one storage: ("storage", its type, its key, its device, their count)."""
        _, dtype, key, _, count = pid
        content = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        return torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _view(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


def holds_program(path: Path) -> bool:
    """Whether a file is an archive of TorchScript."""
    return _root(path) is not None


def _root(path: Path) -> str | None:
    """The folder in the archive that holds all of it; None for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return None
    roots = [name.removesuffix(_CODE) for name in names if name.endswith(_CODE)]
    return next((root for root in roots if root + _TREE in names), None)


def read_program(path: Path) -> dict[str, Tensor]:
    """Read the parameters and buffers of a program, by the names of its state_dict.

    Raises InputError if its tree of modules holds anything else than modules, tensors and plain values.
    """
    root = _root(path)
    assert root is not None
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_tensors(_Reader(archive, root).load(), ""))
    except Exception as error:  # a damaged archive can fail anywhere, with any exception
        raise InputError(
            f"{path}: a TorchScript program whose weights cannot be read ({error}); nothing of it was run. If it is "
            "truncated, copy it again; else save the model's state_dict() where it is at home."
        ) from error


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
