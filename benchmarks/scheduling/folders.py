"""What lies in a store of a suite: its plan, and a folder for each cell with its state, its log and its owner.

OUT/suites/SUITE/plan.json
OUT/suites/SUITE/cells/CELL/{state.json, log.txt, owner}, by the suite's process
OUT/suites/SUITE/cells/CELL/{process, run, end}, by the cell's own
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from backbones.errors import InputError
from backbones.training.writing import written_whole
from benchmarks.running.inventory import SUITES
from benchmarks.running.of_suite import PROCESS, read_run
from results.errors import StoreError

if TYPE_CHECKING:
    from benchmarks.planning.suites.cells import SuiteCell
    from benchmarks.planning.suites.plan import SuitePlan  # imports torch, and whoever looks on does not wait for it

PLAN, CELLS = "plan.json", "cells"

Content = TypeVar("Content", bound=BaseModel)


class _Written(BaseModel):
    """What is kept as JSON; what later versions add is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Job(_Written):
    """A cell as whoever carries it out, or looks on, needs to know it, without suite and site.

    arguments: of `backbench`; in them "@NAME" stands for the weights that the cell NAME of the suite makes
    needs:     that cell; empty for none
    missing:   what has to be there first
    plan:      what its record says of that, where its weights are known beforehand
    settings:  as JSON, what decides its number beside data, weights and normalisation
    declared:  the names that it gives its weights, by those of the record
    """

    name: str
    arguments: tuple[str, ...]
    task: str
    dataset: str
    backbone: str
    recipe: str
    seed: int
    comparison: str = ""
    table: str = ""
    method: str = ""
    pretrain_data: str = ""
    column: str = ""
    expected: dict[str, float] = {}
    needs: str = ""
    missing: tuple[str, ...] = ()
    plan: str = ""
    settings: str = ""
    declared: dict[str, str] = {}


class Plan(_Written):
    """A suite's cells, for those who carry them out elsewhere and those who look on.

    file: the suite's, or the name of a packaged one
    """

    suite: str
    about: str = ""
    file: str = ""
    jobs: tuple[Job, ...]

    @property
    def by_name(self) -> dict[str, Job]:
        return {job.name: job for job in self.jobs}

    def of(self, job: Job) -> "Plan":
        """That of a cell and the one whose weights it takes alone."""
        return self.model_copy(update={"jobs": tuple(each for each in self.jobs if each.name in (job.name, job.needs))})


Outcome: TypeAlias = Literal["finished", "failed", "stopped"]


class Attempt(_Written):
    """One process that carried a cell out.

    by:     who started it, "process 12 on host"
    status: its exit status, negative for a signal; None while it is at work, or where nobody saw its end
    token:  what it is known by to its process
    """

    by: str
    began: AwareDatetime
    ended: AwareDatetime | None = None
    status: int | None = None
    token: str = ""


class CellState(_Written):
    """What became of a cell until now.

    outcome: of the last attempt that ended for good; None before there is one
    reason:  why it failed, in its process's words
    job:     Slurm's number for it, where it was submitted
    times:   how often its time was over since then, and Slurm put it back into the queue
    stops:   how often it was put back since then because somebody else than Slurm had told it to end
    """

    outcome: Outcome | None = None
    reason: str = ""
    job: str = ""
    times: int = 0
    stops: int = 0
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class CellFolder:
    """Where a cell's state, log and owner are."""

    path: Path
    out: Path

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def owner(self) -> Path:
        return self.path / "owner"

    @property
    def submitted(self) -> Path:
        """What of the plan was submitted with its job of Slurm: itself, and the cell that makes its weights."""
        return self.path / "submitted.json"

    @property
    def process(self) -> Path:
        """The lease of the process that carries it out, whoever has started that."""
        return self.path / PROCESS

    @property
    def run(self) -> Path | None:
        """The directory of its run; None before it has one."""
        told = read_run(self.path)
        return self.out / told.directory if told else None

    def read(self) -> CellState:
        """Its state, that of one that never began where there is none. Raises StoreError for a damaged file."""
        return _read(self.state, CellState) or CellState()

    def write(self, state: CellState) -> None:
        """Raises OSError if it cannot be written."""
        _write(self.state, state)

    def read_submitted(self) -> dict[str, Job]:
        """What of the plan its job of Slurm is for, by cell; nothing where that is not known."""
        with suppress(StoreError):
            plan = _read(self.submitted, Plan)
            return plan.by_name if plan else {}
        return {}

    def write_submitted(self, plan: Plan) -> None:
        """Raises OSError if it cannot be written."""
        _write(self.submitted, plan)


@dataclass(frozen=True)
class SuiteFolder:
    """Where a suite's plan and cells are, in a store."""

    out: Path
    name: str

    @property
    def path(self) -> Path:
        return self.out / SUITES / self.name

    @property
    def plan(self) -> Path:
        return self.path / PLAN

    def cell(self, name: str) -> CellFolder:
        return CellFolder(self.path / CELLS / name, self.out)

    def read(self) -> Plan | None:
        """The plan; None where there is none. Raises StoreError for a damaged file."""
        return _read(self.plan, Plan)

    def write(self, plan: Plan) -> None:
        """Raises OSError if it cannot be written."""
        _write(self.plan, plan)


