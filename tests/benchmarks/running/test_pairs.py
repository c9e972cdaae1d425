"""Two stores compared: the same cells of both, in one table, and a gate on what is worse."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.running.pairs import compare_paths
from results import ResultsError
from tests.support.in_process import call, refusal, success
from tests.support.paired_runs import answers, draw_areas, write_classification, write_segmentation

GOOD, BAD = 0.9, 0.6


def write_cell(store: Path, backbone: str, accuracy: float, seeds: tuple[int, ...] = (0,), **fields: Any) -> None:
    for seed in seeds:
        frame = answers(accuracy, seed=seed)
        directory = store / "classification/mini" / backbone / f"seed{seed}-{fields.get('recipe', 'abc')}"
        write_classification(directory, frame, backbone=backbone, seed=seed, **fields)


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    """Two backbones in both, one of them worse in the first; each has one that the other has not."""
    a, b = tmp_path / "tonight", tmp_path / "last_night"
    write_cell(a, "vit", GOOD, seeds=(0, 1))
    write_cell(b, "vit", GOOD, seeds=(0, 1, 2))
    write_cell(a, "cnn", BAD)
    write_cell(b, "cnn", GOOD)
    write_cell(a, "new", GOOD)
    write_segmentation(b / "segmentation/ade20k/vit/seed0-abc", draw_areas(0.8), backbone="vit")
    return a, b


def test_the_same_cells_of_two_stores_are_paired(stores: tuple[Path, Path]) -> None:
    found = compare_paths(*stores)
    assert found.of_stores
    assert [(pair.a.records[0].backbone, list(pair.a.runs), list(pair.b.runs)) for pair in found.pairs] == [
        ("cnn", [0], [0]),
        ("vit", [0, 1], [0, 1]),
    ]
    assert found.left_out == [
        "classification of new on mini: B has no such run",
        "segmentation of vit on ade20k: A has no such run",
    ]


def test_one_table_and_only_what_differs(stores: tuple[Path, Path]) -> None:
    lines = success("compare", *stores).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("pair\t"))
    rows = [line.split("\t") for line in lines[start:] if line.count("\t") > 5]
    assert len({len(row) for row in rows}) == 1
    assert [row[:4] for row in rows[1:4]] == [[str(1), "classification", "mini", "cnn"]] * 3
    assert rows[1][6] == "top1" and rows[1][-1] == "B"
    text = "\n".join(lines)
    assert "left out: seed 2 of B, which A has not (pair 2)" in text
    assert "left out: classification of new on mini: B has no such run" in text
    assert "setting" not in text


def test_settings_and_weights_that_differ_are_told_once(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for backbone in ("vit", "cnn"):
        write_cell(a, backbone, GOOD, protocol={"drop_path": "0.1", "lr": "1"}, checkpoint_sha256="a" * 64)
        write_cell(b, backbone, GOOD, protocol={"drop_path": "0.2", "lr": "1"}, checkpoint_sha256="b" * 64)
    text = success("compare", a, b).stdout
    assert text.count("setting drop_path: 0.1 against 0.2 (pairs 1, 2)") == 1 and "setting lr" not in text
    assert f"weights: {'a' * 12} against {'b' * 12} (pairs 1, 2)" in text


def test_cells_of_one_backbone_are_paired_by_their_settings(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for recipe in ("short", "long"):
        write_cell(a, "vit", GOOD, recipe=recipe)
        write_cell(b, "vit", GOOD, recipe=recipe)
    found = compare_paths(a, b)
    pairs = [(pair.a.records[0].recipe, pair.b.records[0].recipe) for pair in found.pairs]
    assert sorted(pairs) == [("long", "long"), ("short", "short")] and found.left_out == []
    write_cell(a, "vit", GOOD, recipe="mine")
    (line,) = compare_paths(a, b).left_out
    assert "which belong together is not clear" in line


def test_other_data_and_other_seeds_are_left_out_with_the_reason(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_cell(a, "vit", GOOD)
    write_cell(b, "vit", GOOD)
    write_cell(a, "cnn", GOOD, seeds=(0,))
    write_cell(b, "cnn", GOOD, seeds=(1,))
    write_cell(a, "swin", GOOD)
    write_cell(b, "swin", GOOD, data_fingerprint="e" * 64)
    cnn, swin = compare_paths(a, b).left_out
    assert cnn == "classification of cnn on mini: no seed is in both"
    assert "they differ in contents of the data set" in swin


def test_stores_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    for store, names in ((tmp_path / "a", ("x", "y")), (tmp_path / "b", ("z", "w"))):
        for name in names:
            write_cell(store, name, GOOD)
    with pytest.raises(ResultsError, match=r"nothing to compare\. Stores are paired by task, data set and backbone"):
        compare_paths(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(("points", "status"), [("50", 0), ("5", 1)])
def test_worse_than_allowed_is_an_exit_status(stores: tuple[Path, Path], points: str, status: int) -> None:
    result = call("compare", *stores, "--fail-if-worse", f"top1={points}")
    assert result.exit_code == status
    assert ("top1 of cnn on mini: A is" in result.stderr) == (status == 1)
    assert call("compare", *reversed(stores), "--fail-if-worse", f"top1={points}").exit_code == 0


def test_a_loss_is_worse_where_it_is_higher(stores: tuple[Path, Path]) -> None:
    assert call("compare", *stores, "--fail-if-worse", "loss=0.01").exit_code == 1
    assert call("compare", *stores, "--fail-if-worse", "top5=0", "--fail-if-worse", "loss=9").exit_code == 0


@pytest.mark.parametrize(
    ("allowance", "expected"),
    [
        ("top1", 'expected METRIC=POINTS, for example "top1=0.5"'),
        ("top1=-1", "expected METRIC=POINTS"),
        ("top1=nan", "expected METRIC=POINTS"),
        ("tpo1=1", 'no such metric. Did you mean "top1"'),
        ("mIoU=1", "--fail-if-worse mIoU: not compared here. There are: loss, top1, top5"),
    ],
)
def test_an_allowance_that_says_nothing_is_refused(stores: tuple[Path, Path], allowance: str, expected: str) -> None:
    assert expected in refusal("compare", *stores, "--fail-if-worse", allowance)


def test_as_one_json_document(stores: tuple[Path, Path]) -> None:
    result = call("compare", *stores, "--json", "--fail-if-worse", "top1=5")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    cnn, vit = document["pairs"]
    assert (cnn["a"]["backbone"], vit["a"]["seeds"]) == ("cnn", [0, 1])
    assert cnn["metrics"][0]["metric"] == "top1" and cnn["metrics"][0]["better"] == "B"
    assert cnn["metrics"][0]["difference"]["mean"] < -5
    assert len(document["left_out"]) == 2 and len(document["worse"]) == 1
