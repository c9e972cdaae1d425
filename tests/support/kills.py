"""A suite whose processes and cells are killed at random, beside the same suite left alone.

    python -m tests.support.kills DATA OUT [--kills 30] [--cells 4] [--seed 0] [--pause 4]

DATA is what `backbench data mini` writes. Two processes of the suite share the cells; each kill hits one of them, or a
cell that is at work, with SIGKILL, SIGTERM or SIGINT. What has ended is started again, as a user or a scheduler does.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.running.owners import holder_in
from benchmarks.scheduling.folders import SuiteFolder
from results import find_records
from tests.support.commands import comparable

HOUSE = Path(__file__).parents[2]
NUMBERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
NAME = "kills"


@dataclass
class Course:
    """What was done to a suite, and how it went on.

    kills:    by what was hit and the signal
    starts:   of suite processes
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0


def write_suite(folder: Path, data: Path, cells: int) -> list[str]:
    """A suite of so many small trainings that save after every update; the arguments of its command."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = ", ".join(map(str, range(cells)))
    settings = "schedule.epochs: 2, schedule.warmup_epochs: 0, runtime.checkpoint_every: 1, runtime.workers: 0"
    (folder / f"{NAME}.yaml").write_text(
        "backbones: {random: random_vit_mini}\ncomparisons:\n  small:\n    backbones: [random]\n"
        f"    recipes: {{recipe: mini_classification, set: {{{settings}}}}}\n    seeds: [{seeds}]\n"
    )
    (folder / "site.yaml").write_text(f"data: {{mini: {data.absolute()}}}\n")
    return ["suite", str(folder / f"{NAME}.yaml"), "--site", str(folder / "site.yaml")]


def start(arguments: list[str], out: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks", *arguments, "--out", str(out)],
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)},
            start_new_session=True,
        )


def cells_at_work(out: Path) -> Iterator[int]:
    """The processes that carry cells out."""
    for path in sorted((out / "suites").glob("*/cells/*/process")):
        try:
            holder = holder_in(path.read_bytes())
        except OSError:
            continue
        if holder and not holder.is_dead:
            yield holder.pid


def carry_out_with_kills(
    arguments: list[str],
    out: Path,
    log: Path,
    kills: int,
    chance: random.Random,
    pause: float,
    patience: float = 3000.0,
) -> Course:
    """Let two processes of a suite share its cells, with so many kills on the way, until both end with 0."""
    course, until = Course(), time.monotonic() + patience
    suites: list[subprocess.Popen[bytes] | None] = [None, None]
    ends: list[int | None] = [None, None]
    while time.monotonic() < until:
        for number, suite in enumerate(suites):
            if suite and suite.poll() is not None:
                ends[number] = suite.returncode
            if suite is None or (ends[number] is not None and (ends[number] != 0 or _left(course, kills))):
                suites[number], ends[number] = start(arguments, out, log), None
                course.starts += 1
        if ends == [0, 0]:
            return course
        time.sleep(chance.uniform(0.0, 2 * pause))
        if not _left(course, kills):
            continue
        at_work, signalled = list(cells_at_work(out)), chance.choice(NUMBERS)
        target = chance.choice(["first suite", "second suite", "cell", "cell"])
        if target == "cell" and at_work:
            _send(chance.choice(at_work), signalled)
        elif target != "cell" and (suite := suites[target == "second suite"]) and suite.poll() is None:
            _send(suite.pid, signalled)
        else:
            continue
        course.kills[f"{target} {signalled.name}"] += 1
    raise AssertionError(f"not finished within {patience} s: {log.read_text()[-3000:]}")


def _left(course: Course, kills: int) -> bool:
    return course.kills.total() < kills


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def differences(out: Path, alone: Path, cells: int) -> list[str]:
    """What is not as in the suite that was left alone, or was written twice."""
    found = []
    ours, theirs = ({record.seed: record for _, record in find_records(each)} for each in (out, alone))
    for seed in range(cells):
        if seed not in ours or comparable(_as_dict(ours[seed])) != comparable(_as_dict(theirs[seed])):
            found.append(f"seed {seed}: another record")
    runs = [record for _, record in find_records(out)]
    if len(runs) != cells or {record.run for record in runs} != {1}:
        found.append(f"{len(runs)} records of {cells} cells")
    if len(list(out.glob("classification/*/*/*"))) != cells:
        found.append("more directories than cells")
    tables = [
        pd.read_csv(each / "results.csv").sort_values(["seed", "metric"])[["seed", "metric", "value"]]
        for each in (out, alone)
    ]
    if tables[0].values.tolist() != tables[1].values.tolist():
        found.append("another results.csv")
    folder = SuiteFolder(out, NAME)
    plan = folder.read()
    assert plan
    for job in plan.jobs:
        state = folder.cell(job.name).read()
        finishing = [attempt for attempt in state.attempts if attempt.status == 0]
        if state.outcome != "finished" or len(finishing) > 1:
            found.append(f"{job.name}: {state}")
    left = [
        path for pattern in ("**/.claim*", "**/owner*", "**/process*", "**/.*.??????*") for path in out.glob(pattern)
    ]
    return found + [f"left behind: {path}" for path in left]


def _as_dict(record: object) -> dict[str, object]:
    fields = record.model_dump(mode="json")  # type: ignore[attr-defined]
    fields["notes"] = [note for note in fields["notes"] if "resumed" not in note]
    return dict(fields)


def attempts(out: Path) -> Counter[int | None]:
    """How the attempts at all cells ended, by exit status."""
    folder = SuiteFolder(out, NAME)
    plan = folder.read()
    assert plan
    return Counter(each.status for job in plan.jobs for each in folder.cell(job.name).read().attempts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two kills, on average")
    chosen = parser.parse_args()
    arguments = write_suite(chosen.out, chosen.data, chosen.cells)
    alone, killed, log = (chosen.out / name for name in ("alone", "killed", "log.txt"))
    began = time.monotonic()
    assert start(arguments, alone, log).wait() == 0, log.read_text()[-3000:]
    print(f"left alone: {time.monotonic() - began:.0f} s", flush=True)
    course = carry_out_with_kills(arguments, killed, log, chosen.kills, random.Random(chosen.seed), chosen.pause)
    print(f"killed: {time.monotonic() - began:.0f} s in all; {course.starts} starts; {dict(course.kills)}")
    print(f"attempts by exit status: {dict(attempts(killed))}")
    found = differences(killed, alone, chosen.cells)
    print("\n".join(found) or "the same numbers, every cell once")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
