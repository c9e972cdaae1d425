"""A million small things in two arrays, which forked processes share.

Of a list of objects each loader process soon has a copy: whoever looks at one counts its references, which writes to
its page. Arrays can also be mapped from a file, which all processes of a machine share.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from pathlib import Path
from typing import Any, Generic, SupportsIndex, TypeVar, overload

import numpy as np

T = TypeVar("T")


class Packed(Sequence[T], Generic[T]):
    """A sequence whose items are bytes in one array and made of them when they are asked for.

    content: uint8, the bytes of all items, one after the other
    ends:    int64, where each item ends in it
    """

    def __init__(self, content: np.ndarray, ends: np.ndarray) -> None:
        self.content, self.ends = content, ends

    @abstractmethod
    def decode(self, item: memoryview) -> T:
        """Make an item of its bytes."""

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return self._decode(number)

    def __iter__(self) -> Iterator[T]:
        return map(self._decode, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _decode(self, number: int) -> T:
        start = self.ends[number - 1] if number else 0
        return self.decode(self.content[start : self.ends[number]].data)


class Paths(Packed[Path]):
    """The paths of files below the folder `root`, from their names below it."""

    def __init__(self, root: str | Path, content: np.ndarray, ends: np.ndarray) -> None:
        super().__init__(content, ends)
        self.root = Path(root)

    @classmethod
    def of(cls, root: str | Path, names: Iterable[str]) -> "Paths":
        """Pack the `names`."""
        return cls(root, *pack(map(os.fsencode, names)))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All of it but the root."""
        return {"content": self.content, "ends": self.ends}

    def names(self) -> Iterator[str]:
        """The names below the root."""
        start = 0
        for end in self.ends.tolist():
            yield os.fsdecode(self.content[start:end].tobytes())
            start = end

    def decode(self, item: memoryview) -> Path:
        """Make a path of its bytes."""
        return self.root / os.fsdecode(bytes(item))


def pack(items: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The `content` and `ends` of so many bytes."""
    content, ends = bytearray(), []
    for item in items:
        content += item
        ends.append(len(content))
    return np.frombuffer(content, np.uint8), np.array(ends, np.int64)
