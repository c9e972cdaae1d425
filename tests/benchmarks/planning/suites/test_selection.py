"""Some of a suite's cells, and one backbone of the user's own through all of a suite's comparisons."""

from pathlib import Path
from typing import Any

import pytest

from backbones.errors import InputError
from benchmarks.planning.suites.plan import SuitePlan, plan_suite

TRANSFER = ("inat2017", "inat2018", "inat2019", "places205", "places365")


def _names(tmp_path: Path, *only: str, suite: str = "paper") -> list[str]:
    return [cell.name for cell in plan_suite(suite, tmp_path, only=only).cells]


@pytest.mark.parametrize(
    "only, count",
    [
        (("task=detection",), 8),
        (("task=detection,model=ViT-B",), 4),
        (("table=transfer,model=vit-h",), 5),
        (("method=moco v3", "method=dino"), 7),
        (("dataset=places205",), 4),
        (("recipe=inat2017_vit_huge_448",), 1),
        (("seed=0",), 45),
        (("cell=imagenet-mae_vit_base-imagenet_vit_base-seed0",), 1),
    ],
)
def test_only_some(only: tuple[str, ...], count: int, tmp_path: Path) -> None:
    assert len(_names(tmp_path, *only)) == count


def test_what_is_chosen_brings_the_pretraining_that_it_needs(tmp_path: Path) -> None:
    chosen = _names(tmp_path, "comparison=classification,backbone=pretrained", suite="demo")
    assert chosen == ["mae", "classification-pretrained-mini_classification-seed0"]
    assert "mae" not in _names(tmp_path, "backbone=random", suite="demo")


@pytest.mark.parametrize(
    "only, message",
    [
        ("taks=detection", "--only taks=detection: expected FIELD=VALUE,…, a field being one of cell, comparison, "),
        ("detection", "--only detection: expected FIELD=VALUE"),
        ("task=", "--only task=: expected FIELD=VALUE"),
        (
            "task=detektion",
            "--only task=detektion: no cell of the suite is so. There are: task: detection, segmentation, ",
        ),
        (
            "task=detection,task=classification",
            "--only task=detection,task=classification: task is there twice. For cells of either, repeat --only",
        ),
    ],
)
def test_only_what_there_is(only: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        _names(tmp_path, only)
    assert str(refused.value).startswith(message)


def test_of_several_each_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--only method=MEA: no cell of the suite is so"):
        _names(tmp_path, "task=detection", "method=MEA")


@pytest.mark.parametrize("count", [0, -1, 1001, 10**9])
def test_as_many_seeds_as_can_be_planned(count: int, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        plan_suite("demo", tmp_path, seeds=count)
    assert str(refused.value) == f"seeds: expected 1 to 1000; found {count}"


def _own(tmp_path: Path, backbone: str = "vit_base_patch16_224", **declared: Any) -> SuitePlan:
    (tmp_path / "my.pth").write_bytes(b"")
    return plan_suite("paper", tmp_path / "runs", backbone=f"{backbone}={tmp_path / 'my.pth'}", **declared)


def test_one_method_through_every_table(tmp_path: Path) -> None:
    plan = _own(tmp_path, method="MyMethod", pretrain_data="imagenet1k", model="vit_b")
    assert [cell.planned.recipe_name for cell in plan.cells] == [
        *("coco_fpn_vit_base", "ade20k_vit_base", "inat2017_vit_base", "inat2018_vit_base", "inat2019_vit_base"),
        *("places205_vit_base", "places365_vit_base", "imagenet_vit_base"),
    ]
    assert {(cell.method, cell.pretrain_data, cell.column) for cell in plan.cells} == {("MyMethod", "IN1K", "ViT-B")}
    assert plan.cells[0].name == "coco-MyMethod-coco_fpn_vit_base-seed0"
    arguments = plan.cells[0].arguments(plan.out)
    assert arguments[arguments.index("--method") :][:6] == [
        *("--method", "MyMethod", "--pretrain-data", "IN1K", "--model", "ViT-B")
    ]
    assert not any("my.pth" in text for cell in plan.cells for text in cell.missing)
    assert plan.notes == () and plan.suite.is_of_candidate


def test_sizes_that_the_paper_lacks_stand_in_a_column_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        _own(tmp_path, "convnext_tiny", method="Mine")
    assert str(refused.value) == (
        "--backbone convnext_tiny: the suite paper has no recipes for convnext_tiny. Give --model or --recipes-of, one "
        "of: ViT-B, ViT-L, ViT-H"
    )
    plan = _own(tmp_path, "convnext_tiny", method="Mine", recipes_of="ViT-Base")
    assert len(plan.cells) == 8
    assert {cell.column for cell in plan.cells} == {"convnext_tiny"}
    assert all("model=convnext_tiny (reference ViT-B)" in cell.planned.deviations for cell in plan.cells)
    assert not any(cell.expected for cell in plan.cells)


def test_two_image_sizes_of_a_size_that_the_paper_lacks_stand_apart(tmp_path: Path) -> None:
    plan = _own(tmp_path, "vit_huge_patch14_224", method="Mine", model="Mine-H", recipes_of="ViT-H")
    assert [(cell.planned.recipe_name, cell.column) for cell in plan.cells] == [
        *((f"{name}_vit_huge", "Mine-H") for name in TRANSFER),
        *((f"{name}_vit_huge_448", "Mine-H-448") for name in TRANSFER),
        ("imagenet_vit_huge", "Mine-H"),
        ("imagenet_vit_huge_448", "Mine-H-448"),
    ]
    for cell in plan.cells:
        arguments = cell.arguments(plan.out)
        assert arguments[arguments.index("--model") + 1] == cell.column
        assert f"model={cell.column} (reference ViT-H)" in " ".join(cell.planned.deviations)


def test_comparisons_without_a_recipe_of_the_size_are_named(tmp_path: Path) -> None:
    plan = _own(tmp_path, "vit_huge_patch14_224", method="Mine", model="ViT-H")
    assert [cell.table for cell in plan.cells] == ["transfer"] * 10 + ["imagenet"] * 2
    assert plan.notes == tuple(
        f"{name}: no recipes for ViT-H. There are those of: ViT-B, ViT-L" for name in ("coco", "ade20k")
    )


def test_each_candidate_has_a_folder_of_its_own_that_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/my.pth").write_bytes(b"")
    calls: list[dict[str, Any]] = [
        {"method": "Mine"},
        {"method": "Mine", "pretrain_data": "IN22K"},
        {"method": "Mine", "backbone": "vit_base_patch16_224", "recipes_of": "ViT-L"},
        {"method": "Mine/2"},
        {},
    ]
    names = [_own(tmp_path, **call).name for call in calls]
    names.append(plan_suite("paper", tmp_path, backbone=f"vit_base_patch16_224={tmp_path}/other/my.pth").name)
    assert len({*names, "paper"}) == len(calls) + 2
    assert [_own(tmp_path, **call).name for call in calls] == names[:-1]
    assert all(name.startswith("paper-") and "/" not in name for name in names)


@pytest.mark.parametrize("option", ["method", "pretrain_data", "model", "recipes_of"])
def test_what_tells_of_a_backbone_goes_with_one(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^--{option.replace('_', '-')}: goes with --backbone"):
        plan_suite("paper", tmp_path, **{option: "ViT-B"})


def test_a_candidate_that_is_wrong_is_told_by_its_option(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        plan_suite("paper", tmp_path, backbone="mae_vit_base", method="Mine")
    told = "--backbone mae_vit_base: mae_vit_base needs its checkpoint: --backbone mae_vit_base=FILE"
    assert str(refused.value) == told
