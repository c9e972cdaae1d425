"""The settings of `backbench pretrain`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from backbones.mae.masking import MaskSampling
from backbones.objectives import find_objective, is_objective, parameters_of
from backbones.training.later import Later
from backbones.training.settings import (
    EpochSchedule,
    Fraction,
    NonNegative,
    PixelSettings,
    PositiveInt,
    ScaledOptimizer,
    Settings,
    Shares,
    TrainingRecipe,
)

HueShift = Annotated[float, Field(ge=0, le=0.5)]


class NetworkSettings(PixelSettings):
    """What is pre-trained, on which input."""

    arch: str
    image_size: PositiveInt


class MaskedAutoencoderSettings(NetworkSettings):
    """Which masked autoencoder. What came later are the paper's ablations (MAE, table 1)."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    norm_pix_loss: bool = True
    mask_sampling: Annotated[MaskSampling, Later("random")] = "random"
    mask_tokens_in_encoder: Annotated[
        bool, Field(description="the encoder sees all patches, hidden ones as mask tokens"), Later(False)
    ] = False
    decoder_depth: Annotated[PositiveInt | None, Field(description="blocks; null: the architecture's"), Later(None)] = (
        None
    )
    decoder_width: Annotated[PositiveInt | None, Field(description="null: the architecture's"), Later(None)] = None
    decoder_heads: Annotated[PositiveInt | None, Field(description="null: the architecture's"), Later(None)] = None


class ObjectiveSettings(NetworkSettings):
    """Which objective of `backbones.objectives`; what else is set goes to its function."""

    model_config = ConfigDict(extra="allow")

    @property
    def own(self) -> dict[str, Any]:
        """What the function takes beside the image size."""
        return dict(self.model_extra or {})


class PretrainingAugmentation(Settings):
    """Random resized crop and flip, nothing else (MAE, appendix A.1); the paper's other choices (table 1e)."""

    crop: Annotated[
        Literal["random", "fixed", "none"],
        Field(description="random: of any size; fixed: of 7/8 of the short side; none: that in the centre"),
        Later("random"),
    ] = "random"
    crop_scale: Shares = (0.2, 1.0)
    crop_tries: Annotated[
        PositiveInt, Field(description="draws of a crop until one fits; 1: a single one, cut to the image"), Later(1)
    ] = 10
    flip: Fraction = 0.5
    colour_jitter: Annotated[
        tuple[NonNegative, NonNegative, NonNegative, HueShift] | None,
        Field(
            strict=False,
            description="brightness, contrast, saturation and hue of torchvision's ColorJitter",
            examples=[(0.4, 0.4, 0.4, 0.1)],
        ),
        Later(None),
    ] = None


class PretrainingRecipe(TrainingRecipe):
    """The settings of a pre-training, of whatever network."""

    task: Literal["pretraining"]
    model: NetworkSettings
    optimizer: ScaledOptimizer
    schedule: EpochSchedule
    augment: PretrainingAugmentation = PretrainingAugmentation()


class MaskedAutoencoderRecipe(PretrainingRecipe):
    """The settings of a masked autoencoder's pre-training."""

    model: MaskedAutoencoderSettings


class ObjectiveRecipe(PretrainingRecipe):
    """The settings of any other objective's pre-training."""

    model: ObjectiveSettings


def interpret(settings: Mapping[str, Any]) -> tuple[type[PretrainingRecipe], dict[str, Any]]:
    """The class of a recipe's settings, an autoencoder's unless their `model.arch` names another objective, and they.

    What a recipe sets for the autoencoder alone, another objective is not given unless its function has a parameter of
    that name: so it can be trained under an autoencoder's recipe. Raises InputError as `find_objective` does.
    """
    model = settings.get("model")
    arch = model.get("arch") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(arch, str) or not is_objective(arch):
        return MaskedAutoencoderRecipe, dict(settings)
    autoencoders = MaskedAutoencoderSettings.model_fields.keys() - NetworkSettings.model_fields.keys()
    foreign = autoencoders - parameters_of(find_objective(arch))
    return ObjectiveRecipe, {**settings, "model": {key: model[key] for key in model if key not in foreign}}
