"""Readers of other authors: functions from a file's state_dict to their model's names, held to the same account."""

from collections.abc import Callable, Mapping
from functools import update_wrapper

from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.conversion import ReaderError, Weights
from backbones.weights.naming import Step

Reader = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]


def step_of(reader: Reader, name: str) -> Step:
    """Make a step of a reader (state_dict of the file -> state_dict of the model), known to its users as `name`'s.

    Every tensor that comes back is accounted for: it is one of the file's under another name, or a view of one, or was
    computed. What does not come back is dropped. It may change them in place, as it is given copies. The step raises
    ReaderError if the reader fails, or gives anything else than tensors by name.
    """

    def read(weights: Weights, model: nn.Module) -> None:
        before = {key: tensor.clone() for key, tensor in weights.tensors.items()}
        try:
            after = reader(dict(before))
        except InputError as error:
            raise ReaderError(str(error)) from error
        except (Exception, SystemExit) as error:  # another author's function can fail in any way
            raise ReaderError(f"{name}'s reader failed with {type(error).__name__}: {error}.") from error
        _require_tensors(after, name)
        _account(weights, before, after, name)

    return update_wrapper(read, reader, assigned=(), updated=())  # for whoever asks whose it is


def is_reader(step: Step) -> bool:
    """Whether a step is another author's reader, which need not take the model's own names."""
    return hasattr(step, "__wrapped__")


def _require_tensors(after: object, name: str) -> None:
    if not isinstance(after, Mapping):
        raise ReaderError(f"{name}'s reader gave {type(after).__name__}, expected a dict of tensors by their names.")
    for key, value in after.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ReaderError(
                f"{name}'s reader gave {type(value).__name__} under {key!r}, expected tensors by their names."
            )


def _account(weights: Weights, before: Mapping[str, Tensor], after: Mapping[str, Tensor], name: str) -> None:
    """Put the tensors that a reader gave in the place of those that it was given."""
    theirs = {id(tensor): key for key, tensor in before.items()}
    memory = {_place(tensor): key for key, tensor in before.items() if tensor.numel()}
    old_names = {key: theirs.get(id(tensor)) or memory.get(_place(tensor)) for key, tensor in after.items()}
    sources = {key: weights.sources[old] if old else () for key, old in old_names.items()}
    kept = {source for keys in sources.values() for source in keys}
    computed = [key for key, old in old_names.items() if old is None]
    reason = f"left out by {name}'s reader" + (", or part of what it computed" if computed else "")
    gone = [source for keys in weights.sources.values() for source in keys if source not in kept]
    weights.dropped.update(dict.fromkeys(gone, reason))
    changed = [key for key, old in old_names.items() if old is None or after[key] is not before[old]]
    weights.converted = dict.fromkeys(changed, f"by {name}'s reader")
    weights.tensors, weights.sources = dict(after), sources


def _place(tensor: Tensor) -> int:
    """Where a tensor's memory begins: a view has its origin's."""
    return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
