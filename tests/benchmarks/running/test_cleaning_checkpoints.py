"""Which checkpoints `backbench clean` takes of a finished run: all of them only beside whole files of its weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from backbones.trained.file import Description, write_weights
from benchmarks.running.cleaning import find_waste
from benchmarks.running.writing import write_record
from tests.support.in_process import success
from tests.support.results_examples import make_record
from tests.support.stores import KEY, put_run


def waste(root: Path) -> list[str]:
    return [one.path.name for one in find_waste(root).waste]


def put_weights(run: Path, key: str = KEY) -> Path:
    """The weights of a run of that key, a few numbers."""
    description = Description(
        task="classification",
        method="MAE",
        pretrain_data="IN1K",
        model="ViT-B",
        recipe={},
        classes=["cat", "dog"],
        normalisation={},
        metrics={},
        run={"key": key},
    )
    return write_weights(run, nn.Linear(2, 2), description)


def test_all_checkpoints_of_a_run_go_that_left_its_weights(tmp_path: Path) -> None:
    weights = put_weights(run := put_run(tmp_path))
    assert waste(tmp_path) == ["iteration_1.pth", "iteration_2.pth"]
    success("clean", tmp_path, "--yes")
    assert weights.is_file() and not list(run.rglob("*.pth"))


@pytest.mark.parametrize("left", [0, 100, -4])
def test_beside_weights_that_are_cut_short_the_last_checkpoint_stays(left: int, tmp_path: Path) -> None:
    """Clean took the only weights that could still be read."""
    weights = put_weights(put_run(tmp_path))
    weights.write_bytes(weights.read_bytes()[:left])
    assert waste(tmp_path) == ["iteration_1.pth"]


def test_beside_anothers_weights_the_last_checkpoint_stays(tmp_path: Path) -> None:
    put_weights(put_run(tmp_path), key="ba9876543210")
    assert waste(tmp_path) == ["iteration_1.pth"]


@pytest.mark.parametrize("damaged", [(), ("encoder.pth",), ("autoencoder.pth",)])
def test_beside_a_damaged_export_the_last_checkpoint_stays(damaged: tuple[str, ...], tmp_path: Path) -> None:
    write_record(run := put_run(tmp_path), make_record(key=KEY, task="pretraining"))
    for name in ("encoder.pth", "autoencoder.pth"):
        torch.save({"weight": torch.ones(9)}, path := run / "checkpoints" / name)
        if name in damaged:
            path.write_bytes(path.read_bytes()[:-50])
    assert waste(tmp_path) == ["iteration_1.pth", "iteration_2.pth"][: 1 if damaged else 2]
