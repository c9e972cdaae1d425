"""What a night is found to be against a baseline: numbers, noise, speed, and what cannot be compared."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results.metrics import PRIMARY
from results.regression.accuracy import holm, p_worse
from results.regression.findings import Severity
from results.regression.judging import Failure, judge
from results.regression.noise import PRIORS, Noise, noise_of_cells, pool_noise
from results.regression.runs import to_runs
from tests.support.result_rows import make_rows

MACHINE = {"device": "NVIDIA H100", "cuda": "13.0", "driver": "580.95", "torch": "2.14.1", "world_size": 1}
BASELINE = (83.1, 83.3, 83.2, 83.4, 83.0)


def rows(*values: float, first_seed: int = 0, day: int = 1, **columns: Any) -> pd.DataFrame:
    """A run a value, each of another seed and in another night."""
    nights = [f"2026-01-{day + number:02d}" for number in range(len(values))]
    told: dict[str, Any] = {
        "task": "classification",
        "dataset": "flowers",
        "split": "val",
        "metric": "top1",
        "value": list(values),
        "backbone": "mae_vit_base",
        "model": "ViT-B",
        "recipe": "flowers_vit_base",
        "protocol": "p",
        "seed": [first_seed + number for number in range(len(values))],
        "key": [f"{first_seed + number:012x}" for number in range(len(values))],
        "directory": [f"{night}/classification/run" for night in nights],
        "finished_at": [f"{night}T04:00:00+00:00" for night in nights],
        **MACHINE,
    }
    return make_rows(len(values), **(told | columns))


def later(*values: float, **columns: Any) -> pd.DataFrame:
    return rows(*values, first_seed=100, day=20, **columns)


def found(baseline: pd.DataFrame, current: pd.DataFrame, **options: Any) -> list[tuple[str, str]]:
    return [(finding.kind, str(finding.severity)) for finding in judge(baseline, current, **options).findings]


def test_holm_is_that_of_the_book() -> None:
    """R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize("value", [83.3, 82.9, 82.0])
def test_one_run_against_several_is_students_test(value: float) -> None:
    """With one number on the one side, the pooled variance is that of the other."""
    noise = pool_noise(to_runs(rows(*BASELINE)))["classification", "flowers", "top1"]
    assert noise.sigma == pytest.approx(np.std(BASELINE, ddof=1)) and noise.degrees == 4
    expected = stats.ttest_ind([value], BASELINE, alternative="less").pvalue
    assert p_worse(np.mean(BASELINE) - value, noise, 1, 5) == pytest.approx(expected)


def test_noise_is_pooled_over_cells_by_degrees_of_freedom() -> None:
    other = rows(60.0, 62.0, 61.0, backbone="mae_vit_large")
    noise = pool_noise(to_runs(pd.concat([rows(*BASELINE), other])))["classification", "flowers", "top1"]
    pooled = (4 * np.var(BASELINE, ddof=1) + 2 * np.var([60.0, 62.0, 61.0], ddof=1)) / 6
    assert (noise.sigma**2, noise.degrees) == (pytest.approx(pooled), 6)


def noises(*cells: list[float], **options: Any) -> list[Noise]:
    frame = pd.concat([rows(*values, backbone=f"b{number}") for number, values in enumerate(cells)])
    return list(noise_of_cells(to_runs(frame), **options).values())


def test_a_cell_that_is_noisier_than_all_others_has_its_own_noise() -> None:
    steady = [[80.0, 80.1, 80.2, 80.1], [70.0, 70.2, 70.1, 70.1], [60.1, 60.0, 60.2, 60.0], [50.0, 50.1, 50.1, 50.2]]
    noisy = [40.0, 44.0, 36.0, 42.0]
    *others, last = noises(*steady, noisy)
    assert (last.sigma, last.degrees) == (pytest.approx(np.std(noisy, ddof=1)), 3)
    assert last.source == "seeds of this cell, 3 degrees of freedom"
    assert all(other.degrees < 15 for other in others), "cells so unlike say less of each other"
    assert {(one.sigma, one.degrees) for one in noises(*steady, noisy, stated={"top1": 0.1})} == {(0.1, np.inf)}


def test_a_cell_that_is_noisier_by_chance_shares_the_noise_of_the_others() -> None:
    """Of 40 equal cells of 14 seeds the noisiest has 2.4 times the variance of the others in one baseline of seven."""
    z = np.random.default_rng(0).normal(size=14)
    for times, source in ((2.4, "seeds of the baseline"), (9.0, "seeds of this cell")):
        *_, last = noises(*[list(80 + z)] * 39, list(80 + times**0.5 * z))
        assert last.source.startswith(source)


