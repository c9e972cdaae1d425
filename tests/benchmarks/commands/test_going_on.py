"""`--backbone NAME=RUN`, a finished fine-tuning's folder: the next begins with its trunk, and its row says so."""

from pathlib import Path

from tests.support.commands import read_record, run_directory
from tests.support.in_process import run, success


def test_a_fine_tuning_goes_on_from_a_fine_tuning(finished: Path, small: Path, tmp_path: Path) -> None:
    earlier = run_directory(finished)
    success(*run(small, tmp_path, f"mae_vit_mini={earlier}"))
    record, before = read_record(tmp_path), read_record(finished)
    assert record["method"] == before["method"] == "MAE"
    assert record["pretrain_data"] == f"{before['pretrain_data']}, then {before['dataset']} w/ labels"
    assert record["checkpoint"] == earlier.name
    assert record["normalisation"] == before["normalisation"]
    report = record["load_report"]
    assert set(report["initialised"]) == {"norm.weight", "norm.bias"}
    assert {"head.weight", "fc_norm.weight"} <= set(report["dropped"])
    inspected = success("inspect", earlier, "--backbone", "mae_vit_mini")
    assert "2 initialised" in inspected.output
