"""Whether training took the course that it took in the baseline: the first thing that a change of behaviour changes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from results.regression.findings import CellName, Finding, Severity
from results.regression.runs import MACHINE, Run
from results.regression.wording import counted

_LABELS = {"world_size": "processes", "cuda": "CUDA", "torch": "PyTorch"}
_DIGITS = 8
"""Of a digest, as it is shown."""

_MOST_NAMED = 5
_PRETRAINING = "pretraining"


@dataclass(frozen=True)
class Origin:
    """What a run was made with, beside its settings.

    versions: of libraries, None where that is not known
    weights:  the digest of the file that it began with; empty for none
    """

    code: str = ""
    model_code: str = ""
    versions: Mapping[str, str] | None = None
    weights: str = ""


@dataclass(frozen=True)
class Parting:
    """Where two courses part: the value that differs there. update: None of runs of which the end alone is known."""

    name: str
    before: float | None
    now: float | None
    update: int | None = None


@dataclass
class Tally:
    """What became of all runs.

    compared:  how many were held against one of the baseline
    identical: how many of these took its course to the last digit, and `alike` within what their device rounds
    unpaired:  how many cells' runs have no run of their seed there
    elsewhere: how many are of another machine, by what differs
    remade:    by the pre-training that made other weights, the cells that take them
    """

    compared: int = 0
    identical: int = 0
    alike: int = 0
    unpaired: int = 0
    elsewhere: Counter[str] = field(default_factory=Counter)
    remade: dict[str, list[str]] = field(default_factory=dict)


class Courses:
    """The runs of a baseline, to be found by what they are of."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._of_seed: dict[tuple[CellName, str, int], list[Run]] = {}
        self._cells: set[tuple[CellName, str]] = set()
        for run in sorted(runs, key=lambda run: run.night):
            self._of_seed.setdefault((run.cell, run.protocol, run.seed), []).append(run)
            self._cells.add((run.cell, run.protocol))

    def find(self, run: Run, tally: Tally) -> Run | None:
        """The latest run of the same cell, protocol and seed, on the same machine; None where there is none, which is
        tallied where the cell is there."""
        of_seed = self._of_seed.get((run.cell, run.protocol, run.seed), [])
        of_machine = [other for other in of_seed if other.machine == run.machine]
        if of_machine:
            return of_machine[-1]
        if of_seed:
            tally.elsewhere["; ".join(_unlike(of_seed[-1], run))] += 1
        elif (run.cell, run.protocol) in self._cells:
            tally.unpaired += 1
        return None


def made_weights(runs: Iterable[Run]) -> dict[str, str]:
    """By the digest of the weights that a pre-training made, its name: the only weights that runs make anew."""
    made = (run for run in runs if run.cell.task == _PRETRAINING and run.row["checkpoint_sha256"])
    return {run.row["checkpoint_sha256"]: f"{run.cell.backbone} ({run.cell.recipe}, seed {run.seed})" for run in made}


def remade_weights(before: Run, now: Run, made: Mapping[str, str]) -> str:
    """The pre-training that has made other weights for a run than in the baseline, in words; empty for none."""
    old, new = (str(run.row["checkpoint_sha256"] or "") for run in (before, now))
    if now.cell.task == _PRETRAINING or old == new:
        return ""
    name = made.get(new) or made.get(old)
    return f"{name}, {old[:_DIGITS] or 'none'} → {new[:_DIGITS] or 'none'}" if name else ""


def end_of(before: Run, now: Run, tolerance: float) -> tuple[bool, Parting | None]:
    """Whether the losses at the ends of two runs are known, and how they differ by more than a relative tolerance."""
    old, new = before.row["train_loss"], now.row["train_loss"]
    if old is None or new is None:
        return False, None
    differs = abs(new - old) > tolerance * max(abs(new), abs(old))
    return True, Parting("loss", float(old), float(new)) if differs else None


