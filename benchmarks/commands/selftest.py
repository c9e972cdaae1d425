"""What `backbench doctor --train` prints: one line after the other, then the verdict."""

import difflib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from backbones.errors import InputError, TryAgainError, not_written
from backbones.training.launching import find_place
from backbones.training.machine import choose_device, device_type, process_count
from benchmarks.commands.console import plain_console
from benchmarks.commands.statuses import INTERRUPTED
from benchmarks.launching.interrupting import ignore_interruptions, interruptible
from benchmarks.running.claim import CLAIM
from benchmarks.running.lease import HeldByAnotherError, Lease
from benchmarks.selftest.course import run_course
from benchmarks.selftest.lines import Line, Verdict
from benchmarks.selftest.order import LINES
from benchmarks.selftest.report import Report, measured_and_expected, name_for
from benchmarks.selftest.worker import Worker

COURSE = "benchmarks.selftest.order:LINES"

_COLOURS = {"ok": "green", "failed": "red", "not run": "yellow"}


def run_selftest(device: str, minutes: float, out: Path, only: Sequence[str]) -> int:
    """Try every line within so many minutes, or those that are named, and print what came of each; the exit status.

    Lines that are named leave a report of their own, and that of all lines as it is.

    Raises InputError for a line that there is none of, for a GPU where there is none, for an unusable `out`, and in
    one of several processes; TryAgainError where another self-test is at work in `out`.
    """
    _require_one_process()
    lines = _chosen(LINES, only)
    kind = _device(device)
    name = name_for([line.name for line in lines] if only else [])
    with _alone_in(out), interruptible():
        return _run(Report(kind, minutes, lines, name=name), out)


def _run(report: Report, out: Path) -> int:
    log = out / f"{report.name}.log"
    log.write_bytes(b"")
    report.write(out)
    console = plain_console()
    interrupted = False
    with Worker(COURSE, report.device, log) as worker, _activity(console) as activity:
        try:
            for verdict in run_course(worker, report.lines, out, report.minutes, activity.begin):
                report.about = worker.about
                report.verdicts.append(verdict)
                report.write(out)
                _show(verdict, console)
        except KeyboardInterrupt:
            interrupted = True
            ignore_interruptions()  # a second one would keep the verdict from being told
            worker.end()
    figures, table = report.write(out)
    state = "interrupted: " if interrupted else ""
    console.print(Text(f"{state}{report.verdict()}", style="bold"), soft_wrap=True)
    console.print(f"  {figures}, {table}; what the lines printed: {log}", soft_wrap=True)
    return 1 if report.failed else INTERRUPTED if interrupted else 0


def _chosen(lines: Sequence[Line], names: Sequence[str]) -> list[Line]:
    """The lines of these names, in the order of their worth; all without names."""
    known = [line.name for line in lines]
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {nearest[0]!r}?" if nearest else f"There are {', '.join(known)}."
            raise InputError(f"--only {name}: the self-test has no such line. {hint}")
    return [line for line in lines if not names or line.name in names]


def _require_one_process() -> None:
    if process_count() > 1:
        launcher = find_place().launcher
        raise InputError(
            "doctor --train: the self-test starts its own processes. Run it in one, without "
            f"{launcher}: this is one of {process_count()}"
        )


def _device(wanted: str) -> str:
    """The kind of device to test. Raises InputError where it cannot be used."""
    if wanted == "cpu":
        return wanted
    choose_device("auto")  # says what is wrong with a driver
    if wanted == "cuda" and device_type() != "cuda":
        import torch

        raise InputError(f"--device cuda: PyTorch {torch.__version__} finds no GPU. Use --device cpu")
    return device_type()


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Keep a second self-test from this folder within the block. Raises TryAgainError if another is there already."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        claim = Lease(out / CLAIM)
    except HeldByAnotherError as owner:
        raise TryAgainError(
            f"--out {out}: {owner} runs a self-test there. Wait for it, or name another folder; if there is no such "
            f"process, remove {out / CLAIM}"
        ) from None
    except OSError as error:
        raise not_written(f"--out {out}: {error.strerror}. Name a folder that you may write to", error.errno) from error
    with claim:
        yield


def _show(verdict: Verdict, console: Console) -> None:
    measured, expected = measured_and_expected(verdict)
    headline = Text.assemble(
        (f"{verdict.state:8}", _COLOURS[verdict.state]), (verdict.line.name, "bold"), f"  {verdict.line.what}"
    )
    console.print(headline, soft_wrap=True)
    told = "; ".join(filter(None, (measured, expected and f"expected {expected}")))
    console.print(f"{'':8}{told}{_seconds(verdict)}", soft_wrap=True)


def _seconds(verdict: Verdict) -> str:
    return f"  ({verdict.seconds:.0f} s)" if verdict.state != "not run" else ""


class Activity:
    """What is being tried, for how long, and how much time is left; on a terminal only."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.task = progress, None if progress is None else progress.add_task("starting", left="")

    def begin(self, line: Line, left: float) -> None:
        """Show this line, with so many seconds left."""
        if self.progress is not None and self.task is not None:
            until = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
            told = f"{left / 60:.1f} minutes left, until {until}"
            self.progress.reset(self.task, description=line.name, left=told)


@contextmanager
def _activity(console: Console) -> Iterator[Activity]:
    if not console.is_terminal:
        yield Activity(None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Activity(progress)
