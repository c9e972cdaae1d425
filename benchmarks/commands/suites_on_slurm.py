"""What `backbench suite --launcher slurm` prints: how each cell stands with Slurm."""

import shlex
from collections import Counter

from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.slurm_suite import submit_suite


def submit_and_tell(plan: SuitePlan, *, as_json: bool) -> bool:
    """Submit a suite's cells and print how each stands; whether all have finished, of which nothing is printed."""
    answers = submit_suite(plan)
    if all(answer.standing == "finished" for answer in answers.values()):
        return True
    sheet = Sheet(("cell", "state", "where"))
    sheet.rows.extend((name, answer.standing, answer.words) for name, answer in answers.items())
    if as_json:
        print_json({"cells": sheet.as_dicts()})
        return False
    show(sheet)
    counts = Counter(answer.standing for answer in answers.values())
    told = ", ".join(f"{count} {standing}" for standing, count in counts.items())
    follow = f"backbench status {shlex.quote(str(plan.out))}"
    plain_console().print(
        f"{told}. `{follow}` tells how they get on; the same command submits what is left then, and no cell twice",
        soft_wrap=True,
    )
    return False
