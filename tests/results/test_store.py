import json
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from results import (
    Metric,
    Record,
    ResultsError,
    cell_key,
    find_records,
    read_record,
    read_results_csv,
    results_csv,
    run_directory,
    store,
    to_frame,
)
from results.record import Outline

CONTRACT = (
    "suite, table, task, dataset, split, metric, value, method, pretrain_data, model, backbone, checkpoint_sha256, "
    "seed, recipe, deviations, n_eval, ci_low, ci_high, train_images_per_second, peak_memory_mb, wall_seconds, device, "
    "world_size, data_fingerprint, train_loss, backbench_version, git_commit, finished_at, key, "
    "precision, torch, protocol, images_per_step, corrupt_images, total_seconds, evaluation_seconds, expected, run, "
    "code, cuda, driver, parameters, directory, checkpoint, settings, evaluation_images, schema_version, "
    "checkpoint_part, gflops, gflops_image_size, trained"
)


def make_record(seed: int = 0, **fields: Any) -> Record:
    settings: dict[str, Any] = {
        "task": "classification",
        "dataset": "mini",
        "metrics": [
            Metric(name="top1", value=61.1 + seed / 3, split="val", ci_low=60.0, ci_high=63.0, n_eval=200),
            Metric(name="loss", value=1.5, split="val"),
        ],
        "method": "MAE",
        "model": "ViT-mini",
        "backbone": "mae_vit_mini",
        "seed": seed,
        "recipe": "mini",
        "key": cell_key({"seed": seed}),
        "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Record(**(settings | fields))


def put(directory: Path, record: Record) -> None:
    directory.mkdir(parents=True)
    (directory / "record.json").write_text(record.to_json())


def test_a_run_directory_is_named_by_its_cell() -> None:
    directory = run_directory(Path("runs"), "classification", "mini", "mae_vit_mini", 2, "0123456789ab")
    assert directory == Path("runs/classification/mini/mae_vit_mini/seed2-0123456789ab")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("package.module:function", "package.module-function"),
        ("hf-hub:timm/vit_base", "hf-hub-timm-vit_base"),
        ("../../etc", "etc"),
        (".hidden", "hidden"),
        ("a b\n*?c", "a-b-c"),
        ("数据", "数据"),
    ],
)
def test_any_name_stays_one_directory_below_out(name: str, expected: str) -> None:
    directory = run_directory(Path("runs"), "classification", name, name, 0, "0123456789ab")
    assert directory.parts == ("runs", "classification", expected, expected, "seed0-0123456789ab")


@pytest.mark.parametrize("name", ["", "..", "///", ":"])
def test_a_name_without_letters_cannot_be_a_directory(name: str) -> None:
    with pytest.raises(ResultsError, match="cannot name a directory"):
        run_directory(Path("runs"), "classification", "mini", name, 0, "0123456789ab")


def test_records_are_found_below_all_roots_once_in_order(tmp_path: Path) -> None:
    for name, seed in (("b/x", 1), ("a/y/z", 2), ("c", 3)):
        put(tmp_path / name, make_record(seed))
    (tmp_path / "a" / "unfinished").mkdir()
    roots = [tmp_path / "c", tmp_path, tmp_path / "c" / ".." / "b"]
    found = find_records(roots)
    assert [(path.relative_to(tmp_path).as_posix(), record.seed) for path, record in found] == [
        ("a/y/z", 2),
        ("b/x", 1),
        ("c", 3),
    ]
    assert find_records([tmp_path / "a" / "unfinished"]) == []


def test_one_or_several_places_may_be_texts_or_paths(tmp_path: Path) -> None:
    """A text was taken for its letters, or had no is_dir."""
    put(tmp_path / "a", make_record())
    found = find_records([tmp_path])
    assert len(found) == 1
    assert find_records(str(tmp_path)) == find_records([str(tmp_path)]) == find_records(tmp_path) == found
    assert read_record(str(tmp_path / "a")) == found[0][1]
    assert run_directory("out", "t", "d", "b", 0, "0" * 12) == run_directory(Path("out"), "t", "d", "b", 0, "0" * 12)


