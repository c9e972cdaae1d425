"""`NAME=FILE::PART`: the part decides the key, and keys without one are as they were."""

from pathlib import Path

import pytest
import torch

from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET
from benchmarks.planning.cells import PlannedCell, plan_task
from tests.support.checkpoint_examples import save


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    state = {"cls_token": torch.zeros(1)}
    return save({"teacher": {f"backbone.{name}": each for name, each in state.items()}, "student": state}, tmp_path)


def planned(weights: object, backbone: str = "vit_tiny_patch16_224") -> PlannedCell:
    return plan_task("mini_classification", Path("shapes"), f"{backbone}={weights}", seed=0, overrides=[])


def test_a_part_decides_the_key(weights: Path) -> None:
    whole, teacher, student = (planned(f"{weights}{part}") for part in ("", "::teacher.backbone", "::student"))
    assert "part" not in whole.decided_by("0" * 64, IMAGENET)
    assert teacher.decided_by("0" * 64, IMAGENET) == whole.decided_by("0" * 64, IMAGENET) | {"part": "teacher.backbone"}
    assert len({whole.digest, teacher.digest, student.digest}) == 3
    assert {plan.checkpoint for plan in (whole, teacher, student)} == {weights}
    assert student.missing == [Path("shapes")]


def test_two_parts_are_planned_apart_though_the_file_is_known(weights: Path) -> None:
    assert planned(f"{weights}::student").normalisation == planned(f"{weights}::teacher").normalisation == HALF
    with pytest.raises(InputError, match=r"has no part 'ema'.*there are teacher, student, teacher\.backbone"):
        _ = planned(f"{weights}::ema").digest


def test_a_file_may_have_colons_in_its_name(weights: Path) -> None:
    odd = weights.rename(weights.with_name("a::b.pth"))
    assert (planned(odd).checkpoint, planned(odd).part) == (odd, "")
    assert (planned(f"{odd}::student").checkpoint, planned(f"{odd}::student").part) == (odd, "student")
    assert planned("absent.pth::ema").missing == [Path("shapes"), Path("absent.pth")]
