"""Suites whose cells' processes do what a test tells them, in the place of trainings, and suite processes to be hurt.

A stand-in for `backbench` reads what to do from the file "script" in the store: by cell, a list of words for each
attempt. "finish" writes the record that answers to the cell's plan.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.launching import processes
from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.running import lease
from benchmarks.scheduling import judging, work
from benchmarks.scheduling.folders import CellState, Job, SuiteFolder
from benchmarks.scheduling.work import SuiteOutcome, work_on
from results import run_directory
from tests.support.commands import processes as processes_of_tests
from tests.support.results_examples import make_record

HOUSE = Path(__file__).parents[2]

STAND_IN = """
import os, signal, sys, time
from pathlib import Path
from benchmarks.running import lease
from benchmarks.running.of_suite import telling_suite, tell_directory
import json
out = Path(sys.argv[sys.argv.index("--out") + 1])
script = json.loads((out / "script").read_text())
lease.LEASE_SECONDS = script["lease"]
with telling_suite():
    data = Path(sys.argv[sys.argv.index("--data") + 1])
    cell = Path(os.environ["BACKBENCH_CELL"])
    told = script["cells"][cell.name]
    beginnings = out / "beginnings"
    with beginnings.open("a") as file:
        file.write(f"{cell.name} {os.getpid()}\\n")
    attempt = sum(line.split()[0] == cell.name for line in beginnings.read_text().splitlines()) - 1
    run = out / told["run"]
    run.mkdir(parents=True, exist_ok=True)
    tell_directory(run, out, data)
    do = told["do"][min(attempt, len(told["do"]) - 1)].split()
    while do:
        what = do.pop(0)
        if what == "finish":
            (run / "partial").write_text(told["record"])
            (run / "partial").rename(run / "record.json")
        elif what == "sleep":
            until = time.monotonic() + float(do.pop(0))
            while time.monotonic() < until and not (out / "go").exists():
                time.sleep(0.01)
        elif what == "save":
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
        elif what == "save_at_hangup":  # as a training does: it leaves what is ignored alone
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(130))
            signal.signal(signal.SIGTERM, lambda number, frame: os._exit(9))
        elif what == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif what == "say":
            print(do.pop(0).replace("_", " "), flush=True)
        elif what == "exit":
            sys.exit(int(do.pop(0)))
        elif what == "kill":
            os.kill(os.getpid(), int(do.pop(0)))
"""


def write_suite(folder: Path, cells: int = 2, name: str = "small", settings: str = "") -> tuple[Path, Path]:
    """A suite of so many seeds of one backbone under one recipe with settings, and its site, whose data are empty."""
    (folder / "data").mkdir(exist_ok=True, parents=True)
    seeds = ", ".join(map(str, range(cells)))
    suite, site = folder / f"{name}.yaml", folder / "site.yaml"
    suite.write_text(
        "backbones: {b: random_vit_mini}\n"
        f"comparisons:\n  c: {{backbones: [b], recipes: mini_classification, seeds: [{seeds}], "
        f"set: {{{settings}}}}}\n"
    )
    site.write_text("data: {mini: data}\n")
    return suite, site


def plan_cells(
    folder: Path,
    do: Mapping[int, Sequence[str]] | None = None,
    cells: int = 2,
    *,
    name: str = "small",
    lease_seconds: float = 60.0,
    settings: str = "",
) -> SuitePlan:
    """A plan of `write_suite`, in the store `folder`/out; by seed, what each attempt at the cell does.

    With settings, which take the place of others, its runs lie elsewhere.
    """
    suite, site = write_suite(folder, cells, name, settings)
    plan = plan_suite(str(suite), folder / "out", site=site)
    script = {}
    for cell in plan.cells:
        key = cell.planned.digest if settings else f"{cell.seed:012x}"
        run = run_directory("", "classification", "mini", cell.planned.backbone, cell.seed, key)
        record = make_record(
            key=key, seed=cell.seed, plan=cell.planned.digest, backbone=cell.planned.backbone, dataset="mini"
        )
        actions = (do or {}).get(cell.seed, ["finish"])
        script[cell.name] = {"run": str(run), "record": record.to_json(), "do": list(actions)}
    (folder / "out").mkdir(exist_ok=True)
    (folder / "out/script").write_text(json.dumps({"cells": script, "lease": lease_seconds}))
    return plan


def name_of(seed: int) -> str:
    return f"c-b-mini_classification-seed{seed}"


def use_stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let cells' processes be the stand-in's, and nothing in the loop take long."""
    program = folder / "stand_in.py"
    if not program.exists():
        program.write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, str(program)))
    monkeypatch.setattr(judging, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(work, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(work, "SECONDS_BETWEEN_LOOKS_AT_OTHERS", 0.05)


class Course:
    """What `on_change` is told."""

    def __init__(self, react: Callable[[Job, str], None] = lambda job, what: None) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.react = react

    def __call__(self, job: Job, what: str, state: CellState | None) -> None:
        self.told.append((job.name, what, state.reason if state else ""))
        self.react(job, what)

    def of(self, what: str) -> list[str]:
        return [name for name, each, _ in self.told if each == what]

    def reasons(self, what: str) -> list[str]:
        return [reason for _, each, reason in self.told if each == what]


def beginnings(out: Path) -> list[str]:
    """The cells that processes have begun with, in that order."""
    path = out / "beginnings"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def state_of(plan: SuitePlan, seed: int) -> CellState:
    return SuiteFolder(plan.out, plan.name).cell(name_of(seed)).read()


class SuiteProcess:
    """A process of the suite that `plan_cells` has planned before in the folder; it ends with the block."""

    def __init__(
        self,
        folder: Path,
        lease_seconds: float = 60.0,
        *,
        ignoring: tuple[signal.Signals, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.output = folder / f"output-{time.monotonic_ns()}"
        self.process = processes_of_tests.Process(
            target=_carry_out, args=(folder, lease_seconds, self.output, ignoring, dict(environment or {}))
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self, seconds: float = 60.0) -> int | None:
        """Its exit status; None if it has not ended within so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def __enter__(self) -> "SuiteProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.join()


def _carry_out(
    folder: Path,
    lease_seconds: float,
    output: Path,
    ignoring: tuple[signal.Signals, ...],
    environment: Mapping[str, str],
) -> None:
    """Become a suite process; what it says goes to a file."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it, and so would what it forks
    for number in ignoring:
        signal.signal(number, signal.SIG_IGN)
    lease.LEASE_SECONDS = lease_seconds
    patch = pytest.MonkeyPatch()
    use_stand_in(patch, folder)
    plan = plan_suite(str(folder / "small.yaml"), folder / "out", site=folder / "site.yaml")
    with output.open("w") as file:
        course = Course(lambda job, what: print(job.name, what, file=file, flush=True))
        outcome = work_on(plan, on_change=course)
        print("failed", len(outcome.failed), "unfinished", len(outcome.unfinished), file=file, flush=True)
    sys.exit(130 if outcome.interrupted else 1 if outcome.failed else 75 if outcome.unfinished else 0)


def wait_until(happens: Callable[[], object], seconds: float = 60.0) -> None:
    """Raises AssertionError if it has not happened within so many seconds."""
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.01)


def carried_out(plan: SuitePlan, **options: Any) -> tuple[SuiteOutcome, Course]:
    """What comes of a plan, and what was told of its course."""
    course = Course()
    return work_on(plan, on_change=course, **options), course
