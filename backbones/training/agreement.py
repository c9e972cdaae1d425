"""What the first of several processes finds holds for all: none of them looks for itself.

They talk over gloo, so that no GPU is waited for, and whatever can be pickled can be said.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch.distributed

from backbones.errors import DataError, FirstFailedError
from backbones.training.machine import join_processes, process_count, process_rank
from backbones.training.meeting import TALKING

T = TypeVar("T")


def first_decides(decide: Callable[[], T]) -> T:
    """What `decide` gives in the first process, in all; it is called nowhere else.

    All processes have to call this. Its error is raised in the first, FirstFailedError in the others.
    """
    if process_count() == 1:
        return decide()
    if process_rank() != 0:
        said: list[Any] = [None]
        torch.distributed.broadcast_object_list(said, src=0, group=_group())
        found, has_failed = said[0]
        if has_failed:
            raise FirstFailedError
        answer: T = found
        return answer
    group = _group()
    try:
        answer = decide()
    except BaseException:
        torch.distributed.broadcast_object_list([(None, True)], src=0, group=group)
        raise
    torch.distributed.broadcast_object_list([(answer, False)], src=0, group=group)
    return answer


def each_says(word: T) -> list[T]:
    """What each process says, by rank, in all of them."""
    if process_count() == 1:
        return [word]
    words: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(words, word, group=_group())
    return words


def largest(numbers: Sequence[float]) -> list[float]:
    """The largest that any process says, of each of these numbers. No process has to wait for its device."""
    said = torch.tensor(numbers, dtype=torch.float64)
    if process_count() > 1:
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX, group=_group())
    return said.tolist()


def require_of_all(complaint: str) -> None:
    """End all processes if one of them has a complaint: what each can read has to be what the first does.

    All processes have to call this, an empty text says that nothing is wrong. Raises DataError with all complaints in
    the first, FirstFailedError in the others.
    """
    complaints = [each for each in dict.fromkeys(each_says(complaint)) if each]
    if not complaints:
        return
    if process_rank() != 0:
        raise FirstFailedError
    raise DataError("; ".join(complaints))


@cache
def _group() -> Any:
    join_processes()
    return torch.distributed.new_group(backend="gloo", timeout=TALKING)
