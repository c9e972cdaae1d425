"""Whether the record of a cell's run is of the suite as its plan has it now, told without suite and site."""

import json
from collections.abc import Mapping

from benchmarks.scheduling.folders import Job
from benchmarks.scheduling.progress import Result
from results.record import cell_key


def answers(job: Job, result: Result, made: Result | None, *, was_accepted: bool) -> bool:
    """Whether a record is of a run as the plan has it now, on whatever data, under the names that the suite gives it.

    made:         the record of the pre-training whose weights the cell takes; None where it takes none
    was_accepted: whether the cell was found to be finished: records of earlier versions do not tell of what plan they
                  are, and count then
    """
    if not job.declared.items() <= result.declared.items():
        return False
    if not result.plan:
        return was_accepted
    if job.plan:
        return result.plan == job.plan
    if not job.settings:
        return False
    # The weights are not known beforehand, or not here: they are those of the record, or of the run that made them.
    decided = json.loads(job.settings) | {"checkpoint": (made or result).checkpoint}
    return result.plan in (cell_key(decided), cell_key(decided | {"normalisation": result.normalisation}))


def has_changed(job: Job, own: Mapping[str, Job], now: Mapping[str, Job]) -> bool:
    """Whether a suite's plan has a cell, or the one whose weights it takes, otherwise than this process has it.

    Where the data lie, and how they are read, may differ from machine to machine.
    """
    other = now.get(job.name)
    if other is None:
        return False
    if (job.settings, job.declared, job.needs) != (other.settings, other.declared, other.needs):
        return True
    if job.plan and other.plan and job.plan != other.plan:  # of other weights
        return True
    return job.needs in own and has_changed(own[job.needs], own, now)
