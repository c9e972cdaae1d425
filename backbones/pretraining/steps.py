"""What a pre-training trains, as mmengine's loop wants it: bytes in, `{"loss": …}` out.   B images of H × W pixels."""

from functools import partial

from mmengine.model import BaseDataPreprocessor, BaseModel
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.images.pixels import normalise
from backbones.mae.masking import require_sampling
from backbones.mae.model import MaskedAutoencoder, create_mae, list_mae_models
from backbones.objectives import build_objective, find_objective
from backbones.plugins import describe_error
from backbones.pretraining.settings import (
    MaskedAutoencoderRecipe,
    MaskedAutoencoderSettings,
    ObjectiveRecipe,
    PretrainingRecipe,
)
from backbones.pretraining.trial import loss_in, try_objective
from backbones.training.randomness import seed_generators


class PretrainingStep(BaseModel):
    """A network and how its images are normalised. `method` and `arch` are what its encoder is then known by."""

    method: str
    arch: str
    spared: tuple[str, ...] = ()  # names of parameters that do not decay, beside those of one dimension

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__(BaseDataPreprocessor(non_blocking=True))
        self.network, self.normalisation = network, normalisation

    def init_weights(self) -> None:
        """Leave the weights as they are: the model has initialised itself."""

    def forward(self, images: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        """images: uint8 (B, 3, H, W)."""
        return {"loss": self.loss(normalise(images, self.normalisation))}

    def loss(self, images: Tensor) -> Tensor:
        """The loss, a scalar, of normalised images (B, 3, H, W)."""
        raise NotImplementedError

    def parameter_groups(self, weight_decay: float) -> list[dict[str, object]]:
        """The network's parameters, some of them without decay."""
        groups: list[dict[str, object]] = param_groups_weight_decay(
            self.network, weight_decay, no_weight_decay_list=self.spared
        )
        return groups


class MaskedAutoencoderStep(PretrainingStep):
    """A masked autoencoder."""

    network: MaskedAutoencoder

    def __init__(self, network: MaskedAutoencoder, mask_ratio: float, normalisation: Normalisation) -> None:
        super().__init__(network, normalisation)
        self.mask_ratio, self.method, self.arch = mask_ratio, "MAE", network.encoder_name

    def loss(self, images: Tensor) -> Tensor:
        loss: Tensor = self.network(images, self.mask_ratio)[0]
        return loss


class ObjectiveStep(PretrainingStep):
    """Any other objective of `backbones.objectives`."""

    def __init__(self, network: nn.Module, normalisation: Normalisation, method: str, arch: str) -> None:
        super().__init__(network, normalisation)
        self.method, self.arch = method, arch
        self.spared = _spared(network, f"pre-training {method}")

    def loss(self, images: Tensor) -> Tensor:
        return loss_in(self.network(images), f"pre-training {self.method}")


def _spared(network: nn.Module, who: str) -> tuple[str, ...]:
    """What a module's `no_weight_decay` names, if it has one. Raises InputError where those are no parameters of it."""
    method = getattr(network, "no_weight_decay", None)
    if not callable(method):
        return ()
    try:
        named = method()
        names = () if isinstance(named, str) else tuple(named)
    except Exception as error:  # another author's method can fail in any way
        raise InputError(f"{who}: its no_weight_decay() failed with {describe_error(error)}") from error
    known = [name for name, _ in network.named_parameters()]
    if isinstance(named, str) or (names and not {*names} & {*known}):
        raise InputError(
            f"{who}: its no_weight_decay() gives {named!r}, of which nothing is a parameter. Expected a list of their "
            f"whole names, such as {known[0]}"
        )
    return names


def create_step(recipe: PretrainingRecipe, seed: int) -> PretrainingStep:
    """What `recipe` trains, with new weights.

    Raises InputError for settings that do not fit each other, an unknown network, and an objective that cannot train.
    """
    if isinstance(recipe, ObjectiveRecipe):
        return _objective_step(recipe, seed)
    assert isinstance(recipe, MaskedAutoencoderRecipe)
    seed_generators(seed, "weights")
    settings = recipe.model
    network = build_autoencoder(settings)
    network.set_grad_checkpointing(recipe.runtime.activation_checkpointing)
    require_sampling(settings.mask_sampling, network.patch_embed.grid_size, settings.mask_ratio)
    return MaskedAutoencoderStep(network, settings.mask_ratio, settings.normalisation or IMAGENET)


def build_autoencoder(settings: MaskedAutoencoderSettings) -> MaskedAutoencoder:
    """A masked autoencoder with new weights. Raises InputError for settings that do not fit each other."""
    if settings.arch not in list_mae_models():
        find_objective(settings.arch)  # raises: it would be another recipe's
    decoder = {name: getattr(settings, name) for name in ("decoder_depth", "decoder_width", "decoder_heads")}
    return create_mae(
        settings.arch,
        image_size=settings.image_size,
        norm_pix_loss=settings.norm_pix_loss,
        mask_tokens_in_encoder=settings.mask_tokens_in_encoder,
        mask_sampling=settings.mask_sampling,
        **{name: value for name, value in decoder.items() if value is not None},
    )


def _objective_step(recipe: ObjectiveRecipe, seed: int) -> ObjectiveStep:
    settings, objective = recipe.model, find_objective(recipe.model.arch)
    build = partial(build_objective, objective, settings.image_size, settings.own)
    try_objective(build, objective.name, settings.image_size, seed)
    seed_generators(seed, "weights")
    network = build()
    if recipe.runtime.activation_checkpointing:
        switch = getattr(network, "set_grad_checkpointing", None)
        if not callable(switch):
            raise InputError(
                f'key "runtime.activation_checkpointing": {objective.name} has no method set_grad_checkpointing(True). '
                "Give it one, or set runtime.batch_per_device, and gradients accumulate"
            )
        switch(True)
    return ObjectiveStep(network, settings.normalisation or objective.normalisation, objective.method, objective.arch)
