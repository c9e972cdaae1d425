"""Reading files of weights: safely, or not at all.

PyTorch's own (`torch.save`, restricted to weights), safetensors, numpy's `.npz`, plain pickles of numpy's arrays, and
TorchScript, whose code is left alone. None can run code.
"""

import argparse
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.arrays import holds_arrays, read_arrays
from backbones.weights.directories import Located, read_index
from backbones.weights.distributed import Choice, read_distributed
from backbones.weights.pickles import holds_pickle, read_pickle
from backbones.weights.programs import holds_program, read_program
from backbones.weights.unreadable import require_file, why_unreadable

LONGEST_TEXT = 60
"""Characters of what is told of a value beside weights."""

Kind = Literal["torch", "safetensors", "distributed", "numpy", "pickle", "torchscript"]


class _Unread:
    """Stands in for an object that accompanies weights but is not needed: nothing of the original is called."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


# Training scripts store their settings and statistics beside the weights. `argparse.Namespace` (MAE, DINO, BEiT, DeiT)
# is a bare bag of attributes and is read as it is. The rest is never built: numpy's scalars and arrays (best accuracy,
# random states), paths (settings), and mmengine's log history, which refers to its methods through `getattr`.
_TOLERATED = (
    "builtins.getattr",
    "builtins.slice",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
)


def read_files(located: Located, choose: Choice | None = None) -> tuple[Kind, object, dict[str, str]]:
    """Return how files are packed, what is in them, and what they say beside the weights, abridged.

    Of a distributed checkpoint, which cannot be mapped, only what `choose` names is read. Raises what that does,
    InputError as `read_file` does, and for files that do not belong together.
    """
    if located.layout == "distributed":
        tensors, extras = read_distributed(located.main.parent, choose)
        return "distributed", tensors, extras
    return _read_shards(located.main) if located.layout == "shards" else read_file(located.main)


def read_file(path: Path) -> tuple[Kind, object, dict[str, str]]:
    """Return how a file is packed, what is in it, and what a safetensors header says beside the weights, abridged.

    Raises InputError, with what to do, for anything that is no such file: text, truncated, a pickle that asks for code
    to be run.
    """
    if _starts_like_safetensors(path):
        return "safetensors", _read_safetensors(path), _safetensors_metadata(path)
    if holds_arrays(path):
        return "numpy", read_arrays(path), {}
    if holds_program(path):
        return "torchscript", read_program(path), {}
    if holds_pickle(path):
        return "pickle", read_pickle(path), {}
    return "torch", _read_torch(path), {}


def _read_shards(index: Path) -> tuple[Kind, dict[str, Tensor], dict[str, str]]:
    """All tensors that an index lists, in its order."""
    held = read_index(index)
    kinds: set[Kind] = set()
    tensors: dict[str, Tensor] = {}
    extras: dict[str, str] = {}
    for name in sorted(set(held.values())):
        path = index.with_name(name)
        require_file(path, alone=False)
        kind, content, metadata = read_file(path)
        wanted = [tensor for tensor, file in held.items() if file == name]
        lacking = [
            tensor
            for tensor in wanted
            if not isinstance(content, Mapping) or not isinstance(content.get(tensor), Tensor)
        ]
        if lacking:
            raise InputError(
                f"{path}: has {len(lacking)} of the {len(wanted)} tensors not that {index.name} says are in it, such "
                f"as {lacking[0]}. Index and files are of two downloads: fetch all of them again."
            )
        assert isinstance(content, Mapping)
        tensors |= {tensor: content[tensor] for tensor in wanted}
        extras |= metadata
        kinds.add(kind)
    return ("torch" if "torch" in kinds else "safetensors"), {name: tensors[name] for name in held}, extras


def _starts_like_safetensors(path: Path) -> bool:
    """Whether the file opens with the length of a JSON header and that header's brace (safetensors' format)."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < 100_000_000


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: a safetensors file that cannot be read ({error}). It is probably truncated: "
            "compare its size with the original's and copy it again."
        ) from error


def _safetensors_metadata(path: Path) -> dict[str, str]:
    """What the writer put into the file's header, but for the name of the framework."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return {key: abridge(value) for key, value in metadata.items() if key != "format"}


def _read_torch(path: Path) -> object:
    """Read a `torch.save` file, old or new, restricted to tensors, plain containers and the tolerated rest."""
    with path.open("rb") as file:
        mappable = file.read(4) == b"PK\x03\x04"  # the format before PyTorch 1.6 is a stream, which can't be mapped
    misnamed = path.suffix == ".safetensors"  # torch.load goes by that name, but not if it is given an open file
    allowed: list[Any] = [argparse.Namespace, *((_Unread, name) for name in _TOLERATED), *_numpy_dtype_classes()]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            source = file if misnamed else path
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mappable and not misnamed)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in torch's reader, with any exception
        raise InputError(why_unreadable(path, error)) from error


def _numpy_dtype_classes() -> list[tuple[type, str]]:
    names = ("Bool", "Int32", "Int64", "UInt32", "Float32", "Float64")
    return [(_Unread, f"numpy.dtypes.{name}DType") for name in names]


def abridge(value: object) -> str:
    """Say in at most `LONGEST_TEXT` characters what a value is; three numbers, one a channel, are kept as they are."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(each, int | float) for each in value):
        return str(list(value))
    if isinstance(value, Mapping | list | tuple | set):
        return f"{type(value).__name__.replace('OrderedDict', 'dict')} of {len(value)}"
    if isinstance(value, _Unread):
        return "not read"
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
