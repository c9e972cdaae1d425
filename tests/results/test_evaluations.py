"""Evaluations of what was trained before, among the records of runs: what stands, and what is ranked."""

from datetime import UTC, datetime, timedelta

import pytest

from results import Record
from results.latest import latest_of_each_seed
from results.measurements import combine, measurements
from tests.support.results_examples import make_record

LATER = datetime(2026, 1, 2, tzinfo=UTC)


def number(key: str, value: float, **fields: object) -> Record:
    metrics = [{"name": "top1", "value": value, "split": "val", "n_eval": 50_000}]
    return make_record(key=key * 12, metrics=metrics, finished_at=LATER, **fields)


def combined(*records: Record) -> list[tuple[float, tuple[int, ...], bool, str]]:
    runs = {record.key: [record] for record in records}
    found, _ = combine(measurements(records, ["top1"]), runs)
    return [(one.value, one.seeds, one.best, one.note) for _, one in found]


@pytest.mark.parametrize("later", [-1, 1])
def test_the_runs_own_number_stands(later: int) -> None:
    run = number("a", 50.0)
    evaluation = number("b", 51.0, trained=run.key)
    evaluation = evaluation.model_copy(update={"finished_at": LATER + timedelta(days=later)})
    assert latest_of_each_seed([evaluation, run]) == [run]
    ((value, seeds, _, note),) = combined(evaluation, run)
    assert (value, seeds) == (50.0, (run.seed,)) and "was run" not in note


def test_seeds_that_were_evaluated_otherwise_are_averaged() -> None:
    """Each seed's weights are another file, and all began with the same."""
    records = [number("a", 50.0, seed=0), number("b", 52.0, seed=1)]
    flipped = {"protocol": {"inference.flip": "true"}, "deviations": ["inference.flip=True (reference False)"]}
    records += [number("c", 53.0, seed=0, trained="a" * 12, **flipped)]
    records += [number("d", 55.0, seed=1, trained="b" * 12, **flipped)]
    (first, second) = sorted(combined(*records))
    assert first[:2] == (51.0, (0, 1)) and second[:2] == (54.0, (0, 1))
    assert "evaluated by itself, after the training" in second[3] and "by itself" not in first[3]


def test_first_looks_are_not_ranked() -> None:
    limited = {"protocol": {"limit": "10"}}
    numbers = [number("a", 50.0, method="MAE", **limited), number("b", 60.0, method="MoCo v3", **limited)]
    assert [best for _, _, best, _ in combined(*numbers)] == [False, False]
    whole = [number("a", 50.0, method="MAE"), number("b", 60.0, method="MoCo v3")]
    assert sorted(best for _, _, best, _ in combined(*whole)) == [False, True]
