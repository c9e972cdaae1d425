"""Weights on their way from a checkpoint's names to a model's, each with its origin and the reason for its fate."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from backbones.errors import InputError


class Message:
    """The text of an error, made when it is read: of most parts of a file that are tried nobody asks why."""

    def __init__(self, tell: Callable[[], str]) -> None:
        self._tell = tell

    def __str__(self) -> str:
        return self._tell()


class MisfitError(InputError):
    """Weights and a model that do not agree in so many tensors, and do in the names and shapes of others."""

    def __init__(self, message: Message, tensors: int, found: int) -> None:
        super().__init__(message)
        self.tensors = tensors
        self.found = found


class ReaderError(InputError):
    """Weights that the reader of another author makes nothing of: it may have looked at numbers that were not there."""


@dataclass
class Weights:
    """Tensors under their current names, and the account of how they came to them.

    Every key of the file stays accounted for: it is a source of a tensor here, or it is in `dropped`.

    tensors:     by current name, in the file's order
    sources:     the keys of the file that each tensor was made from
    converted:   what was done to a tensor's values or shape, by current name; renaming alone is not listed
    dropped:     the reason, by key of the file
    initialised: the reason, by name of a model's parameter that the file need not have
    grid:        rows and columns of the patches that it was trained with, if the file says so
    """

    tensors: dict[str, Tensor]
    sources: dict[str, tuple[str, ...]]
    converted: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    initialised: dict[str, str] = field(default_factory=dict)
    grid: tuple[int, int] | None = None

    @classmethod
    def from_file(
        cls, state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None, prefix: str = ""
    ) -> "Weights":
        """Start with every tensor under the file's own name, of which a prefix was taken off."""
        return cls(dict(state_dict), {key: (prefix + key,) for key in state_dict}, grid=grid)

    def names(self, pattern: str = "") -> list[str]:
        """Return the current names whose beginning matches a regular expression."""
        return [name for name in self.tensors if re.match(pattern, name)]

    def drop(self, names: Iterable[str], reason: str) -> None:
        """Leave tensors out, for a reason that the user will read."""
        for name in list(names):
            del self.tensors[name]
            self.converted.pop(name, None)
            self.dropped.update(dict.fromkeys(self.sources.pop(name), reason))

    def rename(self, pattern: str, replacement: str) -> None:
        """Apply a regular expression to the beginning of every name. Two tensors never come to share one name."""
        for name in self.names(pattern):
            new_name = re.sub(pattern, replacement, name, count=1)
            if new_name in self.tensors:
                continue
            self.tensors[new_name] = self.tensors.pop(name)
            self.sources[new_name] = self.sources.pop(name)
            if name in self.converted:
                self.converted[new_name] = self.converted.pop(name)

    def make(self, name: str, tensor: Tensor, made_from: Sequence[str], how: str) -> None:
        """Add a tensor that was computed from others, which stay until `remove_joined`."""
        self.tensors[name] = tensor
        self.sources[name] = tuple(key for source in made_from for key in self.sources[source])
        self.converted[name] = how

    def remove_joined(self, names: Iterable[str]) -> None:
        """Remove tensors that live on inside others made from them."""
        for name in list(names):
            del self.tensors[name]
            del self.sources[name]
            self.converted.pop(name, None)