def test_seeds_that_agree_on_few_images_do_not_mean_that_all_do() -> None:
    """One image of twenty is 5 points: numbers are known to that, rounded."""
    few = rows(50.0, 50.0, 50.0, n_eval=20)
    assert found(few, later(45.0, n_eval=20)) == []
    assert found(few, later(20.0, n_eval=20)) == [("accuracy", "regression")]
    assert found(few, later(45.0, n_eval=20), sigmas={"top1": 0}) == [("accuracy", "regression")]
    assert found(rows(50.0, 50.0, 50.0, n_eval=50_000), later(49.0, n_eval=50_000)) == [("accuracy", "regression")]


@pytest.mark.parametrize("seeds", [3, 5, 14])
@pytest.mark.parametrize("images", [20, 160, 800])
@pytest.mark.parametrize("metric", ["top1", "knn20_top1", "linear_grid_top1", "partial_top1", "labels20_top1"])
def test_an_image_that_falls_differently_is_no_regression(metric: str, images: int, seeds: int) -> None:
    about = {"metric": metric, "n_eval": images}
    before = rows(*[90.0] * seeds, **about)
    assert found(before, later(90.0 - 100 / images, **about)) == []
    assert found(before, later(90.0 - 800 / images, **about)) == [("accuracy", "regression")]


@pytest.mark.parametrize("metric", [name for name in PRIMARY if name.endswith("top1")])
def test_an_image_that_falls_differently_is_no_regression_of_a_probe_either(metric: str) -> None:
    columns = {"metric": metric, "n_eval": 160}
    before = rows(*[90.0] * 5, **columns)
    assert found(before, later(90.0 - 100 / 160, **columns)) == []
    assert found(before, later(90.0 - 800 / 160, **columns)) == [("accuracy", "regression")]


def test_a_cell_without_noise_does_not_make_the_others_unlike() -> None:
    """Three seeds at 100 % each: by their variance of 0 alone, those of all others would tell half as much."""
    random = np.random.default_rng(0)
    cells = [list(60 + random.normal(0, 0.1, 3)) for _ in range(39)]
    assert min(one.degrees for one in noises(*cells, [100.0, 100.0, 100.0])) > 12
    assert min(one.degrees for one in noises(*cells, [100.0, 100.001, 100.0])) > 12


def test_cells_that_are_alike_share_their_noise() -> None:
    random = np.random.default_rng(0)
    cells = [list(80 + random.normal(0, 0.1, 6)) for _ in range(8)]
    cells.append([75.0])
    assert len({(one.sigma, one.degrees) for one in noises(*cells)}) == 1
    (one, *_) = noises(*cells)
    assert (one.sigma**2, one.degrees) == (pytest.approx(np.mean([np.var(c, ddof=1) for c in cells[:8]])), 40)


def test_cells_that_are_unlike_are_moderated() -> None:
    """Variances drawn around a common one with 4 degrees of freedom, which is found again (Smyth 2004)."""
    random = np.random.default_rng(1)
    sigmas = np.sqrt(4 / random.chisquare(4, 400))
    cells = [list(80 + sigma * random.normal(size=6)) for sigma in sigmas]
    found = [one for one in noises(*cells) if not one.source.startswith("seeds of this cell")]
    assert len(found) > 300 and all(7 < one.degrees < 12 for one in found)


def test_a_seed_repeated_is_no_noise_between_seeds() -> None:
    repeated = rows(83.1, 83.1, 83.2, 83.1, seed=0)
    assert ("classification", "flowers", "top1") not in pool_noise(to_runs(repeated))
    assert found(repeated, rows(82.0, day=20)) == [("noise", "cannot tell")]
    assert found(repeated, rows(83.1, day=20)) == []
    assert found(repeated, rows(82.0, day=20), sigmas={"top1": 0.1}) == [("accuracy", "regression")]


def test_the_prior_is_that_of_the_released_seeds() -> None:
    """facebookresearch/mae, FINETUNE.md: ViT-B and ViT-L."""
    prior = PRIORS["classification", "imagenet1k", "top1"]
    released = ([83.63, 83.66, 83.52, 83.46], [85.95, 85.87, 85.76, 85.88])
    assert prior.sigma == pytest.approx(np.mean([np.var(each, ddof=1) for each in released]) ** 0.5, abs=5e-4)
    assert prior.degrees == 6
    columns = {"dataset": "imagenet1k"}
    assert found(rows(83.6, **columns), later(83.0, **columns)) == [("accuracy", "regression")]
    assert found(rows(83.6, **columns), later(83.4, **columns)) == []


