"""What is found in histories of many nights, and how often where there is nothing to find.   N nights, C cells"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import ruptures

from results import to_frame
from results.regression.accuracy import LEVEL
from results.regression.changes import (
    LEAST_NIGHTS,
    _without_outliers,
    explain,
    find_steps,
    find_trend,
    night_sigma,
)
from results.regression.costs import LEVEL_OF_COSTS
from results.regression.findings import CellName
from results.regression.history import History, Series, to_history
from tests.support.results_examples import make_record

CELLS, NIGHTS, SIGMA = 40, 28, 0.3
DAYS = [f"2026-11-{day:02d}" for day in range(1, NIGHTS + 1)]


def noise_of(values_CN: np.ndarray) -> tuple[np.ndarray, float]:
    """The sigma of each cell, the larger of its own and the pooled one, and the degrees of freedom."""
    own = [night_sigma(values_N) for values_N in values_CN]
    sigmas_C, degrees_C = (np.array(column) for column in zip(*own, strict=True))
    pooled = math.sqrt((sigmas_C**2 * degrees_C).sum() / degrees_C.sum())
    return np.maximum(sigmas_C, pooled), float(degrees_C.sum())


def share_found(simulations: int, seed: int, size: float, kind: str, *, is_cost: bool = False) -> tuple[float, float]:
    """How often a change `size` standard deviations down is found in one of 40 cells: a lasting drop after 14 nights,
    or a drift over all 28. By whatever finding, and by the kind that it is: a step within two nights, or a drift."""
    generator = np.random.default_rng(seed)
    shape = np.linspace(0, size, NIGHTS) if kind == "drift" else size * (np.arange(NIGHTS) >= NIGHTS // 2)
    level, found, right = LEVEL_OF_COSTS if is_cost else LEVEL, 0, 0
    for _ in range(simulations):
        values_CN = 80 + SIGMA * generator.standard_normal((CELLS, NIGHTS))
        values_CN[0] -= SIGMA * shape
        sigmas_C, degrees = noise_of(values_CN)
        steps, trend = explain(values_CN[0], sigmas_C[0], degrees, cells=CELLS, level=level, is_cost=is_cost)
        found += bool(steps or trend)
        right += trend is not None if kind == "drift" else any(abs(step.place - NIGHTS // 2) <= 2 for step in steps)
    return found / simulations, right / simulations


def share_of_false_alarms(simulations: int, seed: int, *, is_cost: bool = False) -> float:
    """In how many histories of 40 cells that are as they were anything is found."""
    generator, alarms = np.random.default_rng(seed), 0
    level = LEVEL_OF_COSTS if is_cost else LEVEL
    for _ in range(simulations):
        values_CN = generator.standard_normal((CELLS, NIGHTS))
        sigmas_C, degrees = noise_of(values_CN)
        alarms += any(
            any(explain(values_N, sigma, degrees, cells=CELLS, level=level, is_cost=is_cost))
            for values_N, sigma in zip(values_CN, sigmas_C, strict=True)
        )
    return alarms / simulations


def print_curve(
    simulations: int, sizes: tuple[float, ...] = (1, 1.5, 2, 2.5, 3, 4, 5)
) -> dict[tuple[str, float], tuple[float, float]]:
    curve = {}
    for kind in ("drop", "drift"):
        print(f"\n{kind} in one of {CELLS} cells, {NIGHTS} nights, {simulations} simulations: found, as a {kind}")
        for size in sizes:
            curve[kind, size] = share_found(simulations, 1, size, kind)
            print(f"  {size:g} sigma  {curve[kind, size][0]:6.1%}  {curve[kind, size][1]:6.1%}")
    return curve


def test_a_lasting_drop_and_a_slow_drift_are_found() -> None:
    curve = print_curve(60, (1, 2, 3, 4, 5))
    assert curve["drop", 3][0] >= 0.9 and curve["drop", 3][1] >= 0.85
    assert curve["drift", 4][1] >= 0.8
    assert curve["drop", 1][0] < 0.3, "what nobody can see is told apart from noise"


def test_equal_nights_alarm_seldom() -> None:
    share = share_of_false_alarms(80, 2)
    print(f"\nfalse alarms in {NIGHTS} equal nights of {CELLS} cells: {share:.1%}")
    assert share <= 0.05


@pytest.mark.slow
def test_the_whole_curve() -> None:
    curve = print_curve(500)
    alarms = share_of_false_alarms(500, 2), share_of_false_alarms(500, 3, is_cost=True)
    print(f"\nfalse alarms of accuracy {alarms[0]:.1%}, of speed {alarms[1]:.1%}")
    assert alarms[0] <= 0.05 and alarms[1] <= 0.02
    assert curve["drop", 3][0] >= 0.95 and curve["drift", 4][1] >= 0.85
    assert share_found(500, 4, 5, "drop", is_cost=True)[0] >= 0.95


def test_few_nights_of_a_drift_that_is_found_are_far_off() -> None:
    """A drift of four sigma: against the first half no night by itself is red in most cells."""
    values_CN = np.random.default_rng(5).standard_normal((1000, NIGHTS)) - np.linspace(0, 4, NIGHTS)
    first_half = values_CN[:, : NIGHTS // 2].mean(axis=1, keepdims=True)
    assert (values_CN < first_half - 3).mean() < 0.15


def test_the_partition_is_the_best_of_all() -> None:
    """Held against every way to cut, and against ruptures' own Pelt."""
    for seed in range(8):
        values_N = np.random.default_rng(seed).standard_normal(13)
        values_N[5:] += 2.0 * (seed % 3)
        found = find_steps(values_N, 0.7, math.inf, cells=1, level=math.inf)
        clipped_N = _clipped(values_N, 0.7)
        penalty = 3 * 0.7**2 * math.log(13)
        cuts = [
            cut
            for count in range(4)
            for cut in itertools.combinations(range(LEAST_NIGHTS, 11), count)
            if all(b - a >= LEAST_NIGHTS for a, b in itertools.pairwise((0, *cut, 13)))
        ]
        best = min(cuts, key=lambda cut: _squares(clipped_N, cut) + penalty * len(cut))
        assert tuple(step.place for step in found) == best
        pelt = ruptures.Pelt(model="l2", min_size=LEAST_NIGHTS, jump=1).fit(clipped_N).predict(pen=penalty)
        assert [*best, 13] == pelt


