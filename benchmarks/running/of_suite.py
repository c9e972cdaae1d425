"""What a run that is a suite's cell tells the suite, by variables of its environment."""

import os
from contextlib import suppress
from pathlib import Path

from benchmarks.running.writing import write_text

SUITE = "BACKBENCH_SUITE"
"""The suite's name, for the record."""

CELL = "BACKBENCH_CELL"
"""The cell's folder."""

RUN = "run"
"""In the cell's folder, the path of the run's directory from the store's."""


def suite_name() -> str:
    """Which suite this process carries out a cell of; empty for none."""
    return os.environ.get(SUITE, "")


def tell_directory(directory: Path, out: Path) -> None:
    """Tell the suite, if there is one, where its cell's run lies. To be called by the first process."""
    folder = os.environ.get(CELL)
    if folder:
        with suppress(OSError):  # the run does not depend on it
            write_text(Path(folder) / RUN, f"{directory.relative_to(out)}\n")
