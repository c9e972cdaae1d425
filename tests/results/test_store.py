import errno
import json
import multiprocessing
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import results.store
from results import (
    Metric,
    Record,
    ResultsError,
    cell_key,
    find_records,
    read_record,
    read_results_csv,
    run_directory,
    to_frame,
    write_atomically,
    write_record,
    write_results_csv,
)

CONTRACT = (
    "suite, table, task, dataset, split, metric, value, method, pretrain_data, model, backbone, checkpoint_sha256, "
    "seed, recipe, deviations, n_eval, ci_low, ci_high, train_images_per_second, peak_memory_mb, wall_seconds, device, "
    "world_size, data_fingerprint, train_loss, backbench_version, git_commit, finished_at, key"
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


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(results.store.os, "fsync", refuse)
    yield


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


def test_a_record_is_written_and_read(tmp_path: Path) -> None:
    record = make_record()
    path = write_record(tmp_path / "new" / "run", record)
    assert path == tmp_path / "new" / "run" / "record.json"
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]
    assert read_record(path.parent) == record


def test_writing_respects_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("permissions", [0o600, 0o444, 0o664])
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "results.csv"
    path.write_text("old")
    path.chmod(permissions)
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == permissions


def test_a_path_up_from_a_link_is_followed_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "there/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there/deep")
    path = write_atomically(tmp_path / "link/../runs/file", "text")
    assert path.read_text() == "text"
    assert path.resolve() == tmp_path.resolve() / "there/runs/file"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("old")
    with pytest.raises(ResultsError, match="no space is left in"):
        write_atomically(tmp_path / "results.csv", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]
    assert (tmp_path / "results.csv").read_text() == "old"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_at_the_end_of_a_run_says_that_nothing_is_trained_anew(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        write_record(tmp_path / "run", make_record())
    assert str(tmp_path / "run") in str(caught.value)
    assert "repeat the command" in str(caught.value)
    assert "without training anew" in str(caught.value)
    assert list((tmp_path / "run").iterdir()) == []


def test_an_interrupted_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results.store.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"file/run/record\.json.*cannot be written"):
        write_record(tmp_path / "file" / "run", make_record())


def test_a_directory_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(ResultsError, match=r"results\.csv: cannot be written"):
        write_results_csv(tmp_path / "results.csv", [make_record()])
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_records_are_found_below_all_roots_once_in_order(tmp_path: Path) -> None:
    for name, seed in (("b/x", 1), ("a/y/z", 2), ("c", 3)):
        write_record(tmp_path / name, make_record(seed))
    (tmp_path / "a" / "unfinished").mkdir()
    roots = [tmp_path / "c", tmp_path, tmp_path / "c" / ".." / "b"]
    found = find_records(roots)
    assert [(path.relative_to(tmp_path).as_posix(), record.seed) for path, record in found] == [
        ("a/y/z", 2),
        ("b/x", 1),
        ("c", 3),
    ]
    assert find_records([tmp_path / "a" / "unfinished"]) == []


def test_a_root_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere: no such directory"):
        find_records([tmp_path / "nowhere"])


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"task": "x"}', b""])
def test_a_broken_record_is_named(tmp_path: Path, content: bytes) -> None:
    write_record(tmp_path / "good", make_record())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_bytes(content)
    with pytest.raises(ResultsError, match=r"bad/record\.json"):
        find_records([tmp_path])


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


def test_the_csv_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    records = [make_record(seed, backbone=backbone) for seed in range(4) for backbone in ("a", "b")]
    first = write_results_csv(tmp_path / "first.csv", records).read_bytes()
    random.Random(0).shuffle(records)
    assert write_results_csv(tmp_path / "second.csv", records).read_bytes() == first


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
    read = read_results_csv(write_results_csv(tmp_path / "results.csv", [record, make_record(1)]))
    pd.testing.assert_frame_equal(read, expected, check_exact=True)


def test_a_csv_with_more_columns_is_read_and_one_with_fewer_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    frame = to_frame([make_record()])
    frame.assign(energy="3").to_csv(path, index=False)
    assert read_results_csv(path)["energy"].tolist() == ["3", "3"]
    frame.drop(columns=["split", "key"]).to_csv(path, index=False)
    with pytest.raises(ResultsError, match=r"results\.csv.*lacks the columns split, key"):
        read_results_csv(path)


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


def write_often(path: Path, seed: int, count: int) -> None:
    records = [make_record(seed, backbone=f"{seed}-{index}") for index in range(200)]
    for _ in range(count):
        write_results_csv(path, records)


def test_two_processes_that_write_at_once_never_tear_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    whole = []
    for seed in (1, 2):
        write_often(path, seed, 1)
        whole.append(path.read_bytes())
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_often, args=(path, seed, 20)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in whole
        reads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert reads > 0
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_the_record_on_disk_is_plain_json(tmp_path: Path) -> None:
    fields = json.loads(write_record(tmp_path, make_record()).read_text(encoding="utf-8"))
    assert fields["metrics"][0]["value"] == 61.1
    assert fields["schema_version"] == 1
