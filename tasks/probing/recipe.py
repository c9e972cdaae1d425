"""The settings of `backbench run` for probes on features."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from backbones.training.sections import PositiveInt, Settings
from backbones.training.settings import PixelSettings, Recipe, Share
from tasks.classification.recipe import ClassificationDataSettings, Inference

Pool = Literal["token", "avg", "token_and_avg"]
"""Which features are taken of a block: the class token, the mean over patches or cells, or both side by side."""

LAYERS = 4
"""How many of the last blocks can be taken."""

Layers = Annotated[int, Field(ge=1, le=LAYERS)]
Positive = Annotated[float, Field(gt=0)]


def _different(values: tuple[object, ...]) -> tuple[object, ...]:
    if len({*values}) < len(values):
        raise ValueError("each stands there once")
    return values


class FrozenSettings(PixelSettings):
    """What the backbone is shown; it is in evaluation and does not train."""

    image_size: PositiveInt


class FeatureSettings(Settings):
    """Which features of an image are taken; they are float32."""

    pool: Annotated[Pool, Field(description="token: the class token; avg: the mean over patches; or both")] = "token"
    layers: Annotated[
        Layers, Field(description="of how many of the last blocks, side by side; the mean of the last")
    ] = 1


class ProbingEvaluation(Settings):
    """What is measured, and on what."""

    allow_unreadable: bool = False


class ProbingRecipe(Recipe):
    """What the probes on features have in common."""

    varied = ("dataset",)

    model: FrozenSettings
    data: ClassificationDataSettings = ClassificationDataSettings()
    inference: Inference = Inference()
    evaluation: ProbingEvaluation = ProbingEvaluation()

    @model_validator(mode="after")
    def _sees_no_borders(self) -> "ProbingRecipe":
        self.inference.require_no_borders(self.model.image_size)
        return self

    @property
    def views(self) -> int:
        """How many augmented views of each training image are taken beside the one that evaluation has."""
        return 0


class VoteSettings(Settings):
    """How the nearest training images vote: with exp(cosine / temperature) (facebookresearch/dino, eval_knn.py)."""

    neighbours: Annotated[
        tuple[Literal[10, 20, 100, 200], ...],
        Field(strict=False, min_length=1, description="how many; of fewer training images all"),
        AfterValidator(_different),
    ] = (10, 20, 100, 200)
    temperature: Positive = 0.07


class NearestNeighboursRecipe(ProbingRecipe):
    """The nearest training images tell the class."""

    task: Literal["knn"]
    features: FeatureSettings = FeatureSettings()
    knn: VoteSettings = VoteSettings()


class HoldOut(Settings):
    """What of the training images is held out, of each class alike, to choose by."""

    share: Annotated[Share, Field(lt=1)] = 0.1


class GridSettings(Settings):
    """Which linear classifiers are trained (facebookresearch/dinov2, dinov2/eval/linear.py)."""

    rates: Annotated[
        tuple[Positive, ...], Field(strict=False, min_length=1), AfterValidator(_different)
    ] = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)  # fmt: skip
    pools: Annotated[tuple[Pool, ...], Field(strict=False, min_length=1), AfterValidator(_different)] = (
        "token",
        "token_and_avg",
    )
    layers: Annotated[tuple[Layers, ...], Field(strict=False, min_length=1), AfterValidator(_different)] = (1, 4)
    iterations: PositiveInt = 12_500
    batch_size: PositiveInt = 1024
    views: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description="augmented views of each training image to train on, cropped at random and flipped; 0: as "
            "evaluated",
        ),
    ] = 0


class LinearGridRecipe(ProbingRecipe):
    """Linear classifiers of many learning rates on several kinds of features, trained at once; one is chosen."""

    task: Literal["linear_grid"]
    grid: GridSettings = GridSettings()
    held_out: HoldOut = HoldOut()

    @property
    def views(self) -> int:
        return self.grid.views


class StrengthSettings(Settings):
    """Between which C is chosen (facebookresearch/dinov2, dinov2/eval/log_regression.py)."""

    least_exponent: float = -6.0
    most_exponent: float = 5.0
    steps: Annotated[PositiveInt, Field(description="how many powers of ten, equally far apart")] = 45

    @property
    def strengths(self) -> tuple[float, ...]:
        """C, ascending."""
        if self.steps == 1:
            return (10.0**self.least_exponent,)
        width = (self.most_exponent - self.least_exponent) / (self.steps - 1)
        return tuple(10.0 ** (self.least_exponent + width * step) for step in range(self.steps))

    @model_validator(mode="after")
    def _ascends(self) -> "StrengthSettings":
        if not -20 <= self.least_exponent <= self.most_exponent <= 20:
            raise ValueError("expected -20 <= least_exponent <= most_exponent <= 20")
        return self


class LogisticRegressionRecipe(ProbingRecipe):
    """Logistic regression on features of unit length.

    DINOv2's are as they come from the backbone, of images whose short side becomes 224 pixels, without a margin round
    the crop (facebookresearch/dinov2, dinov2/eval/log_regression.py, lines 277 and 376).
    """

    task: Literal["logistic_regression"]
    features: FeatureSettings = FeatureSettings()
    regression: StrengthSettings = StrengthSettings()
    held_out: HoldOut = HoldOut()


FewLabels = Literal[1, 2, 5, 10, 20]
"""How many images of each class can be labelled."""


class FewLabelsSettings(Settings):
    """How few images of each class are labelled, and how often they are drawn.

    C is MSN's: its penalty of lambda / 2 |W|² beside the mean loss has lambda = 0.00025 / images, and 1 / (C images)
    here (facebookresearch/msn, logistic_eval.py, the default of `--lambd`; its README's example has 0.0025, which is
    C = 400). MSN takes the class token before the last norm, subtracts from each image's features their mean, brings
    them to unit length, and has no biases (logistic_eval.py, lines 172 to 188; src/deit.py, `forward_blocks`).
    """

    per_class: Annotated[tuple[FewLabels, ...], Field(strict=False, min_length=1), AfterValidator(_different)] = (
        1,
        2,
        5,
        10,
    )
    draws: Annotated[PositiveInt, Field(le=1000)] = 5
    strength: Annotated[
        Positive, Field(description="C of the logistic regression, which few labels leave no images to choose by")
    ] = 4000.0


class FewLabelsRecipe(ProbingRecipe):
    """Logistic regression on features of unit length of so many images a class, of several draws."""

    task: Literal["few_labels"]
    features: FeatureSettings = FeatureSettings()
    few_labels: FewLabelsSettings = FewLabelsSettings()
