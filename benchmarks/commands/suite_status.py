"""What `backbench status` prints."""

from pathlib import Path

from benchmarks.commands.sheets import Sheet, print_json, show
from benchmarks.scheduling.folders import find_suites


def show_status(out: Path, *, as_json: bool) -> None:
    """The cells of all suites of a store, with their states."""
    sheet = Sheet(("suite", "cell", "state", "reason"))
    for folder in find_suites(out):
        plan = folder.read()
        for job in plan.jobs if plan else ():
            state = folder.cell(job.name).read()
            sheet.rows.append((folder.name, job.name, state.outcome or "", state.reason))
    if as_json:
        print_json({"cells": sheet.as_dicts()})
    else:
        show(sheet)
