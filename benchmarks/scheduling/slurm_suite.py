"""A suite by jobs of Slurm: what is neither finished nor queued is submitted, in arrays that ask for the same."""

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from backbones.errors import InputError
from benchmarks.launching import slurm
from benchmarks.launching.slurm import Submitted
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.plan import SuitePlan
from benchmarks.planning.suites.slurm_settings import SlurmRequest
from benchmarks.running.lease import HeldByAnotherError, Lease, find_owner
from benchmarks.scheduling import carrying
from benchmarks.scheduling.answering import has_changed
from benchmarks.scheduling.finished import find_finished, is_told, settle
from benchmarks.scheduling.folders import CellFolder, Job, Plan, SuiteFolder, write_plan
from benchmarks.scheduling.slurm_cell import carry_out, waiting_state

JOBS, SLURM_LOG = "slurm", "slurm.txt"
"""In a suite's folder what submitit writes; in a cell's the link to Slurm's messages."""

Standing = Literal["finished", "queued", "submitted", "at work", "waits", "missing"]


@dataclass(frozen=True)
class Answer:
    """How a cell stands after a submission: since when, where, or for what it waits, in words."""

    standing: Standing
    words: str = ""


@dataclass
class _Submission:
    plan: SuitePlan
    folder: SuiteFolder
    requests: Mapping[str, SlurmRequest]
    written: Plan
    numbers: dict[str, str] = field(default_factory=dict)
    """Of the jobs that are in the queue, by cell."""


