"""A store of before keys, plans and digests of code: read, tabled, compared, collected, and found by planners."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from backbones.training.later import later_settings
from benchmarks.planning.cells import plan_pretraining, plan_task
from benchmarks.planning.records import UNTIL_THEN, load_records
from results import read_results_csv
from tasks.registry import settings_kind
from tests.support.in_process import success

STORE = Path(__file__).parents[2] / "support/store_before_plans"
"""What pre-training, four classifications, a detection and a segmentation of seconds left behind, without weights."""

SHORT = {
    "classification": ("schedule.epochs=1", "schedule.warmup_epochs=0", "optimizer.batch_size=16"),
    "detection": ("schedule.iterations=2", "schedule.warmup_iterations=0", "optimizer.batch_size=2"),
}
SHORT |= {"pretraining": SHORT["classification"], "segmentation": SHORT["detection"]}
"""How they were called."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORE, tmp_path / "store"))


def test_every_record_is_read_with_its_numbers(store: Path) -> None:
    runs = load_records([store])
    assert len(runs) == 7
    for directory, record in runs:
        written = json.loads((directory / "record.json").read_text())
        assert [metric.model_dump() for metric in record.metrics] == written["metrics"]
        assert (record.key, record.plan, record.run, record.code) == (written["key"], "", 1, "")


def test_its_csv_is_read_and_made_anew_with_the_same_values(store: Path) -> None:
    before = read_results_csv(store / "results.csv")
    success("collect", store)
    with (STORE / "results.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    after = read_results_csv(store / "results.csv")
    assert after[columns].equals(before[columns])
    assert set(after["run"]) == {1}


@pytest.mark.parametrize(
    ("layout", "number"), [("transfer", "0.0 [0.0, 0.0] (2 seeds)"), ("coco", "0.0"), ("ade20k", "1.2 [0.0, 3.7]")]
)
def test_it_is_tabled(store: Path, layout: str, number: str) -> None:
    output = success("table", store, "--layout", layout).output.replace("**", "")
    assert f"| none             | {number} " in output


def test_it_is_compared(store: Path) -> None:
    folder = store / "classification/mini"
    output = success("compare", folder / "mae_vit_mini", folder / "random_vit_mini").output
    assert "both on the same 16 images, 2 seeds each" in output
    assert "not the same protocol" not in output


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_a_planner_finds_what_is_finished(store: Path, task: str) -> None:
    overrides = list(SHORT[task])
    plan = plan_task(f"mini_{task}", Path("shapes"), "random_vit_mini", seed=0, overrides=overrides)
    found = plan.find_record(store)
    assert found is not None and found[0].name.startswith("seed0-") and found[1].task == task
    other = plan_task(
        f"mini_{task}", Path("shapes"), "random_vit_mini", seed=0, overrides=[*overrides, "optimizer.weight_decay=0.3"]
    )
    assert other.find_record(store) is None


def test_a_planner_finds_a_finished_pretraining(store: Path) -> None:
    plan = plan_pretraining("mae_vit_mini", Path("shapes"), seed=0, overrides=list(SHORT["pretraining"]))
    found = plan.find_record(store)
    assert found is not None and found[1].task == "pretraining"


@pytest.mark.parametrize("task", UNTIL_THEN)
def test_what_it_has_beyond_todays_protocols_is_declared_as_neutral(task: str) -> None:
    declared = later_settings(settings_kind(task))
    for section, settings in UNTIL_THEN[task].items():
        assert declared[section].items() >= settings.items()
