"""`backbench compare --fail-if-worse`: a gate on what is worse, and on what nobody could compare."""

import json
from pathlib import Path
from typing import Any

import pytest

from results import Metric
from tests.support.in_process import call, refusal
from tests.support.paired_runs import (
    BAD,
    GOOD,
    answers,
    draw_areas,
    write_cell,
    write_classification,
    write_segmentation,
)


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path]:
    """Two backbones in both, one of them worse in the first, which has one more."""
    a, b = tmp_path / "tonight", tmp_path / "last_night"
    write_cell(a, "vit", GOOD, seeds=(0, 1, 2))
    write_cell(b, "vit", GOOD, seeds=(0, 1))
    write_cell(a, "cnn", BAD)
    write_cell(b, "cnn", GOOD)
    write_cell(a, "new", GOOD)
    return a, b


def gate(a: Path, b: Path, *allowances: str) -> tuple[int, list[str]]:
    """The exit status, and what is said beside the comparison."""
    result = call("compare", a, b, *(part for each in allowances or ("top1=50",) for part in ("--fail-if-worse", each)))
    return result.exit_code, [line for line in result.stderr.splitlines() if line.startswith("backbench: ")]


@pytest.mark.parametrize(("points", "status"), [("50", 0), ("5", 1)])
def test_worse_than_allowed_is_an_exit_status(stores: tuple[Path, Path], points: str, status: int) -> None:
    found, lines = gate(*stores, f"top1={points}")
    assert found == status and len(lines) == status
    assert all(line.startswith("backbench: top1 of cnn on mini: A is ") for line in lines)


def test_a_loss_is_worse_where_it_is_higher(stores: tuple[Path, Path]) -> None:
    assert gate(*stores, "loss=0.01")[0] == 1
    assert gate(*stores, "top5=0", "loss=9")[0] == 0


def test_what_is_little_worse_than_allowed_reads_as_more(tmp_path: Path) -> None:
    frame = answers(GOOD)
    for name, loss in (("a", 0.503), ("b", 0.0)):
        write_classification(tmp_path / name, frame.assign(loss=loss))
    assert gate(tmp_path / "a", tmp_path / "b", "loss=0.5")[1][0].endswith("A is 0.503 worse than B, allowed are 0.5")


def test_what_a_lacks_is_named_and_fails(stores: tuple[Path, Path]) -> None:
    a, b = stores
    write_segmentation(b / "segmentation/ade20k/vit/seed0-abc", draw_areas(0.8), backbone="vit")
    write_cell(b, "vit", GOOD, seeds=(3, 4))
    assert gate(a, b) == (
        1,
        [
            "backbench: not compared: classification of vit on mini: A has no seed 3, 4",
            "backbench: not compared: segmentation of vit on ade20k: A has no such run",
        ],
    )
    assert call("compare", a, b).exit_code == 0
    document = json.loads(call("compare", a, b, "--json", "--fail-if-worse", "top1=50").stdout)
    assert document["worse"] == [] and len(document["not_compared"]) == 2
    assert json.loads(call("compare", a, b, "--json").stdout)["not_compared"] == []


def test_what_b_lacks_is_fine(stores: tuple[Path, Path]) -> None:
    a, b = stores
    status, lines = gate(a, b)
    assert (status, lines) == (0, [])
    assert "left out: classification of new on mini: B has no such run" in call("compare", a, b).stdout


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"data_fingerprint": "e" * 64}, "they differ in contents of the data set"),
        ({"seed": 7}, "no seed is in both"),
        ({"metrics": [Metric(name="top1", value=90.0, split="val", n_eval=200)]}, "record.json: has no top5"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_named_and_fails(
    stores: tuple[Path, Path], fields: dict[str, Any], why: str
) -> None:
    a, b = stores
    write_cell(b, "swin", GOOD)
    write_classification(a / "classification/mini/swin/seed0-abc", answers(GOOD), backbone="swin", **fields)
    status, (line,) = gate(a, b)
    assert status == 1
    assert line.startswith("backbench: not compared: classification of swin on mini: ") and why in line


def test_a_metric_of_what_could_not_be_compared_is_no_mistake(stores: tuple[Path, Path]) -> None:
    a, b = stores
    write_segmentation(b / "segmentation/ade20k/vit/seed0-abc", draw_areas(0.8), backbone="vit")
    assert gate(a, b, "mIoU=1") == (1, ["backbench: not compared: segmentation of vit on ade20k: A has no such run"])


def test_seeds_of_one_cell_that_a_lacks_fail_too(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_cell(a, "vit", GOOD, seeds=(0, 1))
    write_cell(b, "vit", GOOD, seeds=(0, 1, 2))
    cells = [store / "classification/mini/vit" for store in (a, b)]
    assert gate(*cells) == (1, ["backbench: not compared: classification of vit on mini: A has no seed 2"])
    assert gate(*reversed(cells)) == (0, [])
    assert gate(cells[0] / "seed1-abc", cells[1]) == (0, [])  # that one was asked for
    write_cell(tmp_path / "c", "vit", GOOD, seeds=(7,))
    assert gate(tmp_path / "c/classification", a / "classification/mini/vit/seed0-abc") == (0, [])
    write_cell(tmp_path / "d", "vit", GOOD, seeds=(8,))
    assert gate(tmp_path / "c", tmp_path / "d") == (0, [])  # one run each


def test_pretrainings_cannot_be_compared_and_fail_nothing(stores: tuple[Path, Path]) -> None:
    for store in stores:
        write_cell(store, "mae", GOOD, task="pretraining")
    write_cell(stores[1], "other", GOOD, task="pretraining")
    assert gate(*stores) == (0, [])


def test_what_cannot_be_read_of_b_fails(stores: tuple[Path, Path]) -> None:
    """Of A it is missing, where B has it."""
    a, b = stores
    record = b / "classification/mini/cnn/seed0-abc/record.json"
    record.write_text("{")
    status, (passed_over, told) = gate(a, b)
    assert (status, told) == (1, "backbench: not compared: 1 of B's records, which cannot be read")
    assert passed_over.startswith(f"backbench: passed over: {record}: not a record")
    status, (passed_over, *lines) = gate(b, a)
    assert status == 1 and "backbench: not compared: classification of cnn on mini: A has no such run" in lines


@pytest.mark.parametrize(
    ("allowance", "expected"),
    [
        ("top1", 'expected METRIC=POINTS, for example "top1=0.5"'),
        ("top1=-1", 'expected METRIC=POINTS, for example "top1=0.5", with 0 points or more'),
        ("top1=nan", "expected METRIC=POINTS"),
        ("tpo1=1", '--fail-if-worse tpo1=1: metric "tpo1": no such metric. Did you mean "top1"'),
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
    assert len(document["left_out"]) == 1 and len(document["worse"]) == 1
