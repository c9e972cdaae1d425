"""Which cell of the one side is which of the other, and what cannot be compared."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from results.regression.findings import CellName, Finding, Severity
from results.regression.runs import Run

_MOST_NAMED = 5
"""Settings that a finding names."""


@dataclass(frozen=True)
class Pair:
    """The runs of a cell on both sides, under one protocol."""

    cell: CellName
    baseline: list[Run]
    current: list[Run]

    @property
    def protocol(self) -> str:
        return self.baseline[0].protocol


def join(baseline: Iterable[Run], current: Iterable[Run]) -> tuple[list[Pair], list[Finding]]:
    """Pair the runs of both sides by what they are of, not by key.

    A cell that is on one side only, or under another protocol, or on other data, is a finding. Where a cell was run
    under several protocols, those of the same one belong together.
    """
    before, now = _by_cell(baseline), _by_cell(current)
    pairs: list[Pair] = []
    findings: list[Finding] = []
    for cell in dict.fromkeys([*before, *now]):
        theirs, mine = before.get(cell, {}), now.get(cell, {})
        shared = [protocol for protocol in theirs if protocol in mine]
        pairs += [Pair(cell, theirs[protocol], mine[protocol]) for protocol in shared]
        findings += _unpaired(
            cell,
            [runs for protocol, runs in theirs.items() if protocol not in shared],
            [runs for protocol, runs in mine.items() if protocol not in shared],
        )
    return pairs, findings


def _by_cell(runs: Iterable[Run]) -> dict[CellName, dict[str, list[Run]]]:
    found: dict[CellName, dict[str, list[Run]]] = {}
    for run in runs:
        found.setdefault(run.cell, {}).setdefault(run.protocol, []).append(run)
    return found


def _unpaired(cell: CellName, theirs: Sequence[list[Run]], mine: Sequence[list[Run]]) -> Iterator[Finding]:
    if theirs and mine:
        yield _otherwise(cell, theirs[-1][-1].row, mine[-1][-1].row)
    elif theirs:
        seeds = ", ".join(map(str, sorted({run.seed for run in theirs[-1]})))
        yield Finding(cell, "vanished", Severity.unclear, f"no such run tonight; the baseline has seed {seeds}")
    elif mine:
        yield Finding(cell, "appeared", Severity.notice, "new tonight: nothing in the baseline to hold it against")


def _otherwise(cell: CellName, before: dict[str, Any], now: dict[str, Any]) -> Finding:
    """The finding of a cell whose protocol is another one: its data, or its settings."""
    known = [bool(row["protocol"]) for row in (before, now)]
    for is_known, side in zip(known, ("the baseline", "tonight's run"), strict=True):
        if any(known) and not is_known:
            told = f"settings of {side} not known: its results.csv is of an earlier version. `backbench collect STORE`"
            return Finding(cell, "protocol", Severity.unclear, f"{told} writes it anew")
    if before["data_fingerprint"] != now["data_fingerprint"]:
        told = f"other data: fingerprint {now['data_fingerprint']}, in the baseline {before['data_fingerprint']}"
        return Finding(cell, "data", Severity.unclear, told)
    if before["n_eval"] != now["n_eval"]:
        told = f"evaluated on {now['n_eval']} images, in the baseline on {before['n_eval']}"
        return Finding(cell, "data", Severity.unclear, told)
    changes = _settings_that_differ(str(before["settings"] or ""), str(now["settings"] or ""))
    deviations = [row["deviations"] or "none" for row in (now, before)]
    named = "; ".join(changes[:_MOST_NAMED]) or f"deviations {deviations[0]}, were {deviations[1]}"
    more = f" and {len(changes) - _MOST_NAMED} more" if len(changes) > _MOST_NAMED else ""
    return Finding(cell, "protocol", Severity.unclear, f"another protocol: {named}{more}")


def _settings_that_differ(before: str, now: str) -> list[str]:
    try:
        ours, theirs = json.loads(now or "{}"), json.loads(before or "{}")
    except ValueError:
        return []
    names = sorted({*ours, *theirs})
    return [
        f"{name} {json.dumps(ours[name]) if name in ours else 'not set'}, "
        f"was {json.dumps(theirs[name]) if name in theirs else 'not set'}"
        for name in names
        if ours.get(name) != theirs.get(name) or (name in ours) != (name in theirs)
    ]
