"""A backbone's normalisation in keys, records, on the screen and in tables: the backbone's, not the protocol's."""

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import create_backbone, register_backbone
from backbones.images.normalisation import HALF, IMAGENET
from backbones.registry import _entries
from backbones.training.settings import deciding_settings, protocol
from benchmarks.planning.cells import PlannedCell, plan_pretraining, plan_task
from benchmarks.planning.records import complete
from benchmarks.running.writing import write_record
from results import Record, build_table, cell_key, run_directory
from tests.support.checkpoint_examples import beit_mini, save
from tests.support.commands import read_record
from tests.support.commands import run_directory as only_run
from tests.support.in_process import call, pretrain, refusal, run, success
from tests.support.results_examples import make_record

HALVES = "[0.5,0.5,0.5]"
OVERRIDE = {"model__mean": HALVES, "model__std": HALVES}
DEVIATIONS = [
    "model.mean=[0.5, 0.5, 0.5] (reference the backbone's own)",
    "model.std=[0.5, 0.5, 0.5] (reference the backbone's own)",
]
BRIGHT = "bright_vit_mini"


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> str:
    """The random ViT as a plug-in whose pixels lie between -1 and 1."""
    monkeypatch.setattr(sys.modules["backbones.registry"], "_entries", dict(_entries))
    options: dict[str, Any] = {"method": "Bright", "model": "ViT-mini", "needs_checkpoint": False}
    register_backbone(BRIGHT, mean=HALF.mean, std=HALF.std, **options)(
        lambda image_size, drop_path: create_backbone("random_vit_mini", None, image_size, drop_path)
    )
    return BRIGHT


def of(record: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in record["normalisation"].items()}


def key_without_normalisation(plan: PlannedCell, record: dict[str, Any]) -> str:
    """As a run's key was made before there was a choice."""
    return cell_key(
        {
            "recipe": deciding_settings(plan.recipe) | {"dataset": record["dataset"]},
            "backbone": record["backbone"],
            "checkpoint": None,
            "data": record["data_fingerprint"],
            "seed": record["seed"],
        }
    )


def as_planned(arguments: list[str], backbone: str) -> PlannedCell:
    overrides = [value for flag, value in pairwise(arguments) if flag == "--set"]
    return plan_task("mini_classification", Path("shapes"), backbone, seed=0, overrides=overrides)


def test_it_belongs_to_the_backbone_and_not_to_the_protocol(small: Path, tmp_path: Path, bright: str) -> None:
    result = success(*run(small, tmp_path / "bright", bright))
    assert "normalisation mean 0.5 0.5 0.5, std 0.5 0.5 0.5 (half)\n" in result.output
    success(*run(small, tmp_path / "plain"))
    ours, plain = read_record(tmp_path / "bright"), read_record(tmp_path / "plain")
    assert of(ours) == HALF.as_dict() and of(plain) == IMAGENET.as_dict()
    assert ours["train_loss"] != plain["train_loss"]
    assert ours["protocol"] == plain["protocol"] and ours["deviations"] == plain["deviations"]
    assert not any("mean" in name for name in ours["protocol"])
    for record, has_part in ((ours, True), (plain, False)):
        plan = as_planned(run(small, tmp_path), record["backbone"])
        assert (record["key"] != key_without_normalisation(plan, record)) == has_part


def test_an_override_is_a_deviation_of_the_protocol_and_the_key(small: Path, tmp_path: Path) -> None:
    success(*run(small, tmp_path / "plain"))
    success(*run(small, tmp_path / "other", **OVERRIDE))
    plain, other = read_record(tmp_path / "plain"), read_record(tmp_path / "other")
    assert of(other) == HALF.as_dict()
    assert sorted(other["deviations"]) == sorted([*plain["deviations"], *DEVIATIONS])
    assert {name: other["protocol"][name] for name in other["protocol"].keys() - plain["protocol"].keys()} == {
        "model.mean": "[0.5, 0.5, 0.5]",
        "model.std": "[0.5, 0.5, 0.5]",
    }
    assert other["key"] != plain["key"]


def test_a_pretraining_passes_its_own_on_to_what_is_fine_tuned_from_it(small: Path, tmp_path: Path) -> None:
    success(*pretrain(small / "unlabelled", tmp_path / "pretrained", **OVERRIDE))
    record = read_record(tmp_path / "pretrained")
    assert of(record) == HALF.as_dict() and set(DEVIATIONS) <= set(record["deviations"])
    folder = only_run(tmp_path / "pretrained") / "checkpoints"
    for name in ("encoder.pth", "autoencoder.pth"):
        content = torch.load(folder / name, weights_only=True)
        assert (content["mean"], content["std"]) == (HALF.mean, HALF.std)
    success(*run(small, tmp_path / "tuned", f"mae_vit_mini={folder / 'encoder.pth'}"))
    tuned = read_record(tmp_path / "tuned")
    assert of(tuned) == HALF.as_dict()
    assert not any(deviation.startswith("model.") for deviation in tuned["deviations"])


def test_it_is_shown_before_a_run(small: Path, tmp_path: Path, encoder: Path, bright: str) -> None:
    for backbone, shown in (
        (bright, HALF),
        ("random_vit_mini", IMAGENET),
        (f"mae_vit_mini={encoder}", IMAGENET),
    ):
        assert f"  normalisation {shown}\n" in success(*run(small, tmp_path, backbone), "--dry-run").output
    assert f"  normalisation {HALF}\n" in success(*run(small, tmp_path, **OVERRIDE), "--dry-run").output
    assert "normalisation" not in call(*run(small, tmp_path, "mae_vit_mini=absent.pth"), "--dry-run").output
    assert f"  normalisation {IMAGENET}\n" in success(*pretrain(small, tmp_path), "--dry-run").output
    assert "half" in next(line for line in success("list", "backbones").output.splitlines() if bright in line)