def test_worse_better_and_below_the_floor() -> None:
    (finding,) = judge(rows(*BASELINE), later(80.0)).findings
    assert (finding.severity, finding.value, finding.baseline) == (Severity.regression, 80.0, pytest.approx(83.2))
    assert finding.words.startswith("top-1 80.00 % over 1 seed, in the baseline 83.20 % over 5 seeds: 3.20 worse (p ")
    assert "seeds differ by 0.16, seeds of the baseline, 4 degrees of freedom" in finding.words
    assert found(rows(*BASELINE), later(86.0)) == [("accuracy", "improvement")]
    steady = rows(83.1, 83.1001, 83.1002, 83.1003)
    assert found(steady, later(83.05)) == []  # 500 σ, and 0.05 points
    assert judge(rows(*BASELINE), later(80.0)).status == 1 and judge(rows(*BASELINE), later(86.0)).status == 0


def test_of_a_loss_less_is_better() -> None:
    columns = {"task": "pretraining", "metric": "reconstruction_loss", "split": "train"}
    assert found(rows(0.41, 0.42, 0.40, **columns), later(0.60, **columns)) == [("accuracy", "regression")]
    assert found(rows(0.41, 0.42, 0.40, **columns), later(0.20, **columns)) == [("accuracy", "improvement")]


def test_small_losses_and_spreads_are_told_with_digits_enough() -> None:
    columns = {"task": "pretraining", "metric": "reconstruction_loss", "split": "train"}
    (finding,) = judge(rows(0.6671, 0.6685, 0.6702, **columns), later(0.7442, **columns)).findings
    assert finding.words.startswith(
        "reconstruction loss 0.7442 over 1 seed, in the baseline 0.6686 over 3 seeds: 0.0756 worse (p "
    )
    assert "seeds differ by 0.001552, seeds of the baseline" in finding.words
    (finding,) = judge(rows(83.1, 83.101, 83.102), later(82.9)).findings
    assert "in the baseline 83.10 % over 3 seeds: 0.20 worse (p " in finding.words
    assert "seeds differ by 0.001, seeds of the baseline" in finding.words


def test_what_may_be_worse_is_suspicious_from_half_the_floor_on() -> None:
    """Of 0.1 points: one run of what is worse by as much falls below it in half of the nights."""
    steady = rows(83.0, 83.05, 83.1, 83.0, 83.05)
    drops = {0.04: False, 0.06: True, 0.2: True}
    assert {drop: judge(steady, later(83.04 - drop)).cells[0].suspicious for drop in drops} == drops
    assert found(steady, later(83.04 - 0.06)) == []
    unsteady = rows(82.0, 83.05, 84.1, 83.0, 83.05)
    assert not judge(unsteady, later(82.9)).cells[0].suspicious


def test_one_metric_of_a_cell_counts() -> None:
    def both(box: float, mask: float, **when: Any) -> pd.DataFrame:
        return pd.concat([rows(box, metric="AP_box", **when), rows(mask, metric="AP_mask", **when)])

    baseline = pd.concat([both(48.0, 43.0), both(48.2, 43.1, first_seed=1), both(48.1, 43.2, first_seed=2)])
    verdict = judge(baseline, both(48.1, 30.0, first_seed=9, day=20))
    assert [cell.cell.metric for cell in verdict.cells] == ["AP_box"] and not verdict.findings


def test_identical_numbers_are_told_as_such() -> None:
    verdict = judge(rows(*BASELINE), rows(*BASELINE, day=20))
    assert (verdict.identical, verdict.status, verdict.findings) == (1, 0, ())
    assert judge(rows(*BASELINE), later(83.2)).identical == 0


def test_a_cell_that_vanished_and_one_that_appeared() -> None:
    verdict = judge(rows(*BASELINE), later(83.2, backbone="other"))
    assert [(each.kind, each.severity, each.cell.backbone) for each in verdict.findings] == [
        ("vanished", Severity.unclear, "mae_vit_base"),
        ("appeared", Severity.notice, "other"),
    ]
    assert verdict.status == 3


@pytest.mark.parametrize(
    ("severity", "status", "kind"), [(Severity.regression, 1, "failed"), (Severity.unclear, 3, "unfinished")]
)
def test_a_cell_that_failed_has_not_only_vanished(severity: Severity, status: int, kind: str) -> None:
    failure = Failure("classification", "flowers", "mae_vit_base", "flowers_vit_base", "diverged", severity)
    verdict = judge(rows(*BASELINE), later(83.2, backbone="other"), failures=[failure])
    assert [(each.kind, each.words) for each in verdict.of(severity)] == [(kind, "diverged")]
    assert verdict.status == status and "vanished" not in {each.kind for each in verdict.findings}


