"""What `backbench suite` prints: the course of a suite, and its end."""

from backbones.errors import TryAgainError
from benchmarks.commands.console import plain_console
from benchmarks.commands.statuses import INTERRUPTED, TRY_AGAIN
from benchmarks.launching.slots import share_out
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.folders import CellState, Job
from benchmarks.scheduling.judging import RETRIES
from benchmarks.scheduling.work import work_on


def carry_out_suite(
    plan: SuitePlan, *, jobs: str | None = None, hours: float | None = None, retries: int = RETRIES
) -> int:
    """Carry a suite out and print its course; the exit status."""
    slots = share_out(jobs)
    console = plain_console()

    def tell(job: Job, what: str, state: CellState | None) -> None:
        outcome, reason = (state.outcome or "", state.reason) if state else ("", "")
        words = " for" if what == "waits" else f" {outcome}" if outcome else ""
        console.print(f"{job.name} {what}{words}{f': {reason}' if reason else ''}", soft_wrap=True)

    outcome = work_on(plan, slots, tell, hours=hours, retries=retries)
    for name in outcome.failed:
        console.print(f"failed: {name}: {outcome.states[name].reason}", soft_wrap=True)
    if outcome.no_room:
        raise TryAgainError(f"{outcome.no_room}. Make room and repeat the command")
    if outcome.over_budget:
        console.print(f"unfinished when the hours were over: {', '.join(outcome.unfinished)}", soft_wrap=True)
    if outcome.interrupted:
        return INTERRUPTED
    return 1 if outcome.failed else TRY_AGAIN if outcome.unfinished else 0