def origin_of(run: Run, versions: Mapping[str, str] | None = None, model_code: str = "") -> Origin:
    """What a row of results.csv says of that, and what it does not say."""
    weights = "" if run.cell.task == _PRETRAINING else str(run.row["checkpoint_sha256"] or "")
    return Origin(str(run.row["code"] or ""), model_code, versions, weights)


def parted(
    now: Run, parting: Parting, before: Origin, origin: Origin, *, strict: bool, settings: Sequence[str] = ()
) -> Finding:
    """The finding of a run that left the baseline's course.

    settings: that differ all the same, in words
    """
    old, new = _told_apart(parting.before, parting.now)
    if parting.update is None:
        begins = f"the {parting.name} at the end differs, seed {now.seed}: {old} → {new}"
    else:
        begins = f"another course from update {parting.update:,} on, seed {now.seed}: {parting.name} {old} → {new}"
    severity = Severity.regression if strict else Severity.notice
    words = "; ".join([begins, *settings[:_MOST_NAMED], *causes(before, origin)])
    return Finding(now.cell, "behaviour", severity, words)


def not_followed(now: Run, why: str, *, strict: bool) -> Finding:
    """The finding of a run whose course could not be held against the baseline's to its end."""
    severity = Severity.unclear if strict else Severity.notice
    return Finding(now.cell, "behaviour", severity, f"the course of seed {now.seed} is not compared: {why}")


def causes(before: Origin, now: Origin) -> list[str]:
    """What else than settings differs between two runs and may have changed the course, in words; the code first."""
    changed = []
    if before.weights != now.weights:
        changed.append(_changed("weights", before.weights[:_DIGITS], now.weights[:_DIGITS]))
    if before.model_code != now.model_code:
        changed.append(_changed("model code", before.model_code[:_DIGITS], now.model_code[:_DIGITS]))
    libraries = _libraries(before, now)
    if not (before.code and now.code):
        code = "whether the code is the same is not known"
    elif before.code != now.code:
        code = _changed("code", before.code[:_DIGITS], now.code[:_DIGITS])
    elif before.versions is None or now.versions is None or changed or libraries:
        code = "same code"
    else:
        code = "same code and libraries"
    return [code, *changed, *libraries]


def remarks_of(tally: Tally) -> list[str]:
    """What holds for all runs, in sentences."""
    told = []
    if tally.compared:
        alike = f", {tally.alike} within what their precision rounds" if tally.alike else ""
        runs = counted(tally.compared, "run")
        told.append(f"{tally.identical} of {runs} took the same course to the last digit{alike}")
    told += [
        f"the course of {counted(number, 'run')} is not compared, what rounds its numbers differs: {unlike}"
        for unlike, number in tally.elsewhere.items()
    ]
    for made, cells in tally.remade.items():
        names = sorted({*cells})
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        told.append(
            f"the pre-training changed: {made}; the course of what is fine-tuned from it is not compared: "
            f"{', '.join(names[:_MOST_NAMED])}{more}"
        )
    if tally.unpaired:
        told.append(
            f"the course of {counted(tally.unpaired, 'run')} is not compared, the baseline has none of these seeds"
        )
    return told


def _libraries(before: Origin, now: Origin) -> list[str]:
    if before.versions is None or now.versions is None:
        return []
    names = sorted({*before.versions, *now.versions})
    pairs = ((name, before.versions.get(name, ""), now.versions.get(name, "")) for name in names)
    return [_changed(name, old, new) for name, old, new in pairs if old != new]


def _unlike(before: Run, now: Run) -> list[str]:
    each = zip(MACHINE, before.machine, now.machine, strict=True)
    return [_changed(_LABELS.get(name, name), old, new) for name, old, new in each if old != new]


def _changed(what: str, old: str, new: str) -> str:
    return f"{what} {old or 'none'} → {new or 'none'}"


def _told_apart(before: float | None, now: float | None) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart."""
    for digits in (4, 6, 9, 17):
        told = tuple("none" if value is None else f"{value:.{digits}g}" for value in (before, now))
        if told[0] != told[1]:
            break
    return told[0], told[1]
