"""A self-test from its first line to its last, within so many minutes."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.selftest.lines import Line, NotRunError, Verdict
from benchmarks.selftest.worker import Worker, first_line

SCRATCH, DATA = "scratch", "data"

IMAGES: dict[str, Any] = {
    **{"unlabelled": 512, "train": 256, "val": 128},
    **{"coco_train": 64, "coco_val": 32, "ade_train": 64, "ade_val": 32},
}
"""How many generated images all lines share, of each kind: seconds' worth of drawing."""


def run_course(
    worker: Worker,
    lines: Sequence[Line],
    out: Path,
    minutes: float,
    on_begin: Callable[[Line, float], object] = lambda line, left: None,
) -> Iterator[Verdict]:
    """Try one line after the other; a verdict of each, as it comes.

    A line that would not end within what is left is not begun, but shorter ones after it may be. One that takes
    four times as long as it should, and a minute, is ended. What a failed line has written stays below `out`.

    on_begin: is told of each line that begins, and how many seconds are left then
    """
    end = time.monotonic() + 60 * minutes
    data = out / DATA
    _draw(data)  # which refuses a folder of somebody else's
    try:
        for line in lines:
            left = end - time.monotonic()
            takes = line.seconds.get(worker.device)
            if takes is None:
                yield Verdict(line, "not run", why=f"nothing to try on {worker.device}")
                continue
            if takes > max(left, 0):  # one that only says why it is not for this device takes none
                yield Verdict(line, "not run", why=f"{max(left, 0):.0f} s left, it takes about {takes:.0f} s")
                continue
            on_begin(line, left)
            yield _try(worker, line, out / SCRATCH / line.name, data, limit=4 * takes + 60)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _try(worker: Worker, line: Line, scratch: Path, data: Path, limit: float) -> Verdict:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        worker.start()
    except NotRunError as error:
        return Verdict(line, "not run", why=str(error))
    except RuntimeError as error:
        return Verdict(line, "failed", why=first_line(error))
    began = time.monotonic()
    outcome = worker.try_line(line, scratch, data, limit)
    if outcome.state != "failed":
        shutil.rmtree(scratch, ignore_errors=True)
    return Verdict(line, outcome.state, outcome.found, outcome.why, time.monotonic() - began)


def _draw(data: Path) -> None:
    from benchmarks.mini import write_mini

    write_mini(data, **IMAGES)
