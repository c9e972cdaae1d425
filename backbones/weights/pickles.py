"""Plain pickles of numpy arrays, as which detectron2's model zoo is published: the numbers, and nothing run.

A pickle may name functions to be called. This reader has stand-ins of its own for what numpy's arrays, data types and
scalars and the built-in containers are rebuilt by, in the spellings of Python 2 and 3 and of numpy 1 and 2; whatever
else a file asks for ends the reading.
"""

import math
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from backbones.errors import InputError
from backbones.weights.unreadable import asks_for_code

_BEGINNING = re.compile(
    rb"\x80[\x02-\x05]|\([dl]p\d+\n|[}\]]q[\x00\x01]|c[\w.]+\n\w+\n"
)  # protocols 2 to 5, 0, 1, 0 and 1
_OF_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save wrote first, before version 1.6
_FEW = 64  # bytes that Python may hold once for all who have the same
_NUMBERS = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16))")


class _Forbidden(pickle.UnpicklingError):
    """What a file asked for that is none of these."""


class _StandIn:
    """A function in the place of a name that a file may ask for. Nothing can be set on it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *given: Any) -> Any:
        return self._make(*given)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes what it is read by")


class _Dictionary(dict[Any, Any]):
    """An OrderedDict, whose attributes are left alone."""

    def __setstate__(self, state: object) -> None:
        pass


class _DataType:
    """numpy's, of numbers alone."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "="
        if not isinstance(self.code, str) or not _NUMBERS.fullmatch(self.code):
            raise pickle.UnpicklingError(f"it has an array of {self.code!r}, and not of numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it has numbers in the byte order {order!r}")
        self.order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        own = np.dtype(self.code)
        return own if self.order in "|=" else own.newbyteorder(self.order)


class _Array:
    """numpy's array, whose state is its shape, its type, whether columns come first, and its bytes."""

    __slots__ = ("tensor",)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, data_type, columns_first, content = state[-4:]
        self.tensor = _tensor(content, data_type, shape, bool(columns_first))


def _tensor(content: Any, data_type: Any, shape: Any, columns_first: bool) -> Tensor:
    """A tensor on the bytes themselves, where their order is the machine's."""
    if not isinstance(data_type, _DataType) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("it has an array without type or shape")
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise pickle.UnpicklingError(f"it has an array of the shape {shape}")
    raw, dtype = _bytes(content), data_type.dtype
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise pickle.UnpicklingError(f"it has {len(raw)} bytes for an array {shape} of {dtype}")
    if len(raw) <= _FEW:
        raw = bytearray(raw)
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if columns_first else "C")
    native = array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # nobody else holds the bytes, so that writing to them does no harm
        return torch.from_numpy(native)


def _bytes(content: Any) -> bytes | bytearray:
    if isinstance(content, str):  # protocols that have no bytes
        return content.encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError(f"it has a {type(content).__name__} in the place of an array's bytes")
    return content


def _encoded(text: Any = b"", encoding: Any = b"latin1") -> bytes | bytearray:
    if _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it has text in the encoding {encoding!r}")
    return _bytes(text)


def _scalar(data_type: Any, content: Any = b"") -> int | float | complex | bool:
    value: int | float | complex | bool = _tensor(content, data_type, (), False).item()
    return value


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(content: Any, data_type: Any, shape: Any, order: Any = "C") -> Tensor:
    return _tensor(content, data_type, shape, _text(order) == "F")


_KNOWN = {
    "numpy.dtype": _DataType,
    "numpy.ndarray": "array",
    **{
        f"numpy.{core}.{name}": make
        for core in ("core", "_core")
        for name, make in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
    "_codecs.encode": _encoded,
    "collections.OrderedDict": _Dictionary,
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)},
    **{f"{module}.{name}": _encoded for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
}


class _Reader(pickle.Unpickler):
    """Python 2's strings stay bytes, so that an array's are not copied."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(f"{module}.{name}")
        if known is None:
            raise _Forbidden(f"{module}.{name}")
        return _StandIn(known) if callable(known) else known


def holds_pickle(path: Path) -> bool:
    """Whether a file is a pickle by itself, of any protocol, and none of torch's own."""
    with path.open("rb") as file:
        start = file.read(64)
    return _BEGINNING.match(start) is not None and not start.startswith(_OF_TORCH)


def read_pickle(path: Path) -> object:
    """What a pickle holds: containers, text and numbers as they are, each array as a tensor.

    An array's bytes are read once and not copied, but for those that Python 3 wrote in a protocol below 3, as text.
    Raises InputError, with what was asked for, if it is to be read by anything else; or if it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _plain(_Reader(file).load())
    except MemoryError:
        raise
    except _Forbidden as error:
        raise InputError(asks_for_code(path, str(error))) from error
    except Exception as error:  # a damaged file can fail anywhere in the reader, with any exception
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise InputError(
            f"{path}: a pickle that cannot be read ({reason}); nothing of it was run. Expected numpy arrays in "
            "dictionaries, as detectron2's model zoo has them. If it is truncated, compare its size with the "
            "original's and copy it again; else save its weights with torch.save or as safetensors."
        ) from error


def _plain(content: Any) -> Any:
    """The same with tensors for arrays, and with text for Python 2's."""
    match content:
        case _Array():
            return content.tensor
        case dict():
            return {_text(key): _plain(value) for key, value in content.items()}
        case list() | tuple():
            return type(content)(_plain(each) for each in content)
        case bytes():
            return _text(content)
    return content


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value