def find_suites(out: Path) -> list[SuiteFolder]:
    """The suites that a store holds."""
    return [SuiteFolder(out, path.parent.name) for path in sorted((out / SUITES).glob(f"*/{PLAN}"))]


def jobs_of(plan: "SuitePlan") -> Plan:
    """A suite's plan as its folder has it."""
    jobs = tuple(_job_of(cell, plan.out.absolute()) for cell in plan.cells)
    return Plan(suite=plan.name, about=plan.suite.about, file=plan.file, jobs=jobs)


def _job_of(cell: "SuiteCell", out: Path) -> Job:
    from backbones.images.normalisation import IMAGENET
    from benchmarks.planning.names import given

    return Job(
        name=cell.name,
        arguments=tuple(cell.arguments(out)),
        task=cell.task,
        dataset=cell.dataset,
        backbone=cell.planned.backbone,
        recipe=cell.planned.recipe_name,
        seed=cell.seed,
        comparison=cell.comparison,
        table=cell.table,
        method=cell.method,
        pretrain_data=cell.pretrain_data,
        column=cell.column,
        expected=dict(cell.expected),
        needs=cell.needs,
        missing=cell.missing,
        plan=_digest_of(cell),
        settings=json.dumps(cell.planned.decided_by(None, IMAGENET), sort_keys=True),
        declared=given(cell.planned.declared),
    )


def _digest_of(cell: "SuiteCell") -> str:
    """What the record of a cell says of its plan; empty while its weights are not there, or to be made by another."""
    if cell.needs:
        return ""
    try:
        return cell.planned.digest
    except (InputError, OSError):
        return ""


def with_others(plan: Plan, earlier: Plan | None) -> Plan:
    """A plan of some of a suite's cells, and of an earlier plan the others."""
    jobs = {job.name: job for job in (*(earlier.jobs if earlier else ()), *plan.jobs)}
    return plan.model_copy(update={"jobs": tuple(jobs.values())})


def write_plan(folder: SuiteFolder, plan: "SuitePlan") -> Plan:
    """Write a suite's plan into its folder, beside the cells that it leaves as they are; the plan of its own cells.

    Raises OSError if it cannot be written, and as `read_earlier` does.
    """
    own, earlier = jobs_of(plan), read_earlier(folder, plan)
    if plan.is_part:
        folder.write(with_others(own, earlier))
    else:
        others = _finished_seeds(own, earlier, folder) if earlier else ()
        folder.write(own.model_copy(update={"jobs": (*own.jobs, *others)}))
    return own


def read_earlier(folder: SuiteFolder, plan: "SuitePlan") -> Plan | None:
    """The plan that is there before a call; None where there is none, or a damaged one of which nothing would be kept.

    Raises InputError if it is of another suite of the same name, StoreError for a damaged one with cells to be kept.
    """
    try:
        earlier = folder.read()
    except StoreError:
        if plan.is_part:
            raise
        return None
    if earlier and plan.is_another_than(earlier.file):
        raise InputError(
            f"suite {plan.file}: {folder.path} is of another suite of that name, {earlier.file}. Rename the file, or "
            "give another --out"
        )
    return earlier


def _finished_seeds(own: Plan, earlier: Plan, folder: SuiteFolder) -> tuple[Job, ...]:
    """What an earlier plan has finished of the same cells with other seeds, such as a call with --seeds had."""
    names, known = {job.name for job in own.jobs}, {_but_for_seed(job) for job in own.jobs}
    others = (job for job in earlier.jobs if job.name not in names and _but_for_seed(job) in known)
    return tuple(job for job in others if _has_finished(folder.cell(job.name)))


def _but_for_seed(job: Job) -> tuple[str, ...]:
    """What says of two cells that they differ in their seed at most, wherever they are run."""
    options = list(zip(job.arguments[1::2], job.arguments[2::2], strict=False))
    deciding = [
        f"{option} {value}"
        for option, value in options
        if option not in ("--seed", "--data", "--out") and not value.startswith("runtime.")
    ]
    return (job.name.removesuffix(f"-seed{job.seed}"), *deciding)


def _has_finished(cell: CellFolder) -> bool:
    try:
        return cell.read().outcome == "finished"
    except StoreError:
        return False


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def with_weights_of(arguments: Sequence[str], needs: str, folder: SuiteFolder) -> list[str]:
    """The arguments, with the file that the pre-training `needs` has made; as they are where none is needed."""
    encoder = weights_of(needs, folder)
    if encoder is None:
        return list(arguments)
    return [
        text.replace(f"=@{needs}", f"={encoder}", 1) if before == "--backbone" else text
        for before, text in zip(["", *arguments], arguments, strict=False)
    ]


def weights_of(needs: str, folder: SuiteFolder) -> Path | None:
    """The file that the pre-training `needs` makes; None where none is needed, or its run has no directory yet."""
    run = folder.cell(needs).run if needs else None
    return run / "checkpoints/encoder.pth" if run else None


def _read(path: Path, kind: type[Content]) -> Content | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path}: cannot be read: {error}. Remove it and repeat the suite's command") from error


def _write(path: Path, content: BaseModel) -> None:
    try:
        with written_whole(path, safe_from_power_cuts=False) as file:
            file.write((json.dumps(content.model_dump(mode="json"), indent=1) + "\n").encode())
    except OSError as error:  # which names no file where it is full
        raise OSError(error.errno, error.strerror, str(path)) from error
