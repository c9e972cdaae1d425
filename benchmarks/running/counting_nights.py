"""Which nights of a baseline count once another one is promoted."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from backbones.errors import InputError
from benchmarks.running.baseline_file import BASELINE, BaselineFile
from results import load_results
from results.nights import is_night
from results.regression.runs import NIGHT, Run, to_runs


def counting_after(
    baseline: Path, before: BaselineFile, store: Path, night: str, keep: int, *, fresh: bool
) -> list[str]:
    """The nights that count after the promotion of this one, which `store` holds, oldest first.

    They are the newest `keep`, and of the older ones that count those without which a cell would have one seed alone:
    by how much seeds differ would not be known any more, and no later night could be judged. Raises InputError for a
    night of before the last fresh one, and for a fresh one while others are pinned.
    """
    if before.pinned and fresh:
        pinned = ", ".join(before.counts)
        raise InputError(
            f"{baseline / BASELINE}: {pinned} are pinned. `backbench baseline unpin {baseline}` comes first"
        )
    if night < before.since:
        raise InputError(
            f"{night}: before {before.since}, from which on {baseline} counts, because behaviour was to change then"
        )
    if before.pinned:
        return [*before.counts]
    nights = sorted({night, *(other for other in before.counts if not fresh or other > night)})
    older, newest = nights[:-keep], nights[-keep:]
    if not older:
        return newest
    runs = [run for run in _runs_of(baseline) if run.night != night] + _runs_of(store, night)
    return sorted({*nights_with_other_seeds(runs, older, newest), *newest})


def nights_with_other_seeds(runs: Iterable[Run], older: Sequence[str], newest: Sequence[str]) -> list[str]:
    """The fewest of the older nights, later ones first, with another seed of what the newest have one seed of."""
    of_night: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        of_night[run.night].append(run)
    seeds: dict[tuple[object, str], set[int]] = defaultdict(set)
    for night in newest:
        for run in of_night[night]:
            seeds[run.cell, run.protocol].add(run.seed)
    found = []
    for night in sorted(older, reverse=True):
        if any(_tells_more(seeds.get((run.cell, run.protocol), set()), run.seed) for run in of_night[night]):
            found.append(night)
            for run in of_night[night]:
                seeds[run.cell, run.protocol].add(run.seed)
    return found


def _tells_more(known: set[int], seed: int) -> bool:
    return len(known) == 1 and seed not in known


def _runs_of(store: Path, night: str | None = None) -> list[Run]:
    frame = load_results(store)
    places = frame["directory"].str.partition("/")[0]
    if night is None:
        frame, places = frame[places.map(is_night)], places[places.map(is_night)]
    return to_runs(frame.assign(**{NIGHT: night or places}))
