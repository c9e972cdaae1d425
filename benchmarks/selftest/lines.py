"""A self-test's lines: what each tries, what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

State = Literal["ok", "failed", "not run"]


class NotRunError(Exception):
    """A line has nothing to try on this machine; says why."""


def memory_gib(device: str) -> tuple[float, float] | tuple[None, None]:
    """What others have left of a GPU's memory, and all of it; None for a processor.

    What this process holds itself counts as left: where it holds on to too much, that is no fault of others.
    """
    if device != "cuda":
        return None, None
    import torch

    free, total = torch.cuda.mem_get_info()
    return (free + torch.cuda.memory_reserved()) / 2**30, total / 2**30


@dataclass(frozen=True)
class Bench:
    """Where lines run.

    device:  "cuda" or "cpu"
    scratch: an empty folder of the line's own
    data:    the generated images, made once for all lines that need some
    """

    device: str
    scratch: Path
    data: Path


@dataclass(frozen=True)
class Found:
    """What a line has measured, beside what was to be expected.

    fine:     whether it is as expected; what is only told, such as a speed, is fine
    measured: in words and figures, as the screen shows it
    expected: likewise, with the tolerance; empty where nothing is
    figures:  the same by name, for the JSON: numbers with their unit in the name, such as `peak_memory_gib`
    """

    fine: bool
    measured: str
    expected: str = ""
    figures: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One thing that a self-test tries.

    name:     unique, lower case with dashes, such as `detector-parity`
    what:     a sentence of what is compared with what
    seconds:  about how long it takes, by kind of device: a line that would not end in time is not begun
    run:      tries it; whatever it raises is a failure, but for NotRunError
    """

    name: str
    what: str
    seconds: Mapping[str, float]
    run: Callable[[Bench], Found]


@dataclass(frozen=True)
class Verdict:
    """A line, and what came of it; `why` is the error of one that failed by one, or why it was not run."""

    line: Line
    state: State
    found: Found | None = None
    why: str = ""
    seconds: float = 0.0
