"""What `backbench suite --launcher slurm` prints: how each cell stands with Slurm."""

import shlex
from collections import Counter

from benchmarks.commands.console import plain_console
from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.commands.suites import carry_out_suite
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.scheduling.slurm_suite import submit_suite


def submit_and_tell(plan: SuitePlan, *, as_json: bool) -> int:
    """Submit a suite's cells and print how each stands; the exit status, 1 if data or weights are missing.

    A suite whose cells have all finished comes to the end that it has without Slurm.
    """
    answers = submit_suite(plan)
    if all(answer.standing == "finished" for answer in answers.values()):
        return carry_out_suite(plan)
    sheet = Sheet(("cell", "state", "where"))
    sheet.rows.extend((name, answer.standing, answer.words) for name, answer in answers.items())
    if as_json:
        print_json({"cells": sheet.as_dicts()})
    else:
        show(sheet)
        counts = Counter(answer.standing for answer in answers.values())
        told = ", ".join(f"{count} {standing}" for standing, count in counts.items())
        follow = f"backbench status {shlex.quote(str(plan.out))}"
        plain_console().print(
            f"{told}. `{follow}` tells how they get on; the same command submits what is left then, and no cell twice",
            soft_wrap=True,
        )
    return 1 if any(answer.standing == "missing" for answer in answers.values()) else 0