def _squares(values_N: np.ndarray, cut: tuple[int, ...]) -> float:
    return sum(((part - part.mean()) ** 2).sum() for part in np.split(values_N, cut))


def _clipped(values_N: np.ndarray, sigma: float) -> np.ndarray:
    middles = np.nanmedian(np.lib.stride_tricks.sliding_window_view(np.pad(values_N, 2, constant_values=np.nan), 5), 1)
    return np.clip(values_N, middles - 2 * sigma, middles + 2 * sigma)


def test_the_test_of_a_change_is_students() -> None:
    from scipy.stats import t

    values_N = np.array([10.0, 10.2, 9.9, 10.1, 10.0, 8.1, 8.0, 7.9, 8.2, 8.0])
    (step,) = find_steps(values_N, 0.1, 20, cells=7, level=0.05)
    score = (values_N[:5].mean() - values_N[5:].mean()) / (0.1 * math.sqrt(2 / 5))
    assert (step.place, step.before, step.after) == (5, pytest.approx(10.04), pytest.approx(8.04))
    assert step.p_value == pytest.approx(2 * t.sf(score, 20) * 7 * 5)


def test_a_bad_night_is_no_change() -> None:
    for place in (4, 12, 26, 27):
        values_N = np.random.default_rng(6).standard_normal(NIGHTS)
        values_N[place] -= 12
        assert explain(values_N, 1.0, 100, cells=CELLS, level=LEVEL) == ([], None)


def test_a_change_and_its_end_are_two() -> None:
    values_N = np.random.default_rng(7).standard_normal(60)
    values_N[20:40] -= 4
    steps, trend = explain(values_N, 1.0, 100, cells=CELLS, level=LEVEL)
    assert [abs(step.place - place) <= 1 for step, place in zip(steps, (20, 40), strict=True)] == [True, True]
    assert trend is None


def test_a_drift_after_a_change_is_of_the_nights_since() -> None:
    values_N = np.random.default_rng(8).standard_normal(60)
    values_N[20:] -= 8 - np.linspace(0, 5, 40)
    steps, trend = explain(values_N, 1.0, 100, cells=CELLS, level=LEVEL)
    assert steps and trend and trend.place == steps[-1].place >= 19 and trend.after - trend.before > 2


