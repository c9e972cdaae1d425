"""Dense probing from command to record on a GPU that is only claimed: see `tests.support.rehearsal`."""

from pathlib import Path

import torch

from tests.support.commands import read_record, run_directory
from tests.support.dense_probing_runs import dense_probe
from tests.support.in_process import success
from tests.support.rehearsal import rehearsal


def test_in_half_precision_it_goes_on_from_a_checkpoint(few: Path, tmp_path: Path) -> None:
    arguments = dense_probe(few, tmp_path, precision="bf16")
    for _ in range(2):
        with rehearsal() as gpu:
            success(*arguments)
        assert torch.bfloat16 in gpu.trained
        assert read_record(tmp_path)["device"] == "a claimed GPU"
        (run_directory(tmp_path) / "checkpoints/iteration_4.pth").unlink()
        (run_directory(tmp_path) / "record.json").unlink()
