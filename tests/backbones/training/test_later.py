"""A setting that is added leaves alone the keys and protocols of the runs that were made without it."""

from typing import Annotated

from pydantic import Field

from backbones.training.later import Later, later_settings, without_neutral
from backbones.training.settings import (
    EpochSchedule,
    ScaledOptimizer,
    Settings,
    TrainingRecipe,
    deciding_settings,
    deviations,
    protocol,
)


class Optimizer(ScaledOptimizer):
    eps: Annotated[float, Field(gt=0), Later(1e-8)] = 1e-6


class Loss(Settings):
    smoothing: Annotated[float, Later(0.0)] = 0.0


class Before(TrainingRecipe):
    optimizer: ScaledOptimizer
    schedule: EpochSchedule


class After(Before):
    optimizer: Optimizer
    loss: Loss = Loss()
    ema: Annotated[float | None, Later(None)] = None


def settings(**optimizer: float) -> dict[str, object]:
    return {
        "task": "any",
        "dataset": "mini",
        "source": "here",
        "optimizer": {"batch_size": 8, "base_lr": 0.1, **optimizer},
        "schedule": {"epochs": 2, "warmup_epochs": 0.0},
    }


def test_a_neutral_setting_has_no_part_in_key_and_protocol() -> None:
    before, after = Before.model_validate(settings()), After.model_validate(settings(eps=1e-8))
    assert deciding_settings(after) == deciding_settings(before)
    assert protocol(deciding_settings(after)) == protocol(deciding_settings(before))
    assert after.model_dump()["optimizer"]["eps"] == 1e-8  # the recipe that a run leaves behind has it


def test_any_other_value_has_the_default_included() -> None:
    before, after = Before.model_validate(settings()), After.model_validate(settings())
    extra = protocol(deciding_settings(after)).items() - protocol(deciding_settings(before)).items()
    assert extra == {("optimizer.eps", "1e-06")}


def test_deviations_name_neutral_values_too() -> None:
    neutral, default = After.model_validate(settings(eps=1e-8)), After.model_validate(settings())
    assert deviations(neutral, default) == ["optimizer.eps=1e-08 (reference 1e-06)"]


def test_neutral_values_are_found_in_all_sections() -> None:
    assert later_settings(After) == {"optimizer": {"eps": 1e-8}, "loss": {"smoothing": 0.0}, "ema": None}
    assert later_settings(Before) == {}


def test_a_section_of_which_nothing_else_is_left_goes_too() -> None:
    neutral = {"loss": {"smoothing": 0.0}, "ema": None}
    assert without_neutral({"loss": {"smoothing": 0.0}, "ema": None, "a": 1}, neutral) == {"a": 1}
    kept = {"loss": {"smoothing": 0.1}, "ema": 0.9, "a": {"loss": {"smoothing": 0.0}}}
    assert without_neutral(kept, neutral) == kept
