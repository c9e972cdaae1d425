"""Runs of one key, or of one seed, that gave different numbers: the latest stands, and all are told."""

from datetime import UTC, datetime
from typing import Any

from results import Record, build_table, to_frame
from results.measurements import latest_of_each_seed, unlike_repeats
from tests.results.test_marks import shown
from tests.support.results_examples import make_record

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
