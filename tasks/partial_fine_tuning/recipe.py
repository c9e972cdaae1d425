"""The settings of `backbench run` for partial fine-tuning."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.classification.recipe import ClassifierSettings, FineTuningRecipe


class PartialSettings(ClassifierSettings):
    """How the backbone becomes a classifier, and how much of it trains."""

    trained_blocks: Annotated[
        int,
        Field(
            ge=0,
            description="how many of the last blocks train, with the norm and the head behind them; 0: these alone; as "
            "many as there are: everything, as in fine-tuning",
        ),
    ]


class PartialFineTuningRecipe(FineTuningRecipe):
    """Fine-tuning of the last blocks alone (MAE, section 4.3 and figure 9)."""

    varied = ("model.trained_blocks",)

    task: Literal["partial_fine_tuning"]
    model: PartialSettings