def test_another_protocol_names_the_settings() -> None:
    before = {"protocol": "p", "settings": json.dumps({"optimizer.lr": 0.1, "schedule.epochs": 3})}
    now = {"protocol": "q", "settings": json.dumps({"optimizer.lr": 0.2, "schedule.epochs": 3, "ema": True})}
    (finding,) = judge(rows(*BASELINE, **before), later(20.0, **now)).findings
    assert (finding.kind, finding.severity) == ("protocol", Severity.unclear)
    assert finding.words == "another protocol: ema true, was not set; optimizer.lr 0.2, was 0.1"


def test_other_data_are_no_regression() -> None:
    before, now = ({"protocol": name, "data_fingerprint": name * 12} for name in "ab")
    (finding,) = judge(rows(*BASELINE, **before), later(20.0, **now)).findings
    assert (finding.kind, finding.severity) == ("data", Severity.unclear)
    assert finding.words == "other data: fingerprint bbbbbbbbbbbb, in the baseline aaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("data_fingerprint", "other data: fingerprint new, in the baseline old"),
        ("n_eval", "evaluated on 100 images, in the baseline on 50000"),
        ("deviations", "another protocol: deviations new, were old"),
    ],
)
def test_of_two_tables_without_protocols_only_like_is_compared(column: str, told: str) -> None:
    """As version 0.1 wrote them: data, images and deviations are all that they say of it."""
    old, new = (50_000, 100) if column == "n_eval" else ("old", "new")
    before = rows(83.6, 83.5, 83.7, **{"protocol": "", column: old})
    verdict = judge(before, later(70.0, **{"protocol": "", column: new}))
    assert [(finding.severity, finding.words) for finding in verdict.findings] == [(Severity.unclear, told)]
    assert found(before, later(70.0, **{"protocol": "", column: old})) == [("accuracy", "regression")]


def test_cells_of_several_protocols_are_paired_by_them() -> None:
    several = pd.concat([rows(*BASELINE), rows(60.1, 60.2, 60.3, protocol="q", first_seed=50)])
    tonight = pd.concat([later(83.2), later(50.0, protocol="q", key="f" * 12)])
    verdict = judge(several, tonight)
    assert len(verdict.cells) == 2
    assert [finding.baseline for finding in verdict.of(Severity.regression)] == [pytest.approx(60.2)]


def test_speed_and_memory() -> None:
    before = {"train_images_per_second": [500.0, 505.0, 495.0, 502.0, 498.0], "peak_memory_mb": 10_000.0}
    slow = later(83.2, train_images_per_second=430.0, peak_memory_mb=10_000.0)
    (finding,) = judge(rows(*BASELINE, **before), slow).findings
    assert (finding.kind, finding.severity) == ("speed", Severity.regression)
    assert finding.words.startswith("430 images/s, in 5 nights of the baseline 500: 14.0 % slower (p ")
    full = later(83.2, train_images_per_second=500.0, peak_memory_mb=10_300.0)
    assert found(rows(*BASELINE, **before), full) == [("memory", "regression")]
    fine = later(83.2, train_images_per_second=520.0, peak_memory_mb=10_150.0)
    assert found(rows(*BASELINE, **before), fine) == []


def test_a_low_speed_is_told_with_digits_enough_and_never_slower_by_more_than_all_of_it() -> None:
    before = rows(*BASELINE, train_images_per_second=[7.57, 7.55, 7.56, 7.58, 7.54])
    (finding,) = judge(before, later(83.2, train_images_per_second=2.37)).findings
    assert finding.words.startswith("2.37 images/s, in 5 nights of the baseline 7.56: 68.7 % slower (p ")
    assert finding.worse_by == pytest.approx(100 * (1 - 2.37 / 7.56))


def test_two_nights_tell_nothing_of_speed() -> None:
    before = rows(83.1, 83.3, train_images_per_second=[500.0, 501.0])
    verdict = judge(before, later(83.2, train_images_per_second=250.0))
    assert verdict.findings == ()
    assert verdict.remarks[-1] == (
        "speed and memory of 1 cell not tested: this takes 3 nights of the baseline on the same machine"
    )


