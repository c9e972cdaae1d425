"""Which of several runs of one cell counts: one rule for planners, tables and comparisons.

Of one key the highest run counts. Two records of the same run, as copies of a store that went different ways have them,
count by when they finished, then by what they say. Of several keys the latest finished counts; an evaluation of what
was trained before never takes the place of the run that trained it. So nothing depends on the order in which records
are given.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from results.record import Record


def in_order(records: Iterable[Record]) -> list[Record]:
    """Runs of one seed, key by key; the one that counts comes last, as of each key."""
    of_keys = sorted(_by_key(records), key=lambda runs: (not runs[-1].trained, runs[-1].finished_at, runs[-1].key))
    return [record for runs in of_keys for record in runs]


def latest_of_each_key(records: Iterable[Record]) -> list[Record]:
    """The records without those that another of their key supersedes, in the order in which keys first appear."""
    return [runs[-1] for runs in _by_key(records)]


def latest_of_each_seed(records: Iterable[Record]) -> list[Record]:
    """Of each seed the record that counts, by seed."""
    of_seed: dict[int, list[Record]] = {}
    for record in records:
        of_seed.setdefault(record.seed, []).append(record)
    return [in_order(of_seed[seed])[-1] for seed in sorted(of_seed)]


def latest_run(runs: Sequence[tuple[Path, Record]]) -> tuple[Path, Record]:
    """Of one seed's runs, each with its directory, the one that counts."""
    latest = in_order(record for _, record in runs)[-1]
    return next(run for run in runs if run[1] is latest)


def _by_key(records: Iterable[Record]) -> list[list[Record]]:
    """The runs of each key, the one that counts last."""
    of_key: dict[str, list[Record]] = {}
    for record in records:
        of_key.setdefault(record.key, []).append(record)
    for runs in of_key.values():
        if len(runs) > 1:  # the text takes its time
            runs.sort(key=lambda one: (one.run, one.finished_at, one.to_json()))
    return list(of_key.values())
