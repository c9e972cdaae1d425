"""What a suite process has seen of its cells at its end."""

from dataclasses import dataclass, field

from benchmarks.scheduling.folders import CellState


@dataclass
class SuiteOutcome:
    """What a suite process has seen of its cells at its end, by cell.

    interrupted: whether it was stopped before all were done
    over_budget: whether its hours were over before
    no_room:     what could not be written, if that is why it has ended
    unfinished:  cells that it would have carried out, and has not
    changed:     those of them that the suite's plan has otherwise now: another process has changed it
    """

    states: dict[str, CellState] = field(default_factory=dict)
    interrupted: bool = False
    over_budget: bool = False
    no_room: str = ""
    unfinished: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return [name for name, state in self.states.items() if state.outcome == "failed"]
