"""What a store keeps of a suite's plan from call to call."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from benchmarks.planning.suites.plan import plan_suite
from benchmarks.scheduling.folders import CellState, SuiteFolder, write_plan
from results.errors import StoreError
from tests.support.in_process import refusal
from tests.support.suites import name_of, write_suite


def _planned(folder: Path, **call: Any) -> SuiteFolder:
    suite, site = write_suite(folder, 1)
    plan = plan_suite(str(suite), folder / "out", site=site, **call)
    store = SuiteFolder(plan.out, plan.name)
    store.path.mkdir(parents=True, exist_ok=True)
    write_plan(store, plan)
    return store


def _names(store: SuiteFolder) -> list[str]:
    plan = store.read()
    assert plan is not None
    return [job.name for job in plan.jobs]


def _finish(store: SuiteFolder, seed: int) -> None:
    cell = store.cell(name_of(seed))
    cell.path.mkdir(parents=True)
    cell.write(CellState(outcome="finished"))


def test_more_seeds_that_have_finished_stay_the_suites(tmp_path: Path) -> None:
    store = _planned(tmp_path, seeds=3)
    assert _names(store) == [name_of(seed) for seed in range(3)]
    _finish(store, 1)
    assert _names(_planned(tmp_path)) == [name_of(0), name_of(1)]
    assert _names(_planned(tmp_path, seeds=1)) == [name_of(0), name_of(1)]


def test_other_seeds_under_other_settings_do_not(tmp_path: Path) -> None:
    store = _planned(tmp_path, seeds=2)
    _finish(store, 1)
    plan = json.loads(store.plan.read_text())
    plan["jobs"][1]["arguments"] += ["--set", "schedule.epochs=1"]
    store.plan.write_text(json.dumps(plan))
    assert _names(_planned(tmp_path)) == [name_of(0)]


def test_a_damaged_plan_is_made_anew_but_where_others_would_be_lost(tmp_path: Path) -> None:
    store = _planned(tmp_path)
    store.plan.write_text("")
    with pytest.raises(StoreError, match="Remove it and repeat"):
        _planned(tmp_path, seeds=2)
    assert _names(_planned(tmp_path)) == [name_of(0)]


def test_another_suite_of_the_same_name_is_refused(tmp_path: Path) -> None:
    suite, site = write_suite(tmp_path, 1)
    _planned(tmp_path)
    (tmp_path / "b").mkdir()
    other = tmp_path / "b/small.yaml"
    shutil.copy(suite, other)
    store = SuiteFolder(tmp_path / "out", "small")
    write_plan(store, plan_suite(str(other), tmp_path / "out", site=site))  # a copy goes on
    suite.write_text(suite.read_text().replace("seeds: [0]", "seeds: [5]"))
    with pytest.raises(InputError) as refused:
        write_plan(store, plan_suite(str(suite), tmp_path / "out", site=site))
    told = refusal("suite", suite, "--out", tmp_path / "out", "--site", site, "--dry-run")
    assert told.strip() == str(refused.value)
    assert str(refused.value) == (
        f"suite {suite}: {store.path} is of another suite of that name, {other}. Rename the file, or give another --out"
    )
    other.unlink()  # moved, then edited
    write_plan(store, plan_suite(str(suite), tmp_path / "out", site=site))
    assert _names(store) == [name_of(5)]


def test_an_own_suite_is_not_the_packaged_one_of_its_name(tmp_path: Path) -> None:
    write_suite(tmp_path, 1, "demo")
    packaged = plan_suite("demo", tmp_path / "out")
    store = SuiteFolder(packaged.out, "demo")
    store.path.mkdir(parents=True)
    write_plan(store, packaged)
    write_plan(store, packaged)
    with pytest.raises(InputError, match=r"is of another suite of that name, demo\. Rename the file"):
        write_plan(store, plan_suite(str(tmp_path / "demo.yaml"), tmp_path / "out"))


@pytest.mark.parametrize("below", ["", "runs"])
def test_a_file_is_no_place_for_runs(below: str, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    out = tmp_path / "notes" / below
    with pytest.raises(InputError) as refused:
        plan_suite("demo", out)
    told = f"--out {out}: {tmp_path}/notes is a file. Expected a folder, there already or to be made"
    assert str(refused.value) == told
