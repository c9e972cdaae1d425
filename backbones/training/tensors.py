"""Tensors in safetensors' format, in the same bytes each time: the library puts what is said of them in any order."""

import json
import struct
from collections.abc import Mapping
from typing import BinaryIO

from safetensors.torch import save
from torch import Tensor

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors on the CPU, each with memory of its own, and what is said of them in the header."""
    content = memoryview(save(dict(tensors), dict(about)))
    (length,) = _LENGTH.unpack_from(content)
    header = json.loads(bytes(content[_LENGTH.size : _LENGTH.size + length]))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(_LENGTH.pack(len(text)) + text)
    file.write(content[_LENGTH.size + length :])