def test_sigma_does_not_see_changes() -> None:
    values_CN = np.random.default_rng(9).standard_normal((400, NIGHTS))
    values_CN[:, 14:] -= 10
    sigmas_C = np.array([night_sigma(values_N)[0] for values_N in values_CN])
    assert math.sqrt((sigmas_C**2).mean()) == pytest.approx(1, abs=0.15)
    assert 2 * (sigmas_C**2).mean() ** 2 / (sigmas_C**2).var() == pytest.approx(night_sigma(values_CN[0])[1], rel=0.25)


def test_a_trend_needs_more_than_a_few_nights_and_differences() -> None:
    assert find_trend(np.arange(7.0), cells=1, level=1) is None
    assert find_trend(np.ones(20), cells=1, level=1) is None
    assert find_trend(np.arange(8.0), cells=1, level=0.05, floor=8) is None
    trend = find_trend(np.arange(8.0), cells=1, level=0.05)
    assert trend and (trend.before, trend.after) == (0, 7)


def rows(
    values: dict[str, list[float]], speeds: list[float] | None = None, *, seeds: list[int] | None = None, **fields: str
) -> pd.DataFrame:
    """A run a night of each backbone."""
    records, places = [], []
    for backbone, numbers in values.items():
        for number, (day, value) in enumerate(zip(DAYS, numbers, strict=False)):
            records.append(
                make_record(
                    value,
                    seeds[number] if seeds else 0,
                    backbone=backbone,
                    train_images_per_second=speeds[number] if speeds else 1000.0,
                    peak_memory_mb=8000.0,
                    **fields,
                )
            )
            places.append(f"{day}/classification/{backbone}")
    return to_frame(records, places)


def of(history: History, quantity: str = "accuracy", backbone: str = "a") -> Series:
    (found,) = [one for one in history.series if one.quantity == quantity and one.cell.backbone == backbone]
    return found


def noisy(seed: int, sigma: float = 0.1, level: float = 83.5) -> list[float]:
    return [float(value) for value in level + sigma * np.random.default_rng(seed).standard_normal(NIGHTS)]


FRESH = list(range(NIGHTS))


def test_a_drop_is_told_with_its_night_and_its_size() -> None:
    dropped = [value - 0.6 * (number >= 16) for number, value in enumerate(noisy(1))]
    history = to_history(rows({"a": dropped, "b": noisy(2)}, seeds=FRESH))
    (change,) = of(history).changes
    assert change.night == DAYS[16] and change.size == pytest.approx(-0.6, abs=0.1) and change.is_worse
    assert change.before == pytest.approx(np.mean(dropped[:16]), abs=0.05) and change.p_value < 1e-6
    assert not of(history, backbone="b").has_findings
    low, high = of(history).band or (0, 0)
    assert (low + high) / 2 == pytest.approx(np.mean(dropped[:14])) and of(history).sigma == pytest.approx(0.1, rel=0.4)
    frame = history.to_frame().set_index(["backbone", "quantity"])
    assert frame.loc[("a", "accuracy"), "change_night"] == DAYS[16] and frame.loc[("b", "accuracy"), "changes"] == 0
    assert len(frame) == 6 and history.nights == tuple(DAYS)


def test_the_baseline_of_the_band_can_be_named() -> None:
    history = to_history(rows({"a": noisy(1)}, seeds=FRESH), baseline=DAYS[20:])
    assert sum(of(history).band or ()) / 2 == pytest.approx(np.mean(noisy(1)[20:]))


def test_a_rising_loss_is_worse() -> None:
    rising = [2 + 0.02 * number + value for number, value in enumerate(noisy(3, 0.02, 0))]
    history = to_history(rows({"a": rising}, seeds=FRESH, metric="reconstruction_loss"))
    drift = of(history).drift
    assert drift and drift.is_worse and drift.size == pytest.approx(0.54, abs=0.1) and not of(history).changes
    assert (drift.since, drift.until) == (DAYS[0], DAYS[-1])


def test_of_one_seed_that_repeats_every_difference_is_a_change() -> None:
    history = to_history(rows({"a": [83.5] * 20 + [83.52] * 8, "b": noisy(2)}))
    (change,) = of(history).changes
    assert (change.night, change.p_value, of(history).sigma) == (DAYS[20], 0, 0)
    assert of(to_history(rows({"a": [83.5] * 28}))).changes == ()


def test_equal_numbers_of_different_seeds_are_no_proof() -> None:
    """Full marks every night but one, whatever the seed."""
    history = to_history(rows({"a": [100.0] * 20 + [99.8] + [100.0] * 7}, seeds=FRESH))
    assert not of(history).has_findings


