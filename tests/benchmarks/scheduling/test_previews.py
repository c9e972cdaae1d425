"""What of a suite's cells is foreseen: hours by what was measured, and on how many of which devices."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backbones.training.settings import deciding_settings, protocol
from benchmarks.commands import suite_plans
from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.running.of_suite import tell_run
from benchmarks.running.writing import write_record
from benchmarks.scheduling.folders import SuiteFolder
from benchmarks.scheduling.previews import preview
from results import run_directory
from tests.support.results_examples import make_record
from tests.support.suites import write_suite


@pytest.fixture
def plan(tmp_path: Path) -> SuitePlan:
    """Of two cells, whose data are missing."""
    suite, site = write_suite(tmp_path)
    site.write_text("data: {}\n")
    return plan_suite(str(suite), tmp_path / "out", site=site)


def _measure(plan: SuitePlan, day: int, hours: float, **fields: Any) -> None:
    """A finished run of the same recipe and model, of another seed."""
    planned, seed = plan.cells[0].planned, 100 + day
    names = {"task": "classification", "dataset": "mini", "recipe": planned.recipe_name, "model": plan.cells[0].column}
    took = {"total_seconds": 3600 * hours, "finished_at": datetime(2026, 1, day, tzinfo=UTC)}
    settings = dict(protocol(deciding_settings(planned.recipe)))
    record = make_record(seed=seed, backbone=planned.backbone, protocol=settings, **names, **took, **fields)
    directory = run_directory(plan.out, "classification", "mini", planned.backbone, seed, record.key)
    directory.mkdir(parents=True)
    write_record(directory, record)


def test_hours_are_those_of_the_latest_devices_and_told_with_them(plan: SuitePlan) -> None:
    _measure(plan, 1, 40.0, device="NVIDIA H100")
    _measure(plan, 2, 5.0, device="NVIDIA H100", world_size=8)
    _measure(plan, 3, 7.0, device="NVIDIA H100", world_size=8)
    found = preview(plan)
    assert [(each.hours, each.devices) for each in found] == [(6.0, "8 × NVIDIA H100")] * 2
    assert suite_plans._in_all(found).startswith("2 cells: 2 missing; 12 h on 8 × NVIDIA H100, ")
    _measure(plan, 4, 41.0, device="NVIDIA H100")
    assert {(each.hours, each.devices) for each in preview(plan)} == {(40.5, "NVIDIA H100")}


MADE_BY_ITSELF = """\
pretraining: {p: mae_vit_mini}
backbones: {a: {backbone: mae_vit_mini, weights: "@p"}}
comparisons: {c: {backbones: a, recipes: mini_classification}}
"""


def test_what_has_finished_stays_finished_when_the_encoder_behind_it_is_removed(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(MADE_BY_ITSELF)
    plan = plan_suite(str(tmp_path / "own.yaml"), tmp_path / "out")
    sha256 = "ab" * 32
    for cell in plan.cells:
        planned = cell.planned
        record = make_record(
            task=cell.task,
            dataset="mini",
            backbone=planned.backbone,
            plan="" if cell.needs else planned.digest,
            checkpoint_sha256=sha256,
        )
        directory = run_directory("", cell.task, "mini", planned.backbone, 0, record.key)
        (plan.out / directory).mkdir(parents=True)
        write_record(plan.out / directory, record)
        of_cell = SuiteFolder(plan.out, plan.name).cell(cell.name).path
        of_cell.mkdir(parents=True)
        tell_run(of_cell, directory)
    assert [each.state for each in preview(plan)] == ["finished", "finished"]
