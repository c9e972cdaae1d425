"""The learning rate against the reference's formula, written out over fractional epochs."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, MultiStepParamScheduler

from backbones.training.schedule import ScheduleHook, WarmupCosine, learning_rate_curve
from backbones.training.settings import IterationSchedule

IMAGES = 1_281_167


def reference_rate(epoch: float, peak: float, floor: float, warmup_epochs: float, epochs: float) -> float:
    """Linear to the peak, then half a period of a cosine: the formula that MAE's tables 8 and 9 name."""
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    angle = math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return floor + (peak - floor) / 2 * (1 + math.cos(angle))


# base_lr, batch size, floor, warm-up epochs, epochs: MAE table 9 for ViT-B, table 8 with 1600 epochs
PROTOCOLS = {"fine-tuning": (5e-4, 1024, 1e-6, 5, 100), "pre-training": (1.5e-4, 4096, 0.0, 40, 1600)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equals_the_reference_over_fractional_epochs(protocol: str) -> None:
    base, batch, floor, warmup_epochs, epochs = PROTOCOLS[protocol]
    per_epoch = IMAGES // batch
    peak, total = base * batch / 256, epochs * per_epoch
    schedule = WarmupCosine(peak=peak, floor=floor, warmup=warmup_epochs * per_epoch, total=total)
    end_of_warmup = warmup_epochs * per_epoch
    for iteration in (0, 1, end_of_warmup // 2, end_of_warmup - 1, end_of_warmup, total // 2, total - 1):
        expected = reference_rate(iteration / per_epoch, peak, floor, warmup_epochs, epochs)
        assert schedule(iteration) == pytest.approx(expected, rel=1e-9, abs=1e-15), iteration
    assert schedule(0) == 0.0
    assert schedule(end_of_warmup) == peak
    assert floor < schedule(total - 1) < floor + 1e-6 * peak


def test_known_values() -> None:
    schedule = WarmupCosine(peak=1.0, floor=0.2, warmup=4, total=12)
    assert [schedule(i) for i in (0, 1, 4)] == [0.0, 0.25, 1.0]
    assert schedule(8) == pytest.approx(0.6)
    assert schedule(12) == pytest.approx(0.2)


def test_without_warmup_it_starts_at_the_peak() -> None:
    assert WarmupCosine(peak=3.0, floor=0.0, warmup=0, total=10)(0) == 3.0


def test_a_run_that_is_all_warmup_ends_below_the_peak() -> None:
    schedule = WarmupCosine(peak=1.0, floor=0.0, warmup=10, total=5)
    assert schedule(4) == pytest.approx(0.4)


def rates(hook: ScheduleHook, groups: list[dict[str, float]], iterations: int) -> list[list[float]]:
    """The rate of every group before each iteration."""
    optimizer = SimpleNamespace(param_groups=groups)
    runner = SimpleNamespace(optim_wrapper=SimpleNamespace(optimizer=optimizer))
    seen = []
    for iteration in range(iterations):
        hook.before_train_iter(runner, iteration)
        seen.append([group["lr"] for group in groups])
    return seen


def test_rate_is_constant_within_an_accumulation() -> None:
    schedule = WarmupCosine(peak=1.0, floor=0.0, warmup=4, total=12)
    seen = [rate for (rate,) in rates(ScheduleHook(schedule, accumulation=4), [{"lr": 9.0}], 12)]
    assert seen == [schedule(0)] * 4 + [schedule(4)] * 4 + [schedule(8)] * 4
    assert len(set(seen)) == 3


def test_groups_keep_their_proportion() -> None:
    schedule = WarmupCosine(peak=1.0, floor=0.1, warmup=2, total=8)
    groups = [{"lr": 9.0, "lr_scale": 0.65}, {"lr": 9.0}]
    for iteration, (scaled, plain) in enumerate(rates(ScheduleHook(schedule, accumulation=1), groups, 8)):
        assert plain == schedule(iteration)
        assert scaled == pytest.approx(0.65 * plain)


@pytest.mark.parametrize(
    ("settings", "reference"),
    [
        (
            {"shape": "cosine", "warmup_iterations": 460.9375},
            lambda: CosineParamScheduler(1.0, 0.0),
        ),
        (
            {"shape": "step", "milestones": (163_889, 177_546), "warmup_iterations": 250},
            lambda: MultiStepParamScheduler([1.0, 0.1, 0.01], 184_375, milestones=[163_889, 177_546]),
        ),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 4])
def test_iteration_schedules_are_detectron2s(settings: dict[str, Any], reference: Any, accumulation: int) -> None:
    """The two protocols' 184,375 iterations, against the scheduler that their configurations name."""
    schedule = IterationSchedule(iterations=184_375, warmup_factor=0.001, **settings)
    length = settings["warmup_iterations"] / 184_375
    expected = WarmupParamScheduler(reference(), warmup_factor=0.001, warmup_length=length)
    curve = learning_rate_curve(schedule, 8e-5, per_epoch=1848 * accumulation, accumulation=accumulation)
    for iteration in (0, 1, 249, 250, 460, 461, 462, 100_000, 163_888, 163_889, 177_546, 184_374):
        assert curve(iteration * accumulation) == pytest.approx(8e-5 * expected(iteration / 184_375), rel=1e-9)


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_warm_up_of_half_an_iteration_is_detectron2s(accumulation: int) -> None:
    """ViTDet's ViT-H: 138,281 iterations with a warm-up that is 250 / 184,375 of them, 187.5 to four digits."""
    milestones = [122_916, 133_159]
    schedule = IterationSchedule(
        iterations=138_281, warmup_iterations=187.5, warmup_factor=0.001, shape="step", milestones=tuple(milestones)
    )
    curve = MultiStepParamScheduler([1.0, 0.1, 0.01], 138_281, milestones=milestones)
    expected = WarmupParamScheduler(curve, warmup_factor=0.001, warmup_length=250 / 184_375)
    rates = learning_rate_curve(schedule, 1e-4, per_epoch=1848 * accumulation, accumulation=accumulation)
    for iteration in (0, 1, 100, 186, 187, 188, 250, 122_915, 122_916, 133_159, 138_280):
        assert rates(iteration * accumulation) == pytest.approx(1e-4 * expected(iteration / 138_281), rel=3e-6)


ADE20K = IterationSchedule(iterations=160_000, warmup_iterations=1_500, warmup_factor=1e-6, shape="poly")


@pytest.mark.parametrize(
    ("logged_at", "rate"),
    [
        (50, 1.207e-08),
        (200, 4.899e-08),
        (1_400, 3.418e-07),
        (1_500, 3.660e-07),
        (1_550, 3.661e-07),
        (1_700, 3.658e-07),
        (150_600, 2.172e-08),
        (156_100, 9.014e-09),
    ],
)
def test_poly_is_what_mae_segmentation_logged(logged_at: int, rate: float) -> None:
    """The rates of the embeddings, a layer decay of 0.65 over 13 layers, in the log of its 48.15 mIoU run.

    A line of that log tells the rate of the iteration before, in four digits.
    """
    curve = learning_rate_curve(ADE20K, 1e-4 * 0.65**13, per_epoch=1263, accumulation=1)
    assert curve(logged_at - 1) == pytest.approx(rate, abs=0.501 * 10 ** (math.floor(math.log10(rate)) - 3))


@pytest.mark.parametrize("accumulation", [1, 4])
def test_poly_follows_its_formula(accumulation: int) -> None:
    curve = learning_rate_curve(ADE20K, 2.0, per_epoch=1263 * accumulation, accumulation=accumulation)
    for update in (0, 1, 750, 1_499, 1_500, 1_501, 80_000, 159_999, 160_000):
        line = 2.0 * (1 - update / 160_000)
        warm = 1.0 if update >= 1_500 else 1e-6 + (1 - 1e-6) * update / 1_500
        assert curve(update * accumulation) == pytest.approx(line * warm, rel=1e-12, abs=1e-18)


def test_poly_without_warm_up_begins_at_the_peak() -> None:
    curve = learning_rate_curve(IterationSchedule(iterations=10, shape="poly"), 3.0, per_epoch=5, accumulation=1)
    assert [curve(step) for step in (0, 5, 10)] == [3.0, 1.5, 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_iterations": 10}, r"warm-up \(10\)"),
        ({"warmup_iterations": 10.5}, r"warm-up \(10.5\)"),
        ({"warmup_iterations": -0.5}, "greater than or equal to 0"),
        ({"milestones": (5,)}, "milestones belong"),
        ({"shape": "step"}, "at least one"),
        ({"shape": "step", "milestones": (10,)}, "beyond"),
        ({"shape": "step", "milestones": (5, 3)}, "comes after"),
    ],
)
def test_iteration_schedules_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IterationSchedule(iterations=10, **settings)
