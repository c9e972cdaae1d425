"""numpy's `.npz`, in which Google's code for JAX keeps its weights."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError


def holds_arrays(path: Path) -> bool:
    """Whether a file is an archive of numpy arrays and nothing else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read all arrays by their names; those of Python objects are refused, as reading them would run code."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _tensor(archive[name]) for name in archive.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(
            f"{path}: numpy arrays that cannot be read ({error}). Expected a file of numbers alone, as numpy.savez "
            "writes it; if it is truncated, copy it again."
        ) from error


def _tensor(array: np.ndarray) -> Tensor:
    """The same numbers; two bytes without a type are JAX's bfloat16, which numpy does not know."""
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array)
