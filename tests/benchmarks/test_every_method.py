"""The script that puts every method through every task: its files are the authors', its table says what happened."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones.mae.model import create_mae
from backbones.registry import find_backbone
from benchmarks.mini import weights
from benchmarks.planning.recipe import load_recipe
from benchmarks.shown.every_method import TASKS, Cell, failure, row
from benchmarks.shown.weights import WRITERS
from tasks.registry import RECIPES
from tests.support.checkpoint_examples import load
from tests.support.small_architectures import beit, vit

BEIT = "tests.support.small_architectures:beit"


@pytest.mark.parametrize(
    ("content", "backbone", "dropped"),
    [
        (lambda: weights.deit(vit(48, 0.0)), "tests.support.small_architectures:vit", 2),
        (lambda: weights.moco_v3(vit(48, 0.0)), "tests.support.small_architectures:vit", 72),
        (lambda: weights.beit(beit(None, 0.0)), BEIT, 4),
        (lambda: weights.mae(create_mae("mae_vit_mini_patch8")), "mae_vit_mini", 20),
    ],
    ids=["DeiT", "MoCo v3", "BEiT", "MAE"],
)
def test_a_file_is_read_whole(
    tmp_path: Path, content: Callable[[], dict[str, Any]], backbone: str, dropped: int
) -> None:
    torch.save(content(), tmp_path / "weights.pth")
    _, report = load(tmp_path / "weights.pth", backbone)
    assert not report.initialised
    assert len(report.dropped) == dropped, Counter(report.dropped.values())


@pytest.mark.parametrize("pixels", [64, 224])
@pytest.mark.parametrize("backbone", WRITERS)
def test_each_cell_is_a_recipe_of_its_backbones_model(backbone: str, pixels: int) -> None:
    for task in TASKS:
        cell = Cell(backbone, task, pixels)
        changes = [f"{name}={value}" for name, value in cell.settings.items()]
        recipe: Any = load_recipe(cell.recipe, changes, RECIPES).recipe
        assert recipe.task == task
        assert recipe.model.image_size in (pixels, 70)
        assert recipe.model.arch.replace("vit", "beit") == find_backbone(backbone).arch.replace("vit", "beit")


def record(**changes: object) -> dict[str, Any]:
    report = {"used": {"norm.weight": ["norm.weight"]}, "dropped": {"a": "a head", "b": "a head"}, "initialised": {}}
    names = {
        "method": "MAE",
        "pretrain_data": "IN1K",
        "model": "ViT-B",
        "key": "0123456789ab",
        "parameters": 86_000_000,
    }
    numbers = {"train_loss": 2.0, "peak_memory_mb": 2048.0, "metrics": [{"name": "mIoU", "value": 1.5}]}
    return {"load_report": report, "recipe_settings": {"model": {"image_size": 64}}} | names | numbers | changes


def test_a_row_tells_what_was_loaded_and_left_out_and_whether_the_metric_is_a_number() -> None:
    cell = Cell("mae_vit_base", "segmentation", 64)
    told = row(cell, record(), 12.3)
    assert (told["tensors loaded"], told["left out of the file"]) == ("1", "2: a head")
    assert (told["new in the model"], told["peak memory"], told["metric"]) == ("nothing", "2.0 GB", "finite")
    nothing = [{"name": "mIoU", "value": float("nan")}]
    assert row(cell, record(metrics=nothing), 1.0)["metric"] == "not finite: nan"
    assert failure(cell, 75, "…\nbackbench: out of memory\n")["metric"] == "exit status 75: backbench: out of memory"