@pytest.mark.parametrize("more", [1, 4])
def test_memory_that_nights_of_the_baseline_had_is_no_regression(more: int) -> None:
    """Where two peaks occur, most pairs of nights may be equal, and tonight's the other one."""
    before = rows(*np.linspace(83.0, 83.4, 14), peak_memory_mb=[1000.0] * (14 - more) + [1100.0] * more)
    assert found(before, later(83.2, peak_memory_mb=1100.0)) == []
    assert found(before, later(83.2, peak_memory_mb=1110.0)) == [("memory", "regression")]
    other = rows(*np.linspace(83.0, 83.4, 14), peak_memory_mb=list(np.linspace(998.0, 1002.0, 14)), backbone="other")
    two = pd.concat([later(83.2, peak_memory_mb=1100.0), later(83.2, peak_memory_mb=1000.0, backbone="other")])
    assert found(pd.concat([before, other]), two) == []


def test_another_gpu_is_compared_in_accuracy_alone() -> None:
    before = {"train_images_per_second": [500.0, 505.0, 495.0, 502.0, 498.0]}
    other = {"device": "NVIDIA A100", "driver": "570.1"}
    verdict = judge(rows(*BASELINE, **before), later(80.0, train_images_per_second=100.0, **other))
    assert [(each.kind, str(each.severity)) for each in verdict.findings] == [
        ("accuracy", "regression"),
        ("machine", "notice"),
    ]
    assert verdict.findings[1].words == (
        "speed and memory are not compared: device NVIDIA H100 → NVIDIA A100; driver 580.95 → 570.1"
    )
    assert "device NVIDIA A100, in the baseline NVIDIA H100" in verdict.remarks


def test_of_several_machines_of_a_night_speed_is_of_the_one_that_the_baseline_knows_best() -> None:
    """Further seeds of a cell of eight GPUs may be run on one; some of earlier nights were, too."""
    whole = rows(*BASELINE, world_size=8, train_images_per_second=[8000.0, 8010.0, 7990.0, 8005.0, 8003.0])
    single = {"world_size": 1, "train_images_per_second": 1000.0}
    slow = pd.concat(
        [later(83.2, world_size=8, train_images_per_second=6000.0), later(83.2, **single, seed=101, key="f" * 12)]
    )
    for nights in (0, 1, 4):
        before = pd.concat([whole, rows(*BASELINE[:nights], first_seed=50, **single)])
        (finding,) = judge(before, slow).findings
        assert finding.words.startswith("6,000 images/s, in 5 nights of the baseline 8,003: 25.0 % slower (p ")


def test_another_machine_is_told_by_the_last_one_of_the_baseline() -> None:
    speed = {"train_images_per_second": 500.0}
    before = pd.concat([rows(*BASELINE[:4], **speed, driver="570.1"), rows(83.0, first_seed=50, day=9, **speed)])
    (finding,) = judge(before, later(83.2, **speed, driver="590.2")).findings
    assert finding.words == "speed and memory are not compared: driver 580.95 → 590.2"


def test_of_several_runs_of_a_seed_in_a_night_the_latest_counts() -> None:
    again = pd.concat([later(20.0), later(83.2, run=2)])
    assert found(rows(*BASELINE), again) == []
    clock_behind = pd.concat([later(20.0), later(83.2, run=2, finished_at="2026-01-20T03:00:00+00:00")])
    assert found(rows(*BASELINE), clock_behind) == []


def test_an_evaluation_does_not_take_the_place_of_the_run_that_trained() -> None:
    trained = later(83.2, train_images_per_second=500.0)
    evaluated = later(83.2, trained="0" * 12, key="f" * 12, finished_at="2026-01-20T09:00:00+00:00")
    for both in ([trained, evaluated], [evaluated, trained]):
        (run,) = to_runs(pd.concat(both))
        assert not run.row["trained"] and run.row["train_images_per_second"] == 500.0
    (alone,) = to_runs(evaluated)
    assert alone.row["trained"] == "0" * 12


def test_nights_are_folders_or_days() -> None:
    assert [run.night for run in to_runs(rows(1.0, 2.0))] == ["2026-01-01", "2026-01-02"]
    (run,) = to_runs(rows(1.0, directory="classification/run", finished_at="2026-03-04T23:59:00+00:00"))
    assert run.night == "2026-03-04"
    (run,) = to_runs(rows(1.0, night="2026-05-05"))
    assert run.night == "2026-05-05"


def test_without_noise_all_is_a_difference() -> None:
    assert p_worse(0.1, Noise(0.0, 3, ""), 1, 4) == 0.0 and p_worse(0.0, Noise(0.0, 3, ""), 1, 4) == 1.0


def test_nothing_to_compare() -> None:
    verdict = judge(rows(), rows())
    assert (verdict.status, verdict.cells) == (3, ())
    assert verdict.to_frame().empty
