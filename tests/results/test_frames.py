"""What notebooks meet: names that complete, and pandas objects."""

import json
from pathlib import Path

import pandas as pd
import pytest

import backbones
import results
from results import build_table, load_results, render, results_csv, to_frame
from results.errors import StoreError
from tests.support.results_examples import make_random, make_record

RECORDS = [make_record(83.4), make_record(83.6, seed=1), make_random(78.0)]


def write_store(root: Path) -> Path:
    for number, record in enumerate(RECORDS):
        (root / f"run{number}").mkdir(parents=True)
        (root / f"run{number}" / "record.json").write_text(record.to_json())
    return root


@pytest.mark.parametrize("room", [results, backbones])
def test_the_public_names_are_shown(room: object) -> None:
    """A notebook completes what dir gives, and the names are loaded when they are first used."""
    assert dir(room) == sorted(room.__all__)  # type: ignore[attr-defined]


def test_a_store_or_its_results_csv_as_a_frame(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    expected = to_frame(RECORDS)
    pd.testing.assert_frame_equal(load_results(store), expected)
    (tmp_path / "results.csv").write_text(results_csv(RECORDS))
    pd.testing.assert_frame_equal(load_results(tmp_path / "results.csv"), expected)


def test_what_cannot_be_read_is_warned_of(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    (store / "run0/record.json").write_text("{")
    with pytest.warns(UserWarning, match="passed over: .*run0/record.json: not a record"):
        assert len(load_results(store)) == 2
    with pytest.raises(StoreError, match="nowhere"):
        load_results(tmp_path / "nowhere")


def test_a_table_as_a_frame_holds_what_its_csv_does(tmp_path: Path) -> None:
    table = build_table(RECORDS, "imagenet")
    frame = table.to_frame()
    (tmp_path / "t.csv").write_text(render(table, "csv"))
    read = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, dtype=str)
    assert list(frame.columns) == list(read.columns) and len(frame) == len(read)
    assert frame["value"].tolist() == [float(value) for value in read["value"]]
    ours = frame[~frame["published"]].set_index("method")
    assert ours.loc["MAE", "value"] == 83.5 and ours.loc["MAE", "seeds"] == "0 1"
    assert frame[frame["published"]]["best"].isna().all()
    json.loads(frame.to_json(orient="records"))
