"""`backbench history`: what it reads, what it prints, and what it refuses."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.running.collecting import collect
from results import results_csv
from tests.support.in_process import call, refusal, success
from tests.support.results_examples import make_record

LEVELS = [83.5, 83.6, 83.4] * 4 + [81.5, 81.6, 81.4] * 4


def write_nights(root: Path, values: list[float]) -> Path:
    """A store a night, of another seed each."""
    for number, value in enumerate(values):
        night = root / f"2026-11-{number + 1:02d}"
        place = night / f"classification/imagenet1k/mae_vit_base/seed{number}-abc"
        place.mkdir(parents=True)
        record = make_record(
            value,
            number,
            finished_at=datetime(2026, 12, 1, tzinfo=UTC),
            train_images_per_second=1000.0 + number % 3,
            peak_memory_mb=8000.0,
        )
        (place / "record.json").write_text(record.to_json())
        (night / "results.csv").write_text(results_csv([record], [place.relative_to(night).as_posix()]))
    return root


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nights(tmp_path_factory.mktemp("history") / "nights", LEVELS)


@pytest.mark.parametrize(
    "sources",
    [lambda root: [root], lambda root: sorted(root.iterdir()), lambda root: sorted(root.glob("*/results.csv"))],
    ids=["folder of nights", "stores", "files"],
)
def test_a_drop_is_told_with_its_night(nights: Path, sources: Callable[[Path], list[Path]]) -> None:
    result = success("history", *sources(nights))
    heading, row = result.stdout.splitlines()
    assert heading.split("\t")[:3] == ["cell", "metric", "nights"]
    cells = row.split("\t")
    assert cells[:5] == ["mae_vit_base on imagenet1k (imagenet_vit_base)", "top-1", "24", "83.50", "81.40"]
    assert cells[6:] == ["2026-11-13: 83.50 → 81.50 (-2.00, p < 0.0001)", ""]
    assert "24 nights, 2026-11-01 to 2026-11-24, 1 cell: accuracy changed in 1 and drifts in 0" in result.stderr


def test_the_document_has_every_night_and_speed_and_memory(nights: Path) -> None:
    document = json.loads(success("history", nights, "--json").stdout)
    accuracy, speed, memory = document["series"]
    assert accuracy["values"] == LEVELS and accuracy["changes"][0]["night"] == "2026-11-13"
    assert accuracy["backbone"] == "mae_vit_base" and accuracy["changes"][0]["is_worse"]
    assert speed["quantity"] == "speed" and speed["changes"] == [] and memory["sigma"] == 0


def test_a_picture_is_written(nights: Path, tmp_path: Path) -> None:
    result = success("history", nights, "--picture", tmp_path / "new/history.png")
    assert (tmp_path / "new/history.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "new/history.png") in result.stderr
    assert "expected a name that ends in .png" in refusal("history", nights, "--picture", tmp_path / "history.pdf")


def test_a_picture_that_cannot_be_written_is_refused_first(nights: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    message = refusal("history", nights, "--picture", tmp_path / "folder.png")
    assert message == f"--picture {tmp_path}/folder.png: a directory. Expected the name of a file"


def test_the_band_is_of_the_baseline_and_sigma_is_stated(nights: Path, tmp_path: Path) -> None:
    for night in ("2026-11-20", "2026-11-22"):
        success("baseline", "promote", nights / night, "--to", tmp_path / "baseline", "--who", "Ann")
    options = ("--baseline", tmp_path / "baseline", "--sigma", "top1=3")
    one = json.loads(success("history", nights, *options, "--json").stdout)["series"][0]
    values = [LEVELS[19], LEVELS[21]]
    assert one["sigma"] == 3 and one["changes"] == [] and sum(one["band"]) == pytest.approx(sum(values))
    assert refusal("history", nights, "--sigma", "top1").startswith("--sigma top1: expected METRIC=POINTS")
    message = refusal("history", nights / "2026-11-01", "--baseline", tmp_path / "baseline")
    assert message.startswith(f"--baseline {tmp_path}/baseline: of its nights that count, 2026-11-20, 2026-11-22, ")


def test_few_nights_are_shown_and_told_to_be_few(tmp_path: Path) -> None:
    result = success("history", write_nights(tmp_path, LEVELS[:3]))
    assert "\t3\t83.50\t83.40\t" in result.stdout and "too few to tell" in result.stderr


def test_what_holds_no_numbers_is_refused(tmp_path: Path) -> None:
    assert "no finished runs with top1" in refusal("history", tmp_path, status=3)
    assert "nowhere.csv: no such file or directory" in refusal("history", tmp_path / "nowhere.csv", status=3)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    assert "it lacks the columns" in refusal("history", tmp_path / "results.csv", status=3)


def test_a_folder_that_is_called_like_a_night_and_is_none_is_refused(tmp_path: Path) -> None:
    root = write_nights(tmp_path / "nights", LEVELS[:2])
    (root / "2026-11-02").rename(root / "2026-13-45")
    expected = "2026-13-45 is no date. A night's folder is named by one, such as 2026-11-26"
    for source in (root, root / "2026-13-45"):
        assert expected in refusal("history", source, status=3)
    assert expected in refusal("regress", "--baseline", root / "2026-11-01", "--current", root, status=3)


def test_a_link_that_is_called_like_a_night_is_one(tmp_path: Path) -> None:
    root = write_nights(tmp_path / "nights", LEVELS[:2])
    (root / "2026-11-01").rename(tmp_path / "run17")
    (root / "2026-11-01").symlink_to(tmp_path / "run17")
    (tmp_path / "latest").symlink_to(root / "2026-11-02")
    for sources in ((root,), (root / "2026-11-01", tmp_path / "latest")):
        assert "2 nights, 2026-11-01 to 2026-11-02, " in success("history", *sources).stderr
    judged = call("regress", "--baseline", root / "2026-11-01", "--current", tmp_path / "latest")
    assert "baseline: 1 night, 2026-11-01\n" in judged.output


@pytest.mark.parametrize("source", [".", "results.csv"])
def test_nights_of_an_archive_that_is_called_like_one_stay_nights(tmp_path: Path, source: str) -> None:
    archive = tmp_path / "2026-12-31"
    write_nights(archive / "nights", LEVELS[:3])
    collect(archive)
    assert "3 nights, 2026-11-01 to 2026-11-03, " in success("history", archive / source).stderr


def test_a_broken_record_is_passed_over(nights: Path, tmp_path: Path) -> None:
    root = write_nights(tmp_path, LEVELS[:8])
    next(root.rglob("record.json")).write_text("{")
    result = success("history", root)
    assert "passed over" in result.stderr and "\t7\t" in result.stdout


@pytest.mark.parametrize(
    ("there", "instead", "expected"),
    [
        (",83.5,", ",inf,", "column value: expected finite numbers, found 1 row without"),
        (",83.5,", ",,", "column value: expected finite numbers, found 1 row without"),
        ("2026-12-01T00:00:00+00:00", "01/12/2026 00:00", "column finished_at: expected dates such as 2026-11-26, fou"),
        ("2026-12-01T00:00:00+00:00", "20261201T000000", "column finished_at: expected dates such as 2026-11-26, fou"),
        ("2026-12-01T00:00:00+00:00", "", 'column finished_at: expected dates such as 2026-11-26, found ""'),
    ],
)
def test_a_table_that_a_spreadsheet_has_spoilt(tmp_path: Path, there: str, instead: str, expected: str) -> None:
    table = write_nights(tmp_path, LEVELS[:1]) / "2026-11-01/results.csv"
    assert there in table.read_text()
    table.write_text(table.read_text().replace(there, instead))
    assert expected in refusal("history", table, status=3)


def test_a_night_with_a_time_is_refused_where_it_would_be_another_night(tmp_path: Path) -> None:
    table = write_nights(tmp_path, LEVELS[:1]) / "2026-11-01/results.csv"
    heading, row = table.read_text().splitlines()
    table.write_text(f"{heading},night\n{row},2026-11-01\n")
    assert "1 night, 2026-11-01, 1 cell: " in success("history", table).stderr
    table.write_text(f"{heading},night\n{row},2026-11-01 00:00:00\n")
    told = 'column night: expected dates such as 2026-11-26, found "2026-11-01 00:00:00"'
    assert told in refusal("history", table, status=3)