def inspected(*arguments: object) -> list[str]:
    return [" ".join(line.split()) for line in success("inspect", *arguments).output.splitlines()]


def test_inspect_shows_it_by_task_where_tasks_differ(tmp_path: Path, encoder: Path, bright: str) -> None:
    lines = inspected(encoder, "--backbone", "mae_vit_mini")
    assert f"normalisation {IMAGENET}" in lines and "mean [0.485, 0.456, 0.406]" in lines
    assert not any(line.startswith("normalisation") for line in inspected(encoder))
    register_backbone("beit_22k", method="BEiT", pretrain_data="IN22K", model="BEiT-mini")(
        lambda image_size, drop_path: beit_mini()
    )
    lines = inspected(save(beit_mini().state_dict(), tmp_path), "--backbone", "beit_22k")
    assert f"normalisation, classification {HALF}" in lines
    assert f"normalisation, segmentation {IMAGENET}" in lines


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model__mean": HALVES}, "mean and std belong together"),
        ({"model__mean": "[0.5,0.5]", "model__std": HALVES}, 'key "model.mean'),
        ({"model__mean": HALVES, "model__std": "[0.5,0,0.5]"}, "above 0"),
        ({"model__mean": "[124,116,104]", "model__std": "[58,57,57]"}, "divided by 255"),
    ],
)
@pytest.mark.parametrize("command", [run, pretrain])
def test_an_override_that_cannot_be_meant_is_refused(
    tmp_path: Path, command: Callable[..., list[str]], changes: dict[str, str], told: str
) -> None:
    message = refusal(*command(tmp_path, tmp_path, **changes))
    assert told in message and 'key "model' in message


@pytest.fixture
def finish(tmp_path: Path) -> Callable[..., Record]:
    """Leave the record of a plan behind, as carrying it out would."""

    def leave(plan: PlannedCell, **fields: Any) -> Record:
        settings = plan.recipe.model_copy(update={"precision": "fp32"}).model_dump(mode="json")
        about = {"task": plan.recipe.task, "backbone": plan.backbone, "protocol": protocol(settings)}
        record = make_record(seed=plan.seed, **about | fields)
        write_record(run_directory(tmp_path, record.task, "shapes", record.backbone, record.seed, record.key), record)
        return record

    return leave


def planned(backbone: str) -> PlannedCell:
    return plan_task("mini_classification", Path("shapes"), backbone, seed=0, overrides=[])


def test_a_record_of_another_normalisation_does_not_answer(
    tmp_path: Path, bright: str, finish: Callable[..., Record]
) -> None:
    finish(planned(bright), normalisation=IMAGENET.as_dict())
    assert planned(bright).find_record(tmp_path) is None
    finish(planned(bright), normalisation=HALF.as_dict())
    assert planned(bright).find_record(tmp_path)


def test_a_record_before_there_was_a_choice_was_made_under_imagenets(
    tmp_path: Path, finish: Callable[..., Record]
) -> None:
    for backbone in ("random_vit_mini", "vit_tiny_patch16_224"):
        finish(planned(backbone))
    assert planned("random_vit_mini").find_record(tmp_path)
    assert planned("vit_tiny_patch16_224").find_record(tmp_path) is None


def test_a_pretraining_of_another_normalisation_does_not_answer(tmp_path: Path, finish: Callable[..., Record]) -> None:
    plain, other = (
        plan_pretraining("mae_vit_mini", Path("shapes"), seed=0, overrides=each)
        for each in ([], [f"model.mean={HALVES}", f"model.std={HALVES}"])
    )
    finish(plain, normalisation=IMAGENET.as_dict())
    assert plain.find_record(tmp_path) and other.find_record(tmp_path) is None


def test_an_earlier_versions_record_is_one_of_imagenets() -> None:
    record = make_record()
    fields = {name: value for name, value in json.loads(record.to_json()).items() if name != "normalisation"}
    assert complete(Record.from_json(json.dumps(fields))).normalisation == IMAGENET.as_dict()


def test_seeds_of_unlike_normalisations_are_not_averaged() -> None:
    """Those that one and the same timm model had before there was a choice, and has since."""
    records = [complete(make_record(80.0, 0)), make_record(82.0, 1, normalisation=HALF.as_dict())]
    records.append(make_record(81.0, 2, normalisation=IMAGENET.as_dict()))
    (block,) = build_table(records, "imagenet").blocks
    numbers = [cell for row in block.rows for cell in row.cells if cell is not None and not isinstance(cell, float)]
    assert sorted((number.value, number.seeds) for number in numbers) == [(80.5, (0, 2)), (82.0, (1,))]
    assert sorted(number.note for number in numbers) == [
        "normalisation mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        "normalisation mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
    ]


def test_unlike_normalisations_are_ranked_beside_each_other() -> None:
    """BEiT pre-trained on ImageNet-22K at 0.5 and MAE at ImageNet's: one protocol."""
    same = {"protocol": {"optimizer.lr": "0.1"}}
    mae = make_record(83.6, normalisation=IMAGENET.as_dict(), **same)
    beit = make_record(83.2, method="BEiT", backbone="beit_vit_base", normalisation=HALF.as_dict(), **same)
    (block,) = build_table([mae, beit], "imagenet").blocks
    numbers = {
        row.labels[0]: cell
        for row in block.rows
        for cell in row.cells
        if cell is not None and not isinstance(cell, float)
    }
    assert numbers["MAE"].best and not numbers["BEiT"].best
    assert not numbers["BEiT"].note and block.remarks == ()
