"""The two sides of a verdict, read from stores, nights and files."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from backbones.errors import InputError
from benchmarks.running.collecting import collect
from benchmarks.running.regressing import night_of, read_side, read_sides, read_sigmas
from results.errors import StoreError
from results.regression.runs import NIGHT, to_runs
from tests.support.judged_stores import MAE, put, put_nights

OLD = Path(__file__).parents[2] / "support/store_0.1"


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("directory", ignore_index=True)


def test_a_folder_of_nights_and_its_nights_are_the_same_runs(tmp_path: Path) -> None:
    nights = put_nights(tmp_path / "nights")
    whole = in_order(read_side([nights]))
    assert whole[NIGHT].tolist() == [f"2026-01-0{day}" for day in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert all((Path(place) / "record.json").is_file() for place in whole["directory"])
    assert in_order(read_side(sorted(nights.iterdir()))).equals(whole)
    for night in nights.iterdir():
        collect(night)
    assert in_order(read_side(sorted(nights.glob("*/results.csv")))).equals(whole)


def test_a_nights_name_is_that_of_the_nearest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "2025-12-31/nights/2026-01-01"
    put(store, 83.6, **MAE)
    assert read_side([tmp_path / "2025-12-31"])[NIGHT].tolist() == ["2026-01-01"]
    monkeypatch.chdir(store)
    assert read_side([Path()])[NIGHT].tolist() == ["2026-01-01"]
    assert (night_of(tmp_path), night_of(store / "classification")) == ("", "2026-01-01")


def test_a_file_that_names_its_nights_is_believed(tmp_path: Path) -> None:
    frame = read_side([put_nights(tmp_path / "nights")])
    kept = tmp_path / "2030-01-01/baseline.csv"
    kept.parent.mkdir()
    frame.to_csv(kept, index=False)
    assert read_side([kept])[NIGHT].tolist() == frame[NIGHT].tolist()


def test_nights_that_are_no_dates_are_refused(tmp_path: Path) -> None:
    frame = read_side([put_nights(tmp_path / "nights")])
    frame.assign(night="1.1.2026").to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(StoreError, match=r'column night: expected dates such as 2026-11-26, found "1\.1\.2026"'):
        read_side([tmp_path / "results.csv"])


def test_without_nights_the_day_on_which_a_run_finished_counts(tmp_path: Path) -> None:
    put(tmp_path / "runs", 83.6, day=7, **MAE)
    frame = read_side([tmp_path / "runs"])
    assert frame[NIGHT].tolist() == [""]
    assert [run.night for run in to_runs(frame)] == ["2026-01-07"]


def test_records_of_an_earlier_version_have_protocols(tmp_path: Path) -> None:
    assert (read_side([OLD])["protocol"].str.len() == 12).all()
    assert (read_side([OLD / "results.csv"])["protocol"] == "").all()


def test_what_cannot_be_read_is_told_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, 83.6, **MAE)
    (put(tmp_path, 83.5, seed=10, **MAE) / "record.json").write_text("{")
    assert len(read_side([tmp_path])) == 1
    assert "backbench: passed over: " in capsys.readouterr().err


def test_a_baseline_is_without_the_runs_that_are_judged(tmp_path: Path) -> None:
    nights = put_nights(tmp_path / "nights")
    before, now = read_sides([nights], [nights / "2026-01-04"])
    assert (len(before), len(now)) == (6, 2) and not {*before["seed"]} & {*now["seed"]}
    before, now = read_sides([nights / "2026-01-01"], [nights])
    assert (len(before), len(now)) == (2, 6)
    apart = read_sides([nights / "2026-01-01"], [nights / "2026-01-04"])
    assert [len(side) for side in apart] == [2, 2]


def test_a_run_that_was_made_anew_in_its_place_is_another(tmp_path: Path) -> None:
    put(tmp_path, 83.6, day=1, **MAE)
    collect(tmp_path)
    kept = shutil.copy(tmp_path / "results.csv", tmp_path / "kept.csv")
    put(tmp_path, 83.6, day=2, **MAE)
    before, now = read_sides([Path(kept)], [tmp_path])
    assert (len(before), len(now)) == (1, 1)


def test_the_same_runs_on_both_sides_are_refused(tmp_path: Path) -> None:
    nights = put_nights(tmp_path / "nights")
    collect(nights)
    link = tmp_path / "last"
    link.symlink_to(nights)
    for other in (nights, link, nights / "results.csv"):
        with pytest.raises(InputError, match="the same runs, which are never worse than themselves"):
            read_sides([nights], [other])


def test_a_baseline_without_runs_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "runs", 83.6, **MAE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"--baseline .*empty: no finished runs"):
        read_sides([tmp_path / "empty"], [tmp_path / "runs"])
    put(tmp_path / "others", 30.0, metric="ECE")
    with pytest.raises(StoreError, match=r"--baseline .*others: no finished runs"):
        read_sides([tmp_path / "others"], [tmp_path / "runs"])
    _, now = read_sides([tmp_path / "runs"], [tmp_path / "empty"])
    assert now.empty


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_value_that_is_none_is_a_damaged_file(tmp_path: Path, value: str) -> None:
    put(tmp_path, 83.6, **MAE)
    collect(tmp_path)
    path = tmp_path / "results.csv"
    path.write_text(path.read_text().replace(",83.6,", f",{value},"))
    with pytest.raises(StoreError, match=r"results\.csv, column value: expected finite numbers, found 1 row without"):
        read_side([path])


@pytest.mark.parametrize("value", ["-5.0", "150.0"])
def test_a_value_that_its_metric_cannot_have_is_a_damaged_file(tmp_path: Path, value: str) -> None:
    put(tmp_path, 83.6, **MAE)
    collect(tmp_path)
    path = tmp_path / "results.csv"
    path.write_text(path.read_text().replace(",83.6,", f",{value},"))
    with pytest.raises(StoreError, match=rf"column value: {value} is no top1, which is 0 to 100\. `backbench collect"):
        read_side([path])


@pytest.mark.parametrize(("there", "column"), [(",1000.0,", "train_images_per_second"), (",9000.0,", "peak_memory_mb")])
@pytest.mark.parametrize("value", ["-5.0", "inf"])
def test_a_speed_or_a_memory_that_nothing_has_is_a_damaged_file(
    tmp_path: Path, there: str, column: str, value: str
) -> None:
    put(tmp_path, 83.6, **MAE)
    collect(tmp_path)
    path = tmp_path / "results.csv"
    path.write_text(path.read_text().replace(there, f",{value},"))
    with pytest.raises(StoreError, match=rf"column {column}: expected finite numbers from 0 on, found {value}\. "):
        read_side([path])


def test_sigmas_are_read() -> None:
    assert read_sigmas([]) == {}
    assert read_sigmas(["top1=0.1", "AP_box=0"]) == {"top1": 0.1, "AP_box": 0.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("top1", 'expected METRIC=POINTS, for example "top1=0.1"'),
        ("top1=0,1", "expected METRIC=POINTS"),
        ("top1=-0.1", "with 0 points or more"),
        ("top1=nan", "with 0 points or more"),
        ("top1=inf", "with 0 points or more"),
        ("tpo1=0.1", 'metric "tpo1": no such metric. Did you mean "top1"'),
        ("top5=0.1", "no cell is judged by top5, but by one of top1, AP_box"),
    ],
)
def test_a_wrong_sigma_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"^--sigma {text}: .*{expected}"):
        read_sigmas([text])