def test_seeds_that_some_nights_lack_do_not_count_where_others_are_shared() -> None:
    frame = pd.concat([rows({"a": noisy(1)}), rows({"a": [99.0] * 3}, seeds=[1] * 3)])
    assert of(to_history(frame)).values == pytest.approx(noisy(1))


def test_a_stated_sigma_goes_before_what_the_nights_tell() -> None:
    dropped = [value - 0.6 * (number >= 16) for number, value in enumerate(noisy(1))]
    one = of(to_history(rows({"a": dropped}, seeds=FRESH), sigmas={"top1": 3.0}))
    assert one.sigma == 3.0 and not one.changes


def test_speed_and_memory_have_floors_and_levels_of_their_own() -> None:
    slower = [1000 * (0.9 if number >= 15 else 1) * math.exp(value) for number, value in enumerate(noisy(4, 0.01, 0))]
    history = to_history(rows({"a": noisy(1)}, slower, seeds=FRESH))
    (change,) = of(history, "speed").changes
    assert change.night == DAYS[15] and change.size == pytest.approx(-10, abs=1.5) and change.is_worse
    assert change.before == pytest.approx(1000, rel=0.01) and not of(history, "memory").has_findings
    little = [1000 * (0.97 if number >= 15 else 1) for number in range(NIGHTS)]
    assert not of(to_history(rows({"a": noisy(1)}, little, seeds=FRESH)), "speed").has_findings


@pytest.mark.parametrize(("share", "is_told"), [(0.9515, False), (0.9485, True), (1.049, False), (1.055, True)])
def test_a_change_to_slower_is_told_from_five_percent_of_what_it_was_on(share: float, is_told: bool) -> None:
    """As by `regress`; the logarithm of 1.05 would be 4.8 % less."""
    speeds = [1000 * (share if number >= 15 else 1) for number in range(NIGHTS)]
    history = to_history(rows({"a": noisy(1)}, speeds, seeds=FRESH))
    assert bool(of(history, "speed").changes) == is_told


@pytest.mark.parametrize(("nights", "cells"), [(7, 44), (8, 352)])
def test_what_falls_every_night_is_significant_among_so_many_cells(nights: int, cells: int) -> None:
    """As `FEWEST_OF_DRIFT` has it; seven nights are not looked at."""
    p_value = 2 / math.factorial(nights)
    assert cells * p_value < LEVEL / 2 <= (cells + 1) * p_value
    assert bool(find_trend(np.arange(float(nights)), cells=cells, level=LEVEL / 2)) == (nights >= 8)
    assert find_trend(np.arange(float(nights)), cells=cells + 1, level=LEVEL / 2) is None


def test_speed_is_of_the_machine_of_the_last_night() -> None:
    before = rows({"a": noisy(1)}, [500.0] * NIGHTS, seeds=FRESH, device="A100").iloc[:10]
    since = rows({"a": noisy(1)}, [1000.0] * NIGHTS, seeds=FRESH, device="H100").iloc[10:]
    history = to_history(pd.concat([before, since]))
    assert of(history, "speed").nights == tuple(DAYS[10:]) and of(history).nights == tuple(DAYS)


def test_small_numbers_are_shown_with_digits_enough() -> None:
    cell = CellName("pretraining", "mini", "train", "reconstruction_loss", "MAE", "mini", "ViT-mini", "mae", "r")
    loss = Series(cell, "p", "accuracy", ("2026-11-01",), (0.66853,), 1, False)
    assert (loss.shown(0.66853), loss.shown_size(-0.00213)) == ("0.6685", "-0.00213")
    top1 = replace(loss, cell=cell._replace(metric="top1"))
    assert [top1.shown_size(size) for size in (1.234, -0.0042)] == ["+1.23", "-0.0042"]
    speed = replace(loss, quantity="speed")
    assert [speed.shown(value) for value in (2.371, 1004.6)] == ["2.37", "1,005"]


def test_few_nights_are_shown_without_a_verdict() -> None:
    one = of(to_history(rows({"a": noisy(1)[:2]}, seeds=FRESH)))
    assert len(one.nights) == 2 and not one.has_findings
    assert to_history(rows({})).series == () and to_history(rows({})).to_frame().empty


def test_what_lies_far_from_its_neighbours_counts_up_to_two_sigma() -> None:
    values_N = np.zeros(9)
    values_N[4] = 10
    assert _without_outliers(values_N, 1.5).tolist() == _clipped(values_N, 1.5).tolist() == [*[0] * 4, 3, *[0] * 4]
