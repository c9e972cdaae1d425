"""What `backbench suite` prints: the course of a suite, and its end."""

from benchmarks.commands.console import plain_console
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.folders import CellState, Job
from benchmarks.scheduling.work import work_on


def carry_out_suite(plan: SuitePlan) -> int:
    """Carry a suite out and print its course; the exit status."""
    console = plain_console()

    def tell(job: Job, what: str, state: CellState | None) -> None:
        ended = f" {state.outcome} {state.reason}" if state else ""
        console.print(f"{job.name} {what}{ended}", soft_wrap=True)

    outcome = work_on(plan, on_change=tell)
    for name in outcome.failed:
        console.print(f"failed: {name}: {outcome.states[name].reason}", soft_wrap=True)
    return 130 if outcome.interrupted else 1 if outcome.failed else 0
