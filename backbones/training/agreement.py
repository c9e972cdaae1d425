"""What the first of several processes finds holds for all: none of them looks for itself.

They talk over gloo, so that no GPU is waited for, and whatever can be pickled can be said.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch.distributed

from backbones.errors import FirstFailedError
from backbones.training.machine import join_processes, process_count, process_rank

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


@cache
def _group() -> Any:
    join_processes()
    return torch.distributed.new_group(backend="gloo")
