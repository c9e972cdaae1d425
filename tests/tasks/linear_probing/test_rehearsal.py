"""Linear probing and partial fine-tuning from command to record on a GPU that is only claimed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.commands import read_record, run_arguments, run_directory
from tests.support.in_process import QUICK, success
from tests.support.rehearsal import rehearsal

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("recipe", ["mini_linear_probing", "mini_partial_fine_tuning"])
@pytest.mark.parametrize("precision", HALF)
def test_in_half_precision_it_goes_on_from_a_checkpoint(
    mini: Path, tmp_path: Path, recipe: str, precision: str
) -> None:
    """With two steps an update, and, in fp16, losses that are scaled."""
    settings: dict[str, Any] = QUICK | {"optimizer__batch_size": 32, "runtime__batch_per_device": 16}
    settings |= {"precision": precision, "runtime__checkpoint_every": 1, "schedule__epochs": 2}
    arguments = run_arguments(mini, tmp_path, recipe=recipe, **settings)
    for _ in range(2):
        with rehearsal() as gpu:
            success(*arguments)
        assert gpu.trained == gpu.evaluated == {HALF[precision]}
        assert read_record(tmp_path)["device"] == "a claimed GPU"
        (run_directory(tmp_path) / "checkpoints/iteration_4.pth").unlink()
        (run_directory(tmp_path) / "record.json").unlink()