@pytest.mark.parametrize(
    ("is_run", "advice"), [(True, "Delete the file and repeat"), (False, "another program's file")]
)
def test_only_a_runs_record_is_to_be_deleted(tmp_path: Path, is_run: bool, advice: str) -> None:
    (tmp_path / "record.json").write_text('{"project": "another"}')
    if is_run:
        (tmp_path / "recipe.yaml").touch()
    with pytest.raises(ResultsError) as caught:
        read_record(tmp_path)
    assert advice in str(caught.value) and ("Delete" in str(caught.value)) == is_run


@pytest.mark.parametrize("field", ["seed", "n_eval", "parameters", "world_size", "images_per_step", "schema_version"])
def test_a_number_that_no_column_can_hold_makes_no_record(tmp_path: Path, field: str) -> None:
    """Everybody's run below the directory ended in an OverflowError."""
    put(tmp_path / "good", make_record())
    fields = json.loads(make_record().to_json())
    (fields["metrics"][0] if field == "n_eval" else fields)[field] = 2**63
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/record.json").write_text(json.dumps(fields))
    told: list[ResultsError] = []
    found = find_records([tmp_path], told.append)
    assert [path.name for path, _ in found] == ["good"]
    assert field in str(told[0]) and "not a record" in str(told[0])
    to_frame(record for _, record in found)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_csv_that_a_spreadsheet_saved_in_its_own_way_is_told(tmp_path: Path, separator: str, name: str) -> None:
    """It was said to lack all of its columns."""
    path = tmp_path / "results.csv"
    to_frame([make_record()]).to_csv(path, index=False, sep=separator)
    with pytest.raises(ResultsError, match=rf"results\.csv: its columns are separated by {name}\. Save it with commas"):
        read_results_csv(path)


def test_a_number_in_a_csv_that_no_column_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    to_frame([make_record()]).astype({"seed": object}).assign(seed=2**63).to_csv(path, index=False)
    with pytest.raises(ResultsError, match=r"results\.csv, column seed"):
        read_results_csv(path)


@pytest.mark.parametrize("character", ["\r", "\x00", "\x1b", "\f", "\b", "\x7f"])
def test_a_control_character_in_a_name_does_not_end_a_line(tmp_path: Path, character: str) -> None:
    """pandas could not read the file."""
    name = f"a{character}b.pth"
    record = make_record(checkpoint=name, notes=["two\nlines\tand a tab"])
    assert record.checkpoint == f"a\\x{ord(character):02x}b.pth" and record.notes == ["two\nlines\tand a tab"]
    earlier = Record.from_json(json.dumps(json.loads(record.to_json()) | {"checkpoint": name}))
    assert earlier == record
    (tmp_path / "results.csv").write_text(results_csv([record]), newline="")
    assert set(pd.read_csv(tmp_path / "results.csv")["checkpoint"]) == {record.checkpoint}


def test_a_root_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere: no such directory"):
        find_records([tmp_path / "nowhere"])


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"task": "x"}', b""])
def test_a_broken_record_is_named(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "good", make_record())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"bad/record\.json"):
        find_records([tmp_path])
    told: list[ResultsError] = []
    assert [path.name for path, _ in find_records([tmp_path], told.append)] == ["good"]
    assert [str(error).partition(":")[0] for error in told] == [str(tmp_path / "bad" / "record.json")]


def test_an_outline_is_the_record_without_the_percentages_of_classes(tmp_path: Path) -> None:
    record = make_record(per_class={"cat": 50.0}, notes=["caf\udce9"])
    directory = tmp_path / "run"
    put(directory, record)
    assert read_record(directory).per_class == {"cat": 50.0}
    outline = read_record(directory, Outline)
    assert outline.per_class == {}
    assert outline.model_dump() == record.model_dump(exclude={"per_class"})


def test_what_vanishes_meanwhile_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        put(tmp_path / name, make_record())
    real = store.read_record

    def read(directory: Path, kind: type[Record]) -> Record:
        if directory.name == "a":
            shutil.rmtree(directory)
        return real(directory, kind)

    monkeypatch.setattr(store, "read_record", read)
    assert [path.name for path, _ in find_records([tmp_path])] == ["b"]


