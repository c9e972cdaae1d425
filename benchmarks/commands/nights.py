"""What `backbench suite --keep-nights` prints, beside what the suite does."""

import sys
from pathlib import Path

from backbones.errors import InputError
from benchmarks.commands.sheets import spell_size
from benchmarks.scheduling.nights import night_in, prune


def store_of_night(out: Path, keep: int | None, night: str | None) -> Path:
    """The store of tonight, where `out` is a folder of nights, else `out`. Raises InputError for what is no date."""
    if keep is None:
        if night is not None:
            raise InputError(f"--night {night}: only with --keep-nights N, which makes --out a folder of nights")
        return out
    return night_in(out, night)


def end_night(nights: Path, tonight: Path, keep: int) -> None:
    """Make room: remove what is large of older nights, and say what went, and what was left alone and why."""
    for pruned in prune(nights, tonight, keep):
        if pruned.runs:
            print(
                f"{pruned.night}: weights, checkpoints, pictures and per-image files of {pruned.runs} "
                f"run{'' if pruned.runs == 1 else 's'} removed, {spell_size(pruned.freed)}; numbers and logs stay",
                file=sys.stderr,
            )
        for why in pruned.left:
            print(f"backbench: {pruned.night}: left alone: {why}", file=sys.stderr)
