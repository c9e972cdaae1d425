"""Weights of a ViT-H in the tasks: its patches of 14 pixels, and files that hold filters of 16."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from backbones.weights.patches import FILTERS
from tests.support.checkpoint_examples import published_mae, save, shrink_vit_huge
from tests.support.commands import read_record, run_arguments
from tests.support.detection_runs import detection
from tests.support.in_process import refusal_before_training, success
from tests.support.segmentation_runs import segmentation

SIZES = {"model__image_size": 64, "model__relative_position": "false", "schedule__iterations": 2}
DENSE = {"coco": detection, "ade20k": segmentation}


@pytest.fixture(autouse=True)
def small_vit_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_vit_huge(monkeypatch)


@pytest.mark.parametrize("layout", DENSE)
@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (14, "14×14 → 16×16 pixels, bicubic"),
        (16, "filters of 16×16 pixels as they are in the file, in place of 14×14"),
    ],
)
def test_dense_tasks_take_either_and_tell(mini: Path, tmp_path: Path, layout: str, patch: int, told: str) -> None:
    arguments: Callable[..., list[str]] = DENSE[layout]
    weights = save({"model": published_mae(patch, 4)}, tmp_path)
    changes = {**SIZES, "model__patch_resampling": "bicubic"}
    success(*arguments(mini / layout, tmp_path / "out", f"mae_vit_huge={weights}", **changes))
    record = read_record(tmp_path / "out")
    assert record["load_report"]["converted"] == {FILTERS: told}
    assert "model.patch_resampling=bicubic (reference pseudo_inverse)" in record["deviations"]
    (path,) = (tmp_path / "out").glob("**/iteration_2.pth")
    model = torch.load(path, weights_only=True)["model"]
    (filters,) = (tensor for name, tensor in model.items() if name.endswith(FILTERS))
    assert filters.shape == (32, 3, 16, 16)


def test_classification_needs_filters_of_its_own_patches(mini: Path, tmp_path: Path) -> None:
    weights = save({"model": published_mae(16, 4)}, tmp_path)
    changes = {"model__image_size": 56, "schedule__epochs": 1, "schedule__warmup_epochs": 0, "runtime__workers": 0}
    message = refusal_before_training(*run_arguments(mini, tmp_path, f"mae_vit_huge={weights}", **changes))
    assert "classification needs the one that has filters of 14×14" in message