def test_links_are_followed_once_and_runs_are_not_searched(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "run", make_record(1))
    put(tmp_path / "out" / "run", make_record(2))
    put(tmp_path / "out" / "run" / "copy", make_record(3))
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "circle").symlink_to(tmp_path / "out")
    found = find_records([tmp_path / "out"])
    assert [(path.relative_to(tmp_path).as_posix(), record.seed) for path, record in found] == [
        ("out/link/run", 1),
        ("out/run", 2),
    ]


def test_a_run_without_a_record_has_not_finished(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"record\.json: no such file.*not finished"):
        read_record(tmp_path)


def test_the_frame_has_the_columns_of_the_contract_and_a_row_a_metric() -> None:
    frame = to_frame([make_record(1, deviations=["a=1 (reference 2)", "b=3 (reference 4)"]), make_record(0)])
    assert ", ".join(frame.columns) == CONTRACT
    assert list(zip(frame["seed"], frame["metric"], frame["value"], strict=True)) == [
        (0, "loss", 1.5),
        (0, "top1", 61.1),
        (1, "loss", 1.5),
        (1, "top1", 61.1 + 1 / 3),
    ]
    assert frame["deviations"].tolist() == ["", "", *["a=1 (reference 2); b=3 (reference 4)"] * 2]
    assert frame["n_eval"].isna().tolist() == [True, False, True, False]


def test_a_frame_of_nothing_has_the_columns() -> None:
    assert ", ".join(to_frame([]).columns) == CONTRACT


def test_the_csv_is_the_same_whatever_the_order() -> None:
    records = [make_record(seed, backbone=backbone) for seed in range(4) for backbone in ("a", "b")]
    first = results_csv(records)
    random.Random(0).shuffle(records)
    assert results_csv(records) == first


def test_the_csv_is_read_back_exactly(tmp_path: Path) -> None:
    record = make_record(
        checkpoint_sha256="1" * 64,
        key="123456789e12",
        method='NA, "quoted"\nü',
        suite="None",
        wall_seconds=0.1 + 0.2,
        git_commit="0" * 40,
    )
    expected = to_frame([record, make_record(1)])
    text = results_csv([record, make_record(1)])
    assert text == expected.to_csv(index=False, lineterminator="\n")
    (tmp_path / "results.csv").write_text(text)
    read = read_results_csv(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(read, expected, check_exact=True)


def test_a_csv_with_more_columns_is_read_and_one_with_fewer_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    frame = to_frame([make_record()])
    frame.assign(energy="3").to_csv(path, index=False)
    assert read_results_csv(path)["energy"].tolist() == ["3", "3"]
    frame.drop(columns=["images_per_step"]).to_csv(path, index=False)  # an earlier version's
    pd.testing.assert_frame_equal(read_results_csv(path), frame)
    frame.drop(columns=["split", "key"]).to_csv(path, index=False)
    with pytest.raises(ResultsError, match=r"results\.csv.*lacks the columns split, key"):
        read_results_csv(path)


def test_a_csv_of_an_earlier_version_is_read_with_empty_columns_for_what_came_later(tmp_path: Path) -> None:
    """It was refused as soon as a column was added."""
    path = tmp_path / "results.csv"
    frame = to_frame([make_record()])
    later = list(frame.columns)[list(frame.columns).index("key") + 1 :]
    assert later and frame.columns[28] == "key"
    frame.drop(columns=later).to_csv(path, index=False)
    read = read_results_csv(path)
    assert list(read.columns) == list(frame.columns)
    pd.testing.assert_frame_equal(read.drop(columns=later), frame.drop(columns=later))
    assert set(read[later].astype("string").fillna("").to_numpy().ravel()) == {""}
    assert read[later].dtypes.equals(frame[later].dtypes)


def test_text_among_the_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    to_frame([make_record()]).astype({"value": str}).assign(value="high").to_csv(path, index=False)
    with pytest.raises(ResultsError, match=r"results\.csv, column value"):
        read_results_csv(path)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(ResultsError, match=r"results\.csv"):
        read_results_csv(tmp_path / "results.csv")
