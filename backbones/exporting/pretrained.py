"""What a finished pre-training trained, put together again from the weights that it left."""

from torch import nn

from backbones.architectures import build_timm_model
from backbones.errors import InputError
from backbones.mae.model import MaskedAutoencoder
from backbones.objectives import encoder_weights
from backbones.pretraining.settings import PretrainingRecipe
from backbones.pretraining.steps import create_step
from backbones.trained.loading import load_trained
from backbones.weights.checkpoints import Checkpoint


def pretrained_network(recipe: PretrainingRecipe, checkpoint: Checkpoint) -> nn.Module:
    """The masked autoencoder, or the encoder of a method of somebody's own, as the model of timm's that it is.

    Raises InputError for weights that do not fit, and for an encoder that is no model of timm's.
    """
    step = create_step(recipe, 0)
    network = step.network
    load_trained(network, checkpoint)
    if isinstance(network, MaskedAutoencoder):
        return network.eval()
    if not step.arch:
        raise InputError(
            f"{checkpoint.name}: the encoder of {recipe.model.arch} is no model of timm's, as far as its registration "
            "says. Give `arch=` to register_pretraining, or hand on checkpoints/encoder.pth with its package"
        )
    encoder = build_timm_model(step.arch, recipe.model.image_size)
    try:
        encoder.load_state_dict(encoder_weights(network, recipe.model.arch), strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{checkpoint.name}: the encoder of {recipe.model.arch} is not timm's {step.arch}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return encoder.eval()
