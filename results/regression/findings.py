"""What a comparison of two sides finds, cell by cell, and what it comes to as a whole."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from results.regression.joining import Pair


class CellName(NamedTuple):
    """What is compared with what: a cell of the one side and one of the other are the same if they agree in this."""

    task: str
    dataset: str
    split: str
    metric: str
    method: str
    pretrain_data: str
    model: str
    backbone: str
    recipe: str

    def __str__(self) -> str:
        return f"{self.backbone} on {self.dataset} ({self.recipe})"


class Severity(StrEnum):
    """How much a finding weighs, the heaviest first."""

    regression = "regression"
    unclear = "cannot tell"
    notice = "notice"
    improvement = "improvement"


Kind = Literal[
    "accuracy",
    "behaviour",
    "speed",
    "memory",
    "failed",
    "unfinished",
    "vanished",
    "appeared",
    "protocol",
    "data",
    "noise",
    "machine",
]
"""What a finding is about: "unfinished" that a cell has no number and has not failed, begun or not, "vanished" that
nothing of it is there, "noise" that it is not known how far seeds differ, "machine" that speeds are of two."""


@dataclass(frozen=True)
class Finding:
    """One thing that is otherwise than in the baseline.

    words:      a sentence without the cell's name, which says all numbers
    value:      tonight's mean, and `baseline` that of the baseline, in the metric's units
    worse_by:   by how much it is worse, in the same units, of speed and memory in percent; below 0 where it is better
    p_value:    one-sided, of a difference at least as large between two equal cells, corrected for all cells (Holm)
    images:     on how many its runs were tested image by image, None where they were not; `images_worse_by` by how much
                they are worse there, `images_p_value` two-sided, corrected for all such tests of the verdict (Holm)
    pair:       the runs of both sides that it is about; no part of what is shown (`NOT_SHOWN`)
    """

    cell: CellName
    kind: Kind
    severity: Severity
    words: str
    value: float | None = None
    baseline: float | None = None
    worse_by: float | None = None
    p_value: float | None = None
    images: int | None = None
    images_worse_by: float | None = None
    images_p_value: float | None = None
    pair: "Pair | None" = field(default=None, compare=False, repr=False)


NOT_SHOWN = ("cell", "pair")
"""Fields that are no columns of their own: a cell is several."""


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings, the heaviest first, each once."""
    order = list(Severity)
    return tuple(
        sorted(dict.fromkeys(findings), key=lambda one: (order.index(one.severity), one.kind, one.cell, one.words))
    )


@dataclass(frozen=True)
class Judged:
    """A cell of both sides with its numbers, whatever was found.

    worse_by:   in the metric's units, below 0 where it is better
    p_value:    of the cell by itself, one-sided; None where it is not known how far seeds differ
    suspicious: whether it is worth further seeds, as `--confirm` has it, before it is a regression
    identical:  whether tonight's numbers are those of the same seeds in the baseline, to the last digit
    """

    cell: CellName
    value: float
    baseline: float
    runs: int
    baseline_runs: int
    worse_by: float
    p_value: float | None
    suspicious: bool
    identical: bool


@dataclass(frozen=True)
class Verdict:
    """All findings, the heaviest first, and all cells that were compared.

    remarks: what holds for all: which libraries changed, how many nights are behind the baseline
    """

    findings: tuple[Finding, ...]
    cells: tuple[Judged, ...]
    remarks: tuple[str, ...] = ()

    def extended(self, findings: Iterable[Finding], remarks: Iterable[str] = ()) -> "Verdict":
        """The verdict with further findings, in their places, and remarks."""
        return replace(self, findings=in_order([*self.findings, *findings]), remarks=(*self.remarks, *remarks))

    def of(self, *severities: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity in severities]

    @property
    def severity(self) -> Severity | None:
        """That of the heaviest finding; None where nothing weighs."""
        found = {finding.severity for finding in self.findings}
        return next((severity for severity in Severity if severity in found), None)

    @property
    def status(self) -> int:
        """Exit status: 1 for a regression, 3 where it cannot be told, as of nothing that was compared, else 0."""
        if self.severity is None:
            return 0 if self.cells else 3
        return {Severity.regression: 1, Severity.unclear: 3}.get(self.severity, 0)

    @property
    def identical(self) -> int:
        """How many cells have the same numbers to the last digit."""
        return sum(cell.identical for cell in self.cells)

    def to_frame(self) -> "pd.DataFrame":
        """A row for each finding, for pandas and CSV."""
        import pandas as pd

        own = [one.name for one in fields(Finding) if one.name not in NOT_SHOWN]
        return pd.DataFrame(self._rows(own), columns=[*CellName._fields, *own]).astype({"images": "Int64"})

    def _rows(self, own: list[str]) -> Iterator[list[object]]:
        for finding in self.findings:
            yield [*finding.cell, *(getattr(finding, name) for name in own)]
