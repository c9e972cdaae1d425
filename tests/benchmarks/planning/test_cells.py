"""Planned cells: what they need, and which record answers to them."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from backbones.errors import InputError
from backbones.training.settings import protocol
from benchmarks.planning.cells import PlannedCell, find_planned_backbone, parse_backbone, plan_pretraining, plan_task
from benchmarks.running.repeating import Code, Repeat, find_standing
from benchmarks.running.writing import write_record
from results import Record, ResultsError, find_records, run_directory
from results.latest import latest_of_each_key
from tests.support.checkpoint_examples import save
from tests.support.folders import forbid
from tests.support.in_process import call, refusal
from tests.support.results_examples import make_record

RECIPE = "mini_classification"


def planned(backbone: str = "random_vit_mini", seed: int = 0, *overrides: str) -> PlannedCell:
    return plan_task(RECIPE, Path("shapes"), backbone, seed=seed, overrides=list(overrides))


@pytest.fixture
def finish(tmp_path: Path) -> Callable[..., Path]:
    """Leave the record of a plan behind, as carrying it out would; its directory."""

    def leave(plan: PlannedCell, precision: str = "fp32", **fields: object) -> Path:
        settings = plan.recipe.model_copy(update={"precision": precision}).model_dump(mode="json")
        about = {"task": plan.recipe.task, "backbone": plan.backbone, "protocol": protocol(settings), **fields}
        record: Record = make_record(seed=plan.seed, **about)
        directory = run_directory(tmp_path, record.task, "shapes", record.backbone, record.seed, record.key, record.run)
        write_record(directory, record)
        return directory

    return leave


def test_a_plan_reads_no_image_and_needs_no_data_to_be_there() -> None:
    plan = planned("mae_vit_mini=weights.pth")
    assert plan.missing == [Path("shapes"), Path("weights.pth")]
    assert (plan.backbone, plan.seed, plan.recipe.task) == ("mae_vit_mini", 0, "classification")
    pretraining = plan_pretraining("mae_vit_mini", Path("shapes"), seed=3, overrides=[])
    assert (pretraining.backbone, pretraining.seed, pretraining.missing) == ("mae_vit_mini_patch8", 3, [Path("shapes")])


def test_a_plan_says_how_it_deviates() -> None:
    assert planned().deviations == ()
    assert planned("random_vit_mini", 0, "schedule.epochs=3").deviations == ("schedule.epochs=3 (reference 12)",)


def test_the_record_of_the_same_run_answers(tmp_path: Path, finish: Callable[..., Path]) -> None:
    plan = planned()
    assert plan.find_record(tmp_path) is None
    directory = finish(plan)
    found = plan.find_record(tmp_path)
    assert found is not None and found[0] == directory


@pytest.mark.parametrize(
    "other",
    [
        planned("random_vit_tiny"),
        planned("random_vit_mini", 1),
        planned("random_vit_mini", 0, "optimizer.weight_decay=0.2"),
        planned("random_vit_mini", 0, "precision=bf16"),
    ],
    ids=["backbone", "seed", "setting", "precision"],
)
def test_the_record_of_another_run_does_not(tmp_path: Path, finish: Callable[..., Path], other: PlannedCell) -> None:
    finish(planned())
    assert other.find_record(tmp_path) is None


def test_where_the_machine_goes_about_it_otherwise_the_record_still_answers(
    tmp_path: Path, finish: Callable[..., Path]
) -> None:
    finish(planned())
    assert planned("random_vit_mini", 0, "runtime.workers=0", "precision=fp32").find_record(tmp_path)


def test_the_weights_have_to_be_the_same(tmp_path: Path, finish: Callable[..., Path]) -> None:
    weights = save({"cls_token": torch.zeros(1)}, tmp_path, "weights.pth")
    plan = planned(f"mae_vit_mini={weights}")
    finish(plan, checkpoint_sha256="0" * 64)
    assert plan.find_record(tmp_path) is None
    directory = finish(plan, checkpoint_sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    found = plan.find_record(tmp_path)
    assert found is not None and found[0] == directory


def test_a_record_of_an_earlier_version_answers(tmp_path: Path, finish: Callable[..., Path]) -> None:
    settings = planned().recipe.model_copy(update={"precision": "fp32"}).model_dump(mode="json")
    directory = finish(planned(), protocol={}, recipe_settings=settings)
    found = planned().find_record(tmp_path)
    assert found is not None and found[0] == directory


def test_a_file_is_no_data_and_a_folder_no_weights(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    plan = plan_task(RECIPE, tmp_path / "file", f"mae_vit_mini={tmp_path / 'folder'}", seed=0, overrides=[])
    assert plan.missing == [tmp_path / "file", tmp_path / "folder"]


def test_a_backbone_of_another_model_is_a_deviation() -> None:
    entry, plan = find_planned_backbone(planned("random_vit_tiny"))
    assert (entry.name, plan.deviations) == ("random_vit_tiny", ("model=ViT-Ti (reference ViT-mini)",))
    assert find_planned_backbone(planned())[1].deviations == ()


@pytest.mark.parametrize(
    ("backbone", "told"),
    [
        ("mae_vit_mni", "no such name"),
        ("mae_vit_mini", "needs its checkpoint"),
        ("random_vit_mini=F", "no checkpoint"),
        ("tests.support.strangers:without_arguments", "its function is called as (image_size, drop_path), by position"),
    ],
)
def test_a_dry_run_refuses_a_backbone_as_a_run_does(tmp_path: Path, backbone: str, told: str) -> None:
    fixed = ["run", "--recipe", RECIPE, "--data", tmp_path, "--out", tmp_path, "--dry-run"]
    assert told in refusal(*fixed, "--backbone", backbone)


@pytest.mark.parametrize(
    ("recipe", "backbone", "setting", "told"),
    [
        (
            "mini_knn",
            "resnet10t",
            "model.image_size=64",
            'key "features.pool": "token", and resnet10t has no class token',
        ),
        ("mini_linear_grid", "resnet10t", "model.image_size=64", 'key "grid.pools": "token", and resnet10t has no'),
        ("mini_few_labels", "random_vit_mini", "features.layers=4", ""),
        ("imagenet_knn", "dinov2_vit_base=FILE", "features.pool=avg", ""),
        (
            "imagenet_logistic_regression",
            "mae_vit_base=FILE",
            "features={pool: avg, layers: 2}",
            'key "features.layers": 2',
        ),
        (
            "mini_linear_probing",
            "resnet10t",
            "model.pool=token",
            'key "model.pool": "token" needs a backbone with a class',
        ),
        ("mini_partial_fine_tuning", "random_vit_mini", "model.trained_blocks=5", "expected at most 4, as many as"),
        ("mini_partial_fine_tuning", "resnet18", "model.trained_blocks=1", "ResNet has no list of blocks"),
        ("ade20k_dense_probing", "resnet18", "features.layers=4", "4: ResNet is probed on its last map alone"),
        ("ade20k_dense_probing", "mae_vit_base=FILE", "features.layers=4", ""),
        ("mini_knn", "tests.support.strangers:without_arguments", "features.layers=4", "is called as (image_size"),
    ],
)
def test_a_dry_run_refuses_a_backbone_without_what_the_recipe_takes_of_it(
    tmp_path: Path, recipe: str, backbone: str, setting: str, told: str
) -> None:
    """Whether the weights are there or not; an own function is not called for it."""
    fixed = ["run", "--recipe", recipe, "--data", tmp_path, "--out", tmp_path, "--dry-run", "--set", setting]
    result = call(*fixed, "--backbone", backbone)
    assert result.exit_code == (2 if told else 1 if "=" in backbone else 0), result.output
    assert told in result.output


OWN_IN_TIMM = """
import timm.models
from backbones import register_method
from torch import nn

