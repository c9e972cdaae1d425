"""Reading a checkpoint file: safely, or not at all.

Three formats are read: PyTorch's own (`torch.save`, restricted to weights), safetensors and numpy's `.npz`. None can
run code.
What the file holds beside the weights is kept as short strings, for people to read.
"""

import argparse
import hashlib
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.arrays import holds_arrays, read_arrays
from backbones.weights.unreadable import require_file, why_unreadable

# Where published files keep their weights, in the order of preference: MAE, BEiT, DeiT and our own; MoCo v3, mmengine
# and timm; DINO (whose teacher is the network to use); I-JEPA; torch.distributed wrappers.
CONTAINERS = (
    "model",
    "state_dict",
    "model_state",
    "teacher",
    "student",
    "target_encoder",
    "encoder",
    "module",
    "backbone",
)

Kind = Literal["torch", "safetensors", "numpy"]


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file, under the names that the file gives them.

    path:       the file, as given
    sha256:     of the whole file, 64 hexadecimal digits
    size:       bytes
    kind:       how the file is packed
    container:  the entry that held the weights ("model", "state_dict", "model.state_dict"), "" for the file itself
    state_dict: tensors on the CPU, mapped from the file where its format allows, so that unread ones cost nothing
    extras:     what else lay in the file, abridged ("epoch" → "799", "optimizer" → "dict of 2")
    """

    path: Path
    sha256: str
    size: int
    kind: Kind
    container: str
    state_dict: dict[str, Tensor]
    extras: dict[str, str]

    @property
    def parameters(self) -> int:
        """How many numbers all its tensors hold together."""
        return sum(tensor.numel() for tensor in self.state_dict.values())

    @cached_property
    def md5(self) -> str:
        """Of the whole file, 32 hexadecimal digits: some pages print nothing else. Empty if the file is gone."""
        if not self.path.is_file():
            return ""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the patches that the position embeddings were made for, where the file says: "6×6"."""
        stated = re.fullmatch(r"\D*(\d+)\D+(\d+)\D*", self.extras.get("grid", ""))
        return (int(stated[1]), int(stated[2])) if stated else None


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


def read_checkpoint(path: str | Path, sha256: str | None = None) -> Checkpoint:
    """Read the weights in a file without running anything that it contains.

    Accepts `torch.save` files, old and new, safetensors and `.npz`; finds the weights inside the containers of the
    common code bases. Raises InputError, with what to do, for anything that is not such a file: missing, a directory,
    empty, text, truncated, without tensors, or a pickle that asks for code to be run. `sha256` is the file's, where
    that is known.
    """
    path = Path(path)
    require_file(path)
    kind, content = _read(path)
    container, state_dict, extras = _find_weights(path, content)
    if kind == "safetensors":
        extras |= _safetensors_metadata(path)
    return Checkpoint(path, sha256 or file_sha256(path), path.stat().st_size, kind, container, state_dict, extras)


def _read(path: Path) -> tuple[Kind, object]:
    """How a file is packed, and what is in it."""
    if _starts_like_safetensors(path):
        return "safetensors", _read_safetensors(path)
    return ("numpy", read_arrays(path)) if holds_arrays(path) else ("torch", _read_torch(path))


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    return {key: _abridge(value) for key, value in metadata.items() if key != "format"}


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


def _find_weights(path: Path, content: object) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Follow the containers inwards to the dictionary that holds tensors; abridge what else they hold."""
    names: list[str] = []
    extras: dict[str, str] = {}
    while isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        inner = next((name for name in CONTAINERS if _holds_weights(content.get(name))), None)
        others = {str(key): value for key, value in content.items() if key != inner and key not in tensors}
        if tensors and inner is None:
            extras.update({key: _abridge(value) for key, value in others.items()})
            if bad := [key for key in tensors if not isinstance(key, str)]:
                raise InputError(f"{path}: its tensors are not named: {bad[:3]}. Expected a model's state_dict().")
            return ".".join(names), {str(key): value.detach() for key, value in tensors.items()}, extras
        if inner is None:
            break
        extras.update({key: _abridge(value) for key, value in others.items()})
        extras.update({str(key): _abridge(value) for key, value in tensors.items()})
        names.append(inner)
        content = content[inner]
    raise InputError(
        f"{path}: no weights found in it, but {_abridge(content)}{_entries(content)}. Expected a model's state_dict(), "
        f"by itself or under one of {', '.join(CONTAINERS)}."
    )


def _holds_weights(content: object) -> bool:
    """Whether there are tensors in it, by themselves or in a container: a model's settings have its name too."""
    return isinstance(content, Mapping) and (
        any(isinstance(value, Tensor) for value in content.values())
        or any(_holds_weights(content.get(name)) for name in CONTAINERS)
    )


def _entries(content: object) -> str:
    """Name the first entries of a dictionary."""
    return f" ({', '.join(str(key) for key in list(content)[:8])})" if isinstance(content, Mapping) and content else ""


def _abridge(value: object) -> str:
    """Say in at most 60 characters what a value is; three numbers, one a channel, are kept as they are."""
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
    return text if len(text) <= 60 else text[:59] + "…"
