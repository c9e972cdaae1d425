"""The columns that tell what was measured, with what, and under which settings; and CSV files of earlier versions."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results import Metric, Record, find_records, read_results_csv, results_csv, to_frame
from results.errors import StoreError
from results.summary import COLUMNS, LATER
from tests.support.results_examples import make_record

STORE = Path(__file__).parents[1] / "support/store_0.1"
"""Two fine-tunings and a pre-training as backbench left them before records had these columns' contents."""


def row(record: Record, **about: Any) -> dict[str, Any]:
    frame = to_frame([record], **about)
    assert len(frame) == 1
    columns: dict[str, Any] = frame.iloc[0].to_dict()
    return columns


def test_a_row_tells_what_was_measured_and_with_what() -> None:
    record = make_record(
        precision="bf16",
        versions={"python": "3.11.7", "torch": "2.14.1"},
        corrupt_images=["a.jpg: truncated", "b.jpg: empty"],
        total_seconds=12.5,
        evaluation_seconds=2.25,
        wall_seconds=9.0,
        cuda="12.9",
        driver="575.57.08",
        checkpoint="weights.pth",
    )
    expected = {
        "precision": "bf16",
        "torch": "2.14.1",
        "corrupt_images": 2,
        "total_seconds": 12.5,
        "evaluation_seconds": 2.25,
        "cuda": "12.9",
        "driver": "575.57.08",
        "checkpoint": "weights.pth",
        "directory": "classification/mini/x/seed0-abc",
        "schema_version": 2,
    }
    assert row(record, directories=["classification/mini/x/seed0-abc"]).items() >= expected.items()
    unknown = row(make_record())
    assert [unknown[name] for name in ("torch", "cuda", "driver", "checkpoint", "directory")] == [""] * 5
    assert unknown["corrupt_images"] == 0 and pd.isna(unknown["total_seconds"])


def test_runs_can_be_grouped_by_a_setting(tmp_path: Path) -> None:
    records = [
        make_record(value, seed, key=f"{seed:012x}", protocol={"optimizer.lr": rate, "recipe": json.dumps('a "b"')})
        for seed, (value, rate) in enumerate([(80.0, "0.001"), (82.0, "0.001"), (70.0, "0.01")])
    ]
    path = tmp_path / "results.csv"
    to_frame([*records, make_record(seed=9)]).to_csv(path, index=False)
    frame = read_results_csv(path)
    settings = frame["settings"].map(json.loads)
    assert frame.groupby(settings.str["optimizer.lr"])["value"].mean().to_dict() == {0.001: 81.0, 0.01: 70.0}
    assert settings.tolist()[0] == {"optimizer.lr": 0.001, "recipe": 'a "b"'} and {} in settings.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": {"optimizer.lr": "0.01"}},
        {"deviations": ["schedule.epochs=25 (reference 100)"]},
        {"data_fingerprint": "0123"},
        {"n_eval": 49_998},
        {"split": "holdout"},
    ],
)
def test_a_protocols_digest_changes_with_what_forbids_a_comparison(change: dict[str, Any]) -> None:
    plain = {"protocol": {"optimizer.lr": "0.001"}}
    digest = row(make_record(**plain))["protocol"]
    assert len(digest) == 12 and set(digest) <= set("0123456789abcdef")
    assert row(make_record(**plain | change))["protocol"] != digest
    alike: dict[str, Any] = {"seed": 3, "method": "BEiT", "normalisation": {"mean": (0.5, 0.5, 0.5)}, "device": "other"}
    assert row(make_record(70.0, **plain | alike))["protocol"] == digest


def test_metrics_of_one_record_share_a_digest_where_they_share_images() -> None:
    metrics = [
        Metric(name=name, value=1.0, split="val", n_eval=n) for name, n in (("loss", 9), ("top1", 9), ("top5", 8))
    ]
    first, second, third = to_frame([make_record(metrics=metrics)])["protocol"]
    assert first == second != third


def test_an_earlier_versions_store_is_read() -> None:
    frame = to_frame([record for _, record in find_records([STORE])])
    before = read_results_csv(STORE / "results.csv")
    assert list(before.columns) == list(COLUMNS)
    known = [column for column in COLUMNS if column not in LATER or column in ("images_per_step", "expected")]
    pd.testing.assert_frame_equal(before[known].drop(columns="table"), frame[known].drop(columns="table"))
    assert set(frame["schema_version"]) == {1} and before["schema_version"].isna().all()
    assert set(frame["torch"]) == {"2.14.1"} and set(frame["precision"]) == {"bf16"}
    assert frame["total_seconds"].isna().all() and (frame["protocol"] != "").all()


def test_a_file_that_was_cut_off_within_a_row_is_refused(tmp_path: Path) -> None:
    """pandas took what the row lacked for empty, and "8" of "83.63" for the number."""
    path = tmp_path / "results.csv"
    text = results_csv([make_record(83.63, seed) for seed in (0, 1)])
    path.write_text(text)
    assert len(read_results_csv(path)) == 2
    for place in (text.rindex("83.63") + 1, text.rindex("imagenet_vit_base"), text.rindex(",2026-")):
        path.write_text(text[:place])
        with pytest.raises(StoreError, match=rf"results\.csv, line 3: \d+ of {len(COLUMNS)} columns; the file was cut"):
            read_results_csv(path)
