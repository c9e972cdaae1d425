"""Work on every file of a data set in threads.

Waiting for the disk and decoding JPEG run side by side. What Pillow decodes, such as PNG, keeps Python's lock: there
only the waiting is saved.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AT_ONCE = 1024
"""Few enough that the pool's queue stays small for a million files."""


def each_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `function` makes of it, in the items' order; by default in a few more `threads` than there
    are processors, which is enough where they compute."""
    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(remaining, _AT_ONCE)):
            yield from zip(chunk, pool.map(function, chunk), strict=True)
