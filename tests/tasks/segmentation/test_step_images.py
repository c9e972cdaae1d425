"""What `runtime.batch_per_device` does to the numbers stands in record, results.csv and table."""

from pathlib import Path

import pandas as pd
import pytest

from tests.support.commands import read_record, run_directory
from tests.support.finished_runs import assert_skipped
from tests.support.in_process import call, refusal_before_training, success
from tests.support.segmentation_runs import segmentation

DEVIATION = "batch norm over 2 images (reference 4)"


@pytest.fixture(scope="module")
def accumulated(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `--out` of a run of two updates, each of two steps of two images."""
    out = tmp_path_factory.mktemp("accumulated") / "runs"
    result = success(*arguments(few, out))
    assert f"deviates: {DEVIATION}" in result.output
    return out


def arguments(data: Path, out: Path, **changes: object) -> list[str]:
    settings = {"optimizer__batch_size": 4, "runtime__batch_per_device": 2, "runtime__checkpoint_every": 1}
    settings |= {"schedule__iterations": 2, "schedule__warmup_iterations": 1}
    return segmentation(data, out, **settings | changes)


def test_the_record_the_csv_and_the_table_tell(accumulated: Path) -> None:
    record = read_record(accumulated)
    assert DEVIATION in record["deviations"]
    assert (record["images_per_step"], record["batch_norm_images"], record["mixup_images"]) == (2, 2, None)
    assert set(pd.read_csv(accumulated / "results.csv")["images_per_step"]) == {2}
    assert DEVIATION in success("table", accumulated, "--layout", "ade20k").output


def test_the_whole_batch_in_a_step_does_not_deviate(few: Path, tmp_path: Path) -> None:
    success(*arguments(few, tmp_path, runtime__batch_per_device="null"))
    record = read_record(tmp_path)
    assert not [deviation for deviation in record["deviations"] if "batch norm" in deviation]
    assert (record["images_per_step"], record["batch_norm_images"]) == (4, 4)


def test_a_finished_run_is_found_whatever_fits_this_machine(few: Path, accumulated: Path) -> None:
    repeated = arguments(few, accumulated, runtime__batch_per_device=4)
    assert_skipped(repeated, run_directory(accumulated), "tasks.segmentation.task.fine_tune", "mIoU")


def test_an_unfinished_one_does_not_go_on_otherwise_unless_told_to(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    success(*arguments(few, out))
    directory = run_directory(out)
    (directory / "record.json").unlink()
    (directory / "checkpoints/iteration_2.pth").unlink()
    others = {"runtime__batch_per_device": 4}
    message = refusal_before_training(*arguments(few, out, **others))
    assert "batch norm over 4 images instead of 2" in message
    success(*arguments(few, out, **others, runtime__allow_changed_steps="true"))
    record = read_record(out)
    assert "batch norm over 2 then 4 images (reference 4)" in record["deviations"]
    assert "resumed otherwise: batch norm over 2 images from update 1 on, 4 images from update 2 on" in record["notes"]
    assert (record["images_per_step"], record["batch_norm_images"]) == (4, 4)


def test_a_dry_run_says_what_is_decided_at_start(few: Path, tmp_path: Path) -> None:
    told = call(*arguments(few, tmp_path), "--dry-run").output
    assert "decided at start: over how many images batch norm goes, if there is any (reference 4)" in told
    assert "mixup" not in told
