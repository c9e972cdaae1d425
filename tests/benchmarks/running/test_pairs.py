"""Two stores compared: the same cells of both, in one table."""

from pathlib import Path

import pytest

from benchmarks.running.pairs import compare_paths
from results import ResultsError
from tests.support.in_process import call, success
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
    assert sorted(pair.which for pair in found.pairs) == [", recipe long", ", recipe short"]
    write_cell(a, "vit", GOOD, recipe="mine")
    assert compare_paths(a, b).left_out == ["classification of vit on mini, recipe mine: B has no such run"]


WEIGHTS = {name: digit * 64 for name, digit in (("one", "1"), ("two", "2"), ("three", "3"), ("four", "4"))}


def write_weights(store: Path, **accuracies: float) -> None:
    """A run of one backbone for each file of weights."""
    for name, accuracy in accuracies.items():
        frame = answers(accuracy)
        directory = store / f"classification/mini/vit/seed0-{name}"
        write_classification(directory, frame, backbone="vit", checkpoint_sha256=WEIGHTS[name])


def paired_weights(a: Path, b: Path) -> list[tuple[str, str]]:
    """The first digits of what was paired."""
    pairs = [(pair.a.records[0], pair.b.records[0]) for pair in compare_paths(a, b).pairs]
    return [((ours.checkpoint_sha256 or "")[:1], (theirs.checkpoint_sha256 or "")[:1]) for ours, theirs in pairs]


def test_cells_of_one_backbone_are_paired_by_their_weights(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for store in (a, b):
        write_weights(store, one=0.8, two=0.4)
    assert paired_weights(a, b) == [("1", "1"), ("2", "2")]
    result = success("compare", a, b, "--fail-if-worse", "top1=0")
    assert "pair 1: weights 111111111111\npair 2: weights 222222222222\n" in result.stdout
    assert "left out" not in result.stdout


def test_what_is_worse_of_one_file_of_weights_is_not_hidden_by_another(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_weights(a, one=0.45, two=0.4)
    write_weights(b, one=0.8, two=0.4)
    result = call("compare", a, b, "--fail-if-worse", "top1=1")
    assert result.exit_code == 1
    assert "backbench: top1 of vit on mini, weights 111111111111: A is" in result.stderr
    assert "weights 222222222222" not in result.stderr


def test_weights_that_one_side_has_alone_stay_alone(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_weights(a, one=0.8, two=0.4)
    write_weights(b, two=0.4)
    assert paired_weights(a, b) == [("2", "2")]
    (line,) = compare_paths(a, b).left_out
    assert line == "classification of vit on mini, weights 111111111111: B has no such run"
    (line,) = compare_paths(b, a).left_out
    assert line == "classification of vit on mini, weights 111111111111: A has no such run"


def test_the_only_ones_left_with_the_same_settings_are_paired(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_weights(a, one=0.8, two=0.4)
    write_weights(b, one=0.8, three=0.4)
    assert paired_weights(a, b) == [("1", "1"), ("2", "3")]
    assert f"weights: {'2' * 12} against {'3' * 12}" in compare_paths(a, b).pairs[1].remarks


def test_no_side_is_used_twice_and_what_is_not_clear_is_left_out(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_weights(a, one=0.8, two=0.4)
    write_weights(b, three=0.4)
    write_cell(a, "cnn", GOOD)
    write_cell(b, "cnn", GOOD)
    found = compare_paths(a, b)
    assert [pair.a.records[0].backbone for pair in found.pairs] == ["cnn"]
    assert found.left_out == [
        f"classification of vit on mini, weights {digit * 12}: {own} has it, and which of {other}'s runs it belongs to "
        "is not clear. Name the runs"
        for digit, own, other in (("1", "A", "B"), ("2", "A", "B"), ("3", "B", "A"))
    ]


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


def test_a_rerun_stands_for_its_run_whatever_its_protocol_came_to(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for backbone, key in (("vit", "0" * 12), ("cnn", "1" * 12)):
        write_cell(b, backbone, GOOD, protocol={"precision": '"bf16"'})
        for run, precision, accuracy in ((1, "fp32", GOOD), (2, "bf16", BAD)):
            directory = a / f"classification/mini/{backbone}/seed0-abc{'.2' * (run > 1)}"
            fields = {"key": key, "run": run, "backbone": backbone, "protocol": {"precision": f'"{precision}"'}}
            write_classification(directory, answers(accuracy), **fields)
    found = compare_paths(a, b)
    assert found.left_out == []
    for pair in (*found.pairs, *compare_paths(a / "classification/mini/vit", b / "classification/mini/vit").pairs):
        assert (pair.a.records[0].run, pair.protocol_differences, pair.which) == (2, [], "")
        (remark,) = pair.remarks
        assert remark.startswith("A's seed 0 was run 2 times: top1 ") and 'precision ("bf16", "fp32")' in remark
