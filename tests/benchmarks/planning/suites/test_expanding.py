"""Suites, sites and what becomes of them: which cells, under which settings, with which data and weights."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from backbones.errors import InputError
from benchmarks.planning.suites.cells import SuiteCell
from benchmarks.planning.suites.looking import require_sound
from benchmarks.planning.suites.plan import SuitePlan, plan_suite
from benchmarks.planning.suites.site import load_site
from benchmarks.running.writing import write_record
from results import run_directory
from tests.support.results_examples import make_record

RIGHT: dict[str, Any] = {
    "backbones": {"a": "random_vit_mini", "b": {"backbone": "mae_vit_mini", "weights": "mae.pth"}},
    "comparisons": {"one": {"backbones": ["a", "b"], "recipes": "mini_classification"}},
}


def _plan(folder: Path, content: Mapping[str, Any], site: Mapping[str, Any] | None = None, **call: Any) -> SuitePlan:
    (folder / "my.yaml").write_text(yaml.safe_dump(dict(content)))
    (folder / "site.yaml").write_text(yaml.safe_dump(dict(site or {"data": {}})))
    return plan_suite(str(folder / "my.yaml"), folder / "runs", site=folder / "site.yaml", **call)


def _one(**changes: Any) -> dict[str, Any]:
    return {**RIGHT, "comparisons": {"one": {**RIGHT["comparisons"]["one"], **changes}}}


def test_settings_of_recipe_comparison_and_backbone_are_laid_over_each_other(tmp_path: Path) -> None:
    use = {"recipe": "mini_classification", "set": {"schedule": {"epochs": 9, "warmup_epochs": 1}, "source": "mine"}}
    content = _one(backbones="a", recipes=use, set={"schedule.epochs": 8, "optimizer.batch_size": 16})
    content["backbones"] = {"a": {"backbone": "random_vit_mini", "set": {"optimizer.batch_size": 32}}}
    (cell,) = _plan(tmp_path, content).cells
    recipe = cell.planned.recipe
    assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs, recipe.optimizer.batch_size) == (8, 1, 32)
    assert cell.overrides == (
        "schedule.epochs=8",
        "schedule.warmup_epochs=1",
        "source=mine",
        "optimizer.batch_size=32",
    )


def test_each_seed_is_a_cell(tmp_path: Path) -> None:
    cells = _plan(tmp_path, _one(backbones="a", seeds=[3, 0])).cells
    assert [(cell.name, cell.seed) for cell in cells] == [
        ("one-a-mini_classification-seed3", 3),
        ("one-a-mini_classification-seed0", 0),
    ]
    assert cells[0].planned.digest != cells[1].planned.digest
    assert [cell.seed for cell in _plan(tmp_path, _one(backbones="a"), seeds=3).cells] == [0, 1, 2]


def test_what_a_site_says_is_in_the_command_and_decides_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/mae.pth").write_bytes(b"")
    site = {
        "data": {"mini": "MINI"},
        "weights": "weights",
        "runtime": {"all": {"workers": 2}, "mini_classification": {"log_every": 7}},
    }
    (tmp_path / "MINI").mkdir()
    _, cell = _plan(tmp_path, RIGHT, site).cells
    command = cell.arguments(tmp_path / "runs")
    assert cell.missing == ()
    assert command[: command.index("--out")] == [
        *("run", "--recipe", "mini_classification", "--data", str(tmp_path / "MINI")),
        *("--backbone", f"mae_vit_mini={tmp_path / 'weights/mae.pth'}"),
    ]
    assert command[-4:] == ["--set", "runtime.workers=2", "--set", "runtime.log_every=7"]
    assert cell.planned.recipe.runtime.log_every == 50


def test_variables_come_before_the_site_file(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("data: {coco: here, mini: there}\nweights: [a]\n")
    environment = {
        "BACKBENCH_SITE": str(tmp_path / "site.yaml"),
        "BACKBENCH_DATA_MINI": "/elsewhere",
        "BACKBENCH_DATA_MINI_COCO": "/scenes",
        "BACKBENCH_WEIGHTS": "/one:/two",
    }
    site = load_site(environment=environment)
    assert site.root("coco2017") == site.root("coco") == tmp_path / "here"
    assert (site.root("mini"), site.root("mini-coco")) == (Path("/elsewhere"), Path("/scenes"))
    assert site.folders == (Path("/one"), Path("/two"), tmp_path / "a")


def test_paths_hold_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("site.yaml").write_text("data: {coco: ~/coco}\nweights: a\n")
    environment = {
        "BACKBENCH_SITE": "site.yaml",
        "BACKBENCH_DATA_MINI": "MINI",
        "BACKBENCH_DATA_MINI_COCO": "~/scenes",
        "BACKBENCH_WEIGHTS": "~/one:two",
    }
    site = load_site(environment=environment)
    assert (site.root("mini"), site.root("mini-coco")) == (tmp_path / "MINI", tmp_path / "home/scenes")
    assert (site.root("coco2017"), site.said_in) == (tmp_path / "home/coco", tmp_path / "site.yaml")
    assert site.folders == (tmp_path / "home/one", tmp_path / "two", tmp_path / "a")
    Path("short.yaml").write_text("extends: mini_classification\nschedule: {epochs: 1, warmup_epochs: 0}\n")
    Path("my.yaml").write_text(yaml.safe_dump(_one(backbones="a", recipes="short.yaml")))
    (cell,) = plan_suite("my.yaml", "runs").cells
    assert cell.arguments(Path("o"))[:3] == ["run", "--recipe", str(tmp_path / "short.yaml")]
    Path("mae.pth").write_bytes(b"")
    (own,) = plan_suite("my.yaml", "runs", backbone="mae_vit_mini=mae.pth").cells
    assert f"mae_vit_mini={tmp_path / 'mae.pth'}" in own.arguments(Path("o"))


def test_names_of_data_that_are_nearly_those_asked_for(tmp_path: Path) -> None:
    content = _one(backbones="a")
    (cell,) = _plan(tmp_path, content, {"data": {"minii": "."}}).cells
    assert cell.missing == (f'data mini: not in {tmp_path}/site.yaml. Did you mean "minii"?',)
    (cell,) = _plan(tmp_path, content, {"data": {"imagenet1k": "."}}).cells
    assert cell.missing == (f"data mini: not in {tmp_path}/site.yaml",)
    (cell,) = _plan(tmp_path, _one(backbones="a", recipes="mini_detection"), {"data": {"mini_coco": "."}}).cells
    assert not cell.missing


def test_a_suite_lays_its_sections_over_what_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(RIGHT))
    content = {
        "extends": "base.yaml",
        "replace": {
            "recipes": {"mini_classification": {"recipe": "mini_classification", "set": {"optimizer.base_lr": 0.5}}},
            "backbones": {"b": "random_vit_tiny"},
            "data": {"mini": "theirs"},
        },
        "comparisons": {"two": {"backbones": "a", "recipes": "mini_detection"}},
    }
    cells = _plan(tmp_path, content, {"data": {"theirs": "."}}).cells
    assert [cell.name for cell in cells] == [
        "one-a-mini_classification-seed0",
        "one-b-mini_classification-seed0",
        "two-a-mini_detection-seed0",
    ]
    assert [cell.planned.backbone for cell in cells] == ["random_vit_mini", "random_vit_tiny", "random_vit_mini"]
    assert [cell.dataset for cell in cells] == ["theirs", "theirs", "mini-coco"]
    assert cells[0].overrides == ("optimizer.base_lr=0.5",)
    assert not cells[0].missing
    content["comparisons"] = {"one": None, **content["comparisons"]}
    del content["replace"]
    assert [cell.name for cell in _plan(tmp_path, content).cells] == ["two-a-mini_detection-seed0"]


def test_recipes_of_ones_own_lie_beside_the_suite(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("extends: mini_classification\nschedule: {epochs: 1, warmup_epochs: 0}\n")
    site = {"runtime": {"short.yaml": {"workers": 0}}}
    (cell,) = _plan(tmp_path, _one(backbones="a", recipes="short.yaml"), site).cells
    assert (cell.name, cell.recipe) == ("one-a-short-seed0", str(tmp_path / "short.yaml"))
    assert dict(cell.runtime) == {"workers": 0}


def test_what_is_tuned_for_a_method_has_a_row_of_its_own(tmp_path: Path) -> None:
    tuned = {"backbone": "mae_vit_mini", "weights": "mae.pth", "set": {"optimizer.base_lr": 0.1}}
    content = {**RIGHT, "backbones": {"a": "random_vit_mini", "b": tuned}}
    with pytest.raises(InputError, match="All methods of a table run under one recipe"):
        _plan(tmp_path, content)
    content["backbones"]["b"] = tuned | {"method": "MAE, tuned"}
    assert [cell.method for cell in _plan(tmp_path, content).cells] == ["random", "MAE, tuned"]
    content["backbones"]["b"] = tuned | {"set": {"runtime.workers": 0}}  # decides no number
    assert len(_plan(tmp_path, content).cells) == 2


@pytest.mark.parametrize("method", ["MAE", "mae", "MoCo v3"])
def test_a_methods_own_name_is_no_row_for_what_is_tuned(method: str, tmp_path: Path) -> None:
    tuned = {"backbone": "mae_vit_mini", "weights": "mae.pth", "method": method, "set": {"optimizer.base_lr": 0.1}}
    with pytest.raises(InputError, match="All methods of a table run under one recipe"):
        _plan(tmp_path, {**RIGHT, "backbones": {"a": "random_vit_mini", "b": tuned}})
    untuned = {key: value for key, value in tuned.items() if key != "set"}
    assert len(_plan(tmp_path, {**RIGHT, "backbones": {"a": "random_vit_mini", "b": untuned}}).cells) == 2


def test_what_is_tuned_may_stand_first(tmp_path: Path) -> None:
    tuned = {"backbone": "mae_vit_mini", "weights": "mae.pth", "set": {"optimizer.base_lr": 0.1}}
    content = _one(backbones=["tuned", "a", "b"])
    content["backbones"] = RIGHT["backbones"] | {"tuned": tuned | {"method": "MAE, tuned"}}
    assert [cell.method for cell in _plan(tmp_path, content).cells] == ["MAE, tuned", "random", "MAE"]
    content = _one(backbones=["tuned", "other"])
    content["backbones"] = {"tuned": tuned | {"method": "MAE, tuned"}}
    content["backbones"]["other"] = tuned | {"method": "MAE, tuned", "set": {"optimizer.base_lr": 0.2}}
    with pytest.raises(InputError, match="All methods of a table run under one recipe"):  # one row, two settings
        _plan(tmp_path, content)


def test_files_of_ones_own_come_before_anything_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr("benchmarks.planning.suites.expanding.import_files", seen.extend)
    content = {"plugins": "mine.py", **_one(backbones="a")}
    (cell,) = _plan(tmp_path, content, plugins=["more.py"]).cells
    assert seen == [tmp_path / "mine.py", Path("more.py").absolute()]
    arguments = cell.arguments(tmp_path)
    assert arguments[-4:] == ["--plugin", str(seen[0]), "--plugin", str(seen[1])]


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, {"top1": 70.5}),
        ({"pretraining": {"mae": {"recipe": "mae_vit_base", "set": {"schedule.epochs": 100}}}}, {}),
        ({"replace": {"data": {"imagenet1k": "mine"}}}, {}),
    ],
)
def test_weights_that_are_pretrained_otherwise_have_no_published_number(
    change: dict[str, Any], expected: dict[str, float], tmp_path: Path
) -> None:
    content = _one(backbones="b", recipes="inat2017_vit_base") | {
        "pretraining": {"mae": {"recipe": "mae_vit_base"}},
        "backbones": {"b": {"backbone": "mae_vit_base", "weights": "@mae"}},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    _, cell = _plan(tmp_path, {"extends": "base.yaml", **change}).cells
    assert (dict(cell.expected), cell.method, cell.pretrain_data) == (expected, "MAE", "IN1K")


@pytest.mark.parametrize("recipe, expected", [("mae_vit_large", {"top1": 85.9}), ("mae_vit_large_800ep", {})])
def test_an_ablations_encoder_has_no_number_of_the_tables(
    recipe: str, expected: dict[str, float], tmp_path: Path
) -> None:
    """With 800 epochs and plain pixels the paper has 84.9 of it (MAE, table 1d)."""
    content = _one(backbones="b", recipes="imagenet_vit_large") | {
        "pretraining": {"mae": {"recipe": recipe}},
        "backbones": {"b": {"backbone": "mae_vit_large", "weights": "@mae"}},
    }
    _, cell = _plan(tmp_path, content).cells
    assert dict(cell.expected) == expected


@pytest.mark.parametrize(
    "said, row, expected",
    [
        ({}, ("MAE", "IN1K"), {"top1": 83.6}),
        ({"pretraining_deviations": "schedule.epochs=2 (reference 1600)"}, ("MAE", "IN1K"), {}),
        ({"pretrain_data": "photos"}, ("MAE", "photos"), {}),
    ],
)
def test_a_file_of_weights_that_says_otherwise_takes_the_published_number_away(
    said: dict[str, str], row: tuple[str, str], expected: dict[str, float], tmp_path: Path
) -> None:
    """Before its cell is run, as its record will."""
    weights = {"blocks.0.norm1.weight": torch.ones(768)}
    torch.save({"model": weights, "method": "MAE", "pretrain_data": "IN1K"} | said, tmp_path / "mae.pth")
    content = _one(backbones="b", recipes="imagenet_vit_base")
    content["backbones"] = {"b": {"backbone": "mae_vit_base", "weights": "mae.pth"}}
    plan = _plan(tmp_path, content, {"weights": [str(tmp_path)]})
    (cell,) = require_sound(plan).cells
    assert ((cell.method, cell.pretrain_data), dict(cell.expected)) == (row, expected)
    assert cell.planned == plan.cells[0].planned


def test_two_hundred_cells_are_planned_and_found_in_a_moment(tmp_path: Path) -> None:
    seeds = [*range(100)]
    call: dict[str, Any] = {"site": {"data": {"mini": "."}}}
    plan = _plan(
        tmp_path, {**RIGHT, "backbones": {"a": "random_vit_mini", "b": "random_vit_tiny"}} | _seeds(seeds), **call
    )
    assert len(plan.cells) == 200
    for cell in plan.cells:
        put_record(plan.out, cell)
    began = time.monotonic()
    again = plan_suite(str(tmp_path / "my.yaml"), plan.out, site=tmp_path / "site.yaml")
    assert all(cell.planned.find_record(plan.out) for cell in again.cells)
    assert time.monotonic() - began < 200 * 0.02


def _seeds(seeds: list[int]) -> dict[str, Any]:
    return {"comparisons": {"one": {**RIGHT["comparisons"]["one"], "seeds": seeds}}}


def put_record(out: Path, cell: SuiteCell) -> None:
    """What a finished run of the cell leaves behind, as far as it is found by it."""
    planned = cell.planned
    key = hashlib.sha256(cell.name.encode()).hexdigest()[:12]
    directory = run_directory(out, cell.task, cell.dataset, planned.backbone, cell.seed, key)
    directory.mkdir(parents=True)
    names = {"task": cell.task, "dataset": cell.dataset, "backbone": planned.backbone, "seed": cell.seed}
    write_record(directory, make_record(plan=planned.digest, key=key, **names))


def test_a_pretraining_of_the_suite_makes_the_weights(tmp_path: Path) -> None:
    content = _one(backbones="b")
    content |= {
        "pretraining": {"mae": {"recipe": "mae_vit_mini", "data": "unlabelled"}},
        "backbones": {"b": {"backbone": "mae_vit_mini", "weights": "@mae"}},
    }
    first, cell = _plan(tmp_path, content, {"data": {"unlabelled": ".", "mini": "."}}).cells
    assert (first.name, first.dataset, first.arguments(Path("o"))[0]) == ("mae", "unlabelled", "pretrain")
    assert (cell.needs, cell.method, cell.pretrain_data) == ("mae", "MAE", "mini")
    assert (first.missing, cell.missing) == ((), ())