def submit_suite(plan: SuitePlan) -> dict[str, Answer]:
    """Submit what of a suite is neither finished nor queued nor at work, and say of every cell how it stands.

    Raises InputError where Slurm refuses, TryAgainError where it does not answer or another process submits this suite,
    OSError where the store cannot be written.
    """
    folder = SuiteFolder(plan.out.absolute(), plan.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        submitting = Lease(folder.path / "submitting", patience=60)
    except HeldByAnotherError as error:
        raise InputError(f"{folder.path}: {error} is submitting this suite. Repeat the command") from error
    with submitting:
        written = write_plan(folder, plan)
        requests = {cell.name: plan.site.slurm.of_recipe(cell.recipe) for cell in plan.cells}
        submission = _Submission(plan, folder, requests, written)
        states = {job.name: carrying.read_state(folder.cell(job.name)) for job in written.jobs}
        submission.numbers = {name: state.job for name, state in states.items() if state.job}
        queued = slurm.find_queued(submission.numbers.values())
        submission.numbers = {name: number for name, number in submission.numbers.items() if number in queued}
        answers: dict[str, Answer] = {}
        left = []
        for planned, job in zip(plan.cells, written.jobs, strict=True):
            answer = _standing(planned, job, submission, queued)
            if answer:
                answers[job.name] = answer
            else:
                left.append(job)
        _submit(left, submission, answers)
        return {job.name: answers[job.name] for job in written.jobs}


def _standing(planned: SuiteCell, job: Job, submission: _Submission, queued: Mapping[str, str]) -> Answer | None:
    """How a cell stands that is not to be submitted; None of one that is."""
    cell = submission.folder.cell(job.name)
    if number := submission.numbers.get(job.name):
        if has_changed(job, submission.written.by_name, cell.read_submitted()):
            del submission.numbers[job.name]
            with_others = f"with other settings: `scancel {number}`, and repeat the command"
            return Answer("queued", f"job {number}, {queued[number].lower()}, {with_others}")
        return Answer("queued", f"job {number}, {queued[number].lower()}")
    if run := find_finished(planned, submission.folder):
        _note_finished(planned, run, cell, submission.folder)
        return Answer("finished")
    owner = find_owner(cell.owner)
    if owner and owner.lives is not False:
        return Answer("at work", owner.name)
    if worker := carrying.find_worker(cell):
        return Answer("at work", worker)
    return Answer("missing", "; ".join(job.missing)) if job.missing else None


def _note_finished(planned: SuiteCell, run: Path, cell: CellFolder, folder: SuiteFolder) -> None:
    """Write down that a cell has finished whose job could not say so any more, or by a run that is not told as its."""
    state = carrying.read_state(cell)
    if (state.outcome == "finished" or not state.attempts) and is_told(planned, folder, run):
        return
    cell.path.mkdir(parents=True, exist_ok=True)
    with suppress(HeldByAnotherError), Lease(cell.owner) as claim:
        settle(planned, folder, run)
        carrying.write_outcome(cell, claim, "finished")


def _submit(left: list[Job], submission: _Submission, answers: dict[str, Answer]) -> None:
    """Submit cells that need nothing first, then those that wait for them."""
    for of_second in (False, True):
        groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
        for job in left:
            if bool(job.needs) != of_second:
                continue
            after = submission.numbers.get(job.needs, "")
            if job.needs and not after and answers.get(job.needs, Answer("finished")).standing != "finished":
                answers[job.name] = Answer("waits", f"for {job.needs}. Repeat the command once it is finished")
                continue
            groups[submission.requests[job.name].model_dump_json(), after].append(job)
        for (_, after), jobs in groups.items():
            for job, submitted in zip(jobs, _submit_array(jobs, submission, after), strict=True):
                submission.numbers[job.name] = submitted.number
                before = _note(submission.folder.cell(job.name), submitted, submission.written.of(job))
                waits = f", after job {after}" if after else ""
                answers[job.name] = Answer("submitted", f"job {submitted.number}{waits}{before}")


def _submit_array(jobs: list[Job], submission: _Submission, after: str) -> list[Submitted]:
    request, folder = submission.requests[jobs[0].name], submission.folder
    limits = (request.signal_seconds, request.max_requeues)
    calls = [(str(folder.out), folder.name, job.model_dump_json(), launcher_of(request), *limits) for job in jobs]
    said_in = submission.plan.site.said_in
    try:
        return slurm.submit(carry_out, calls, folder.path / JOBS, options_of(request, folder.name), after=after)
    except InputError as error:
        raise InputError(f"{said_in}, section slurm: {error}" if said_in else str(error)) from error


def _note(cell: CellFolder, submitted: Submitted, plan: Plan) -> str:
    """Write a job's number into its cell's state, which the job waits for, its plan beside, and link Slurm's messages.

    Returns what became of the cell before, in words; empty of one that has not failed.
    """
    cell.path.mkdir(parents=True, exist_ok=True)
    cell.write_submitted(plan)
    state = carrying.read_state(cell)
    with suppress(HeldByAnotherError), Lease(cell.owner):
        state = carrying.read_state(cell)
        cell.write(waiting_state(state, submitted.number))
    link = cell.path / SLURM_LOG
    with suppress(OSError):  # of a file system without links the folder `slurm` has them
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(submitted.log, cell.path.absolute()))
    return f"; failed before: {state.reason}" if state.outcome == "failed" else ""


def launcher_of(request: SlurmRequest) -> tuple[str, ...]:
    """srun as it starts a cell's processes: all of the job's tasks, each with its processors."""
    tasks = (f"--nodes={request.nodes}", f"--ntasks-per-node={request.tasks_per_node}")
    return ("srun", *tasks, f"--cpus-per-task={request.cpus_per_task}")


def options_of(request: SlurmRequest, suite: str) -> dict[str, Any]:
    """What sbatch is told, by submitit's names."""
    own = {"kill_on_invalid_dep": "yes", "requeue": True, "mem": request.memory}
    extra = {name.replace("-", "_"): value for name, value in request.extra.items()}
    named = {name: getattr(request, name) for name in ("partition", "account", "qos", "constraint", "exclude", "time")}
    return {
        **named,
        "job_name": f"backbench-{suite}",
        "nodes": request.nodes,
        "ntasks_per_node": request.tasks_per_node,
        "gpus_per_node": request.gpus_per_node or None,
        "cpus_per_task": request.cpus_per_task,
        "array_parallelism": request.array_parallelism,
        "signal_delay_s": request.signal_seconds,
        "setup": list(request.setup) or None,
        "additional_parameters": {name: value for name, value in (own | extra).items() if value not in (None, False)},
    }