register_method("of mine")

class Own(nn.Module):
    embed_dim = 16

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 8, 8)

    def forward_features(self, images):
        maps = self.stem(images)
        return maps / float(maps.std())

    def forward_intermediates(self, images):
        raise NotImplementedError

    def group_matcher(self, coarse=False):
        return {"stem": "^stem"}

@timm.models.register_model
def own_of_timms_interface(pretrained=False, **options):
    print("called")
    return Own()
"""


def test_a_dry_run_does_not_call_a_function_that_another_author_has_registered_in_timm(tmp_path: Path) -> None:
    """Whose model may read its numbers, or its weights, as one without numbers cannot."""
    plugin = tmp_path / "own_in_timm.py"
    plugin.write_text(OWN_IN_TIMM)
    fixed = ["--plugin", plugin, "--backbone", "own_of_timms_interface", "--data", tmp_path, "--out", tmp_path]
    result = call("run", "--recipe", "mini_knn", "--set", "features.pool=avg", "--dry-run", *fixed)
    assert result.exit_code == 0, result.output
    assert "called" not in result.output


def test_a_backbone_whose_folder_has_the_same_name_is_another(
    tmp_path: Path, finish: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.py").write_text("def vit(image_size, drop_path): ...")
    monkeypatch.syspath_prepend(tmp_path)
    finish(planned("models:vit"))
    assert planned("models:vit").find_record(tmp_path)
    with pytest.raises(InputError, match="models-vit: no such name"):
        planned("models-vit").find_record(tmp_path)


@pytest.mark.parametrize("argument", ["", "=FILE", "mae_vit_base=", "mae_vit_base=FILE::"])
def test_half_a_backbone_is_refused(argument: str) -> None:
    with pytest.raises(InputError, match="expected NAME or NAME=CHECKPOINT"):
        parse_backbone(argument)


def test_a_dry_run_says_what_is_missing_and_runs_nothing(tmp_path: Path) -> None:
    fixed = ["run", "--recipe", RECIPE, "--data", tmp_path / "nowhere", "--out", tmp_path / "out", "--dry-run"]
    result = call(*fixed, "--backbone", f"mae_vit_mini={tmp_path / 'weights.pth'}", "--set", "schedule.epochs=3")
    assert result.exit_code == 1, result.output
    assert f"missing: {tmp_path / 'nowhere'}" in result.output
    assert f"missing: {tmp_path / 'weights.pth'}" in result.output
    assert "deviates: schedule.epochs=3 (reference 12)" in result.output
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_is_there_but_of_another_kind(tmp_path: Path) -> None:
    data, weights = tmp_path / "file", tmp_path / "downloaded"
    data.write_text("")
    weights.mkdir()
    fixed = ["run", "--recipe", RECIPE, "--data", data, "--out", tmp_path / "out", "--dry-run"]
    result = call(*fixed, "--backbone", f"mae_vit_mini={weights}")
    assert result.exit_code == 1 and "missing" not in result.output
    assert f"unfit: {data}: is a file. Expected the data set's root folder\n" in result.output
    assert f"unfit: {weights}: a folder without weights. Expected model.safetensors or" in result.output


def test_a_dry_run_finds_what_is_finished(tmp_path: Path, finish: Callable[..., Path]) -> None:
    plan = planned()
    fixed = ["run", "--recipe", RECIPE, "--data", tmp_path, "--out", tmp_path, "--dry-run"]
    result = call(*fixed, "--backbone", plan.backbone)
    assert result.exit_code == 0 and "to be run" in result.output
    directory = finish(plan)
    result = call(*fixed, "--backbone", plan.backbone)
    assert (
        result.exit_code == 0 and f"finished on imagenet1k, if those are the data still: {directory}" in result.output
    )


def test_planners_calls_and_tables_agree_on_the_latest_run(tmp_path: Path, finish: Callable[..., Path]) -> None:
    """Whatever the clocks of two machines said."""
    plan = planned()
    first = finish(plan, key="0123456789ab", finished_at=datetime(2026, 1, 2, tzinfo=UTC))
    second = finish(plan, key="0123456789ab", finished_at=datetime(2026, 1, 1, tzinfo=UTC), run=2)
    found = plan.find_record(tmp_path)
    standing = find_standing(first, Repeat(), Code(""), lambda: None)
    (counted,) = latest_of_each_key(record for _, record in find_records([tmp_path]))
    assert found is not None and found[0] == standing.directory == second
    assert found[1].run == standing.run == counted.run == 2


def test_an_earlier_run_that_cannot_be_read_is_named_and_passed_over(
    tmp_path: Path, finish: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (finish(planned(), key="0123456789ab", run=run) for run in (1, 2))
    (first / "record.json").write_text("{")
    standing = find_standing(first, Repeat(), Code(""), lambda: None)
    assert (standing.directory, standing.run) == (second, 2)
    assert f"passed over: {first / 'record.json'}: not a record" in capsys.readouterr().err


def test_an_earlier_run_whose_directory_is_closed_is_named_and_passed_over(
    tmp_path: Path,
    finish: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = (finish(planned(), key="0123456789ab", run=run) for run in (1, 2))
    forbid(monkeypatch, first / "record.json", even_to_look=True)
    standing = find_standing(first, Repeat(), Code(""), lambda: None)
    assert (standing.directory, standing.run) == (second, 2)
    assert f"passed over: {first / 'record.json'}" in capsys.readouterr().err
    forbid(monkeypatch, second / "record.json", even_to_look=True)
    with pytest.raises(ResultsError, match=f"{second.name}/record.json"):
        find_standing(first, Repeat(), Code(""), lambda: None)
