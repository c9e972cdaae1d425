"""What `backbench suite` prints: the course of a suite, and its end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

from rich.console import Console
from rich.text import Text

from backbones.errors import TryAgainError
from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import print_json
from benchmarks.commands.statuses import INTERRUPTED, TRY_AGAIN
from benchmarks.commands.suite_endings import show_ending
from benchmarks.commands.suite_status import screen_of
from benchmarks.commands.suite_views import numbers
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.ending import summary_document
from benchmarks.scheduling.folders import CellState, Job, SuiteFolder
from benchmarks.scheduling.judging import RETRIES
from benchmarks.scheduling.status import Reader
from benchmarks.scheduling.suites import carry_out
from benchmarks.scheduling.work import CHANGED

_SECONDS_BETWEEN_LOOKS = 2.0


def carry_out_suite(
    plan: SuitePlan,
    *,
    jobs: str | None = None,
    hours: float | None = None,
    retries: int = RETRIES,
    as_json: bool = False,
    repeat: Callable[[Sequence[str]], str] = lambda cells: "",
) -> int:
    """Carry a suite out and print its course and its end; the exit status.

    jobs, hours, retries: as `run_suite` has them
    repeat: gives the command that carries out some of the cells again

    Raises TryAgainError where the store has no room left.
    """
    course = _Course(plan, plain_console(stderr=as_json))
    with course.shown():
        done = carry_out(plan, jobs=jobs, hours=hours, retries=retries, on_change=course.tell, repeat=repeat)
    if as_json:
        print_json(summary_document(done.ending))
    else:
        show_ending(done.ending)
    if changed := done.outcome.changed:
        told = f"{CHANGED}: {len(changed)} cell(s) left to that, {changed[0]} the first. Repeat the command"
        course.console.print(Text(told), soft_wrap=True)
    if done.outcome.no_room:
        raise TryAgainError(f"{done.outcome.no_room}. Make room and repeat the command")
    if done.outcome.interrupted:
        return INTERRUPTED
    if done.failed:
        return 1
    return TRY_AGAIN if done.unfinished else 0


class _Course:
    """Shows how a suite goes on: on a terminal all that is at work, elsewhere a line for what begins and ends."""

    def __init__(self, plan: SuitePlan, console: Console) -> None:
        self.console = console
        self.folder = SuiteFolder(plan.out, plan.name)
        self.names = [cell.name for cell in plan.cells]
        self.reader = Reader(plan.out)
        self._seen: tuple[float, Text] = (float("-inf"), Text())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block, on a terminal, the suite's state is shown below what is printed."""
        if not self.console.is_terminal:
            yield
            return
        from rich.live import Live

        per_second = 1 / _SECONDS_BETWEEN_LOOKS
        live = Live(get_renderable=self._screen, console=self.console, refresh_per_second=per_second, transient=True)
        with suppress(OSError):
            live.start()
        try:
            yield
        finally:
            with suppress(OSError):  # the terminal may have gone, and what was done is to be told in files all the same
                live.stop()

    def tell(self, job: Job, what: str, state: CellState | None) -> None:
        """A line for what has happened to a cell; what has begun is seen on the screen, if there is one."""
        self._seen = (float("-inf"), Text())
        if what == "begins" and self.console.is_terminal:
            return
        at = datetime.now().astimezone()
        self.console.print(Text(f"{at:%H:%M:%S} {self._words(job, what, state)}"), soft_wrap=True)

    def _words(self, job: Job, what: str, state: CellState | None) -> str:
        outcome, reason = (state.outcome, state.reason) if state else (None, "")
        if what == "waits":
            return f"waits {job.name}: for {reason}"
        if what != "ended" or state is None:
            return f"{what} {job.name}{f': {reason}' if reason and what != 'begins' else ''}"
        if outcome == "failed":
            return f"failed {job.name}: {reason} ({self.folder.cell(job.name).log})"
        if outcome != "finished":
            return f"{outcome or 'ended'} {job.name}{f': {reason}' if reason else ''}"
        suite = self.reader.read(self.folder, self.names)
        told = next((numbers(cell) for cell in suite.cells if cell.job.name == job.name), "")
        finished = len(suite.of("finished"))
        return f"finished {job.name}{f': {told}' if told else ''} ({finished} of {len(suite.cells)})"

    def _screen(self) -> Text:
        now = time.monotonic()
        if now - self._seen[0] >= _SECONDS_BETWEEN_LOOKS:
            suite = self.reader.read(self.folder, self.names)
            self._seen = (now, Text() if suite.fault else screen_of([suite], *self.console.size))
        return self._seen[1]
