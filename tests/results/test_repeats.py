"""Runs of one key, or of one seed, that gave different numbers: the latest stands, and all are told."""

from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from results import Record, ResultsError, build_table, select_records, to_frame
from results.latest import latest_of_each_seed, latest_run
from results.measurements import unlike_repeats
from tests.results.test_marks import shown
from tests.support.results_examples import DEVIATION, make_random, make_record

KEY = "0123456789ab"


def again(value: float, run: int, **fields: Any) -> Record:
    finished_at = datetime(2026, 1, run, tzinfo=UTC)
    return make_record(value, **{"key": KEY, "run": run, "code": "a" * 12, "finished_at": finished_at} | fields)


def test_the_latest_run_stands_and_the_note_has_all() -> None:
    records = [again(11.6, 2, code="b" * 12, device="cpu"), again(17.4, 1)]
    (number,) = shown(records).values()
    assert (number.value, number.seeds) == (11.6, (0,))
    origins = f"code ({'a' * 12}, {'b' * 12}), device (cpu, not stated)"
    assert number.note == f"seed 0 was run 2 times: top1 17.40, then 11.60; they differ in {origins}"
    assert to_frame(records)[["key", "run", "value"]].to_numpy().tolist() == [[KEY, 1, 17.4], [KEY, 2, 11.6]]


def test_that_nothing_sets_them_apart_is_told_too() -> None:
    (number,) = shown([again(17.4, 1), again(11.6, 2)]).values()
    assert number.note.endswith("top1 17.40, then 11.60; nothing that is recorded sets them apart")


def test_runs_that_agree_are_one() -> None:
    (number,) = shown([again(17.4, 1), again(17.4, 2, code="b" * 12)]).values()
    assert (number.value, number.note) == (17.4, "")


def test_of_one_key_the_last_run_counts_whatever_the_clocks_say() -> None:
    late = datetime(2026, 2, 1, tzinfo=UTC)
    assert latest_of_each_seed([again(1.0, 1, finished_at=late), again(2.0, 2)])[0].run == 2
    other = make_record(3.0, key="f" * 12, finished_at=late)
    assert latest_of_each_seed([again(1.0, 1), again(2.0, 2), other]) == [other]


def test_the_metrics_that_agree_are_not_named() -> None:
    records = [again(17.4, 1), again(17.4, 2)]
    assert unlike_repeats(records, ["top1"]) == []
    assert unlike_repeats([again(17.4, 1), again(17.4, 2, seed=1)], ["top1"]) == []


def test_seeds_keep_their_average() -> None:
    records = [again(80.0, 1), again(82.0, 2), make_record(84.0, seed=1, code="a" * 12)]
    (number,) = shown(records).values()
    assert (number.value, number.seeds) == (83.0, (0, 1))
    assert "seed 0 was run 2 times: top1 80.00, then 82.00" in number.note
    assert build_table(records, "imagenet").blocks


def test_digests_of_code_count_where_all_have_them() -> None:
    """A commit that changed a text is other code by its commit, and the same by its sources."""
    records = [again(1.0, 1, git_commit="a" * 40), again(2.0, 2, git_commit="b" * 40)]
    assert "nothing that is recorded" in unlike_repeats(records, ["top1"])[0]
    earlier = [again(1.0, 1, git_commit="a" * 40, code=""), again(2.0, 2, git_commit="b" * 40)]
    assert "differ in code (aaaaaaa, bbbbbbb)" in unlike_repeats(earlier, ["top1"])[0]


@pytest.mark.parametrize(
    ("then", "now", "why"),
    [
        ({"protocol": {"precision": '"fp32"'}}, {"protocol": {"precision": '"bf16"'}}, 'precision ("bf16", "fp32")'),
        ({"n_eval": 100}, {"n_eval": 99}, "evaluated images (100, 99)"),
        ({}, {"deviations": ["batch norm over 4 images (reference 16)"]}, "deviations (batch norm over 4 images"),
    ],
)
def test_a_rerun_takes_the_place_of_its_run_whatever_its_protocol_came_to(
    then: dict[str, Any], now: dict[str, Any], why: str
) -> None:
    records = [again(70.0, 1, **then), again(60.0, 2, **now), make_random()]
    number = shown(records)["MAE"]  # there is one
    assert number.value == 60.0
    assert "seed 0 was run 2 times: top1 70.00, then 60.00; they differ in " in number.note and why in number.note
    other = make_record(62.0, seed=1, code="a" * 12, **now)
    number = shown([*records, other])["MAE"]
    assert (number.value, number.seeds) == (61.0, (0, 1)) and "top1 70.00, then 60.00" in number.note


def test_a_rerun_under_another_name_leaves_nothing_in_the_row_of_before() -> None:
    records = [again(70.0, 1, method="Mine"), again(60.0, 2)]
    assert {name: number.value for name, number in shown(records).items()} == {"MAE": 60.0}


def test_what_was_run_anew_is_chosen_by_its_latest_run() -> None:
    records = [again(70.0, 1), again(60.0, 2, deviations=[DEVIATION]), make_random()]
    assert select_records(records, only_reference=True) == records[2:]
    assert select_records(records, ["method=MAE"]) == records[:2]
    with pytest.raises(ResultsError, match="none of the 1 runs"):
        select_records(records[:2], only_reference=True)


def test_the_same_record_of_two_stores_counts_once() -> None:
    (number,) = shown([again(17.4, 1), again(17.4, 1)]).values()
    assert number.note == ""
    (number,) = shown([again(17.4, 1), again(11.6, 2), again(17.4, 1)]).values()
    assert number.note.startswith("seed 0 was run 2 times: top1 17.40, then 11.60;")


@pytest.mark.parametrize("fields", [{}, {"finished_at": datetime(2026, 1, 9, tzinfo=UTC)}])
def test_copies_that_went_different_ways_are_told_in_whatever_order_they_come(fields: dict[str, Any]) -> None:
    records = [again(70.0, 1, **fields), again(60.0, 1), again(65.0, 1), again(60.0, 1)]
    notes = set()
    for order in permutations(records):
        (number,) = shown(list(order)).values()
        assert number.value == 70.0
        assert number.note.startswith("seed 0 was run 3 times: top1 60.00, then 65.00, then 70.00;")
        notes.add(number.note)
        runs = [(Path(str(place)), record) for place, record in enumerate(order)]
        assert latest_run(runs)[1].metrics[0].value == 70.0
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((82.504, 82.496), "top1 82.504, then 82.496;"),
        ((82.5, 82.5004), "top1 82.5000, then 82.5004;"),
        ((0.3, 0.1 + 0.2), "top1 0.3, then 0.30000000000000004;"),
        ((82.5, 82.5, 83.0), "top1 82.50, then 82.50, then 83.00;"),
    ],
)
def test_numbers_that_differ_read_differently(values: tuple[float, ...], expected: str) -> None:
    records = [again(value, run) for run, value in enumerate(values, start=1)]
    assert expected in unlike_repeats(records, ["top1"])[0]
