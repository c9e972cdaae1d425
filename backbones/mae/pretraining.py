"""Pre-training a masked autoencoder: the recipe, the data, the step, and what is left behind for the tasks.

B images, H and W pixels, L patches.
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

from mmengine.dist import barrier, is_main_process
from mmengine.model import BaseDataPreprocessor, BaseModel
from pydantic import Field
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.utils.data import Dataset

from backbones.cache import Finding, kept
from backbones.images import folders
from backbones.images.crops import horizontal_flip, random_resized_crop
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.images.packed import Paths
from backbones.images.pixels import normalise
from backbones.images.tolerance import read_or_replace
from backbones.mae.masking import kept_patches
from backbones.mae.model import MaskedAutoencoder, create_mae
from backbones.mae.reconstructions import PictureHook
from backbones.training.checkpointing import save_atomically
from backbones.training.job import Job, Outcome, run_job
from backbones.training.later import Later
from backbones.training.randomness import mix, seed_generators
from backbones.training.settings import (
    EpochSchedule,
    Fraction,
    PixelSettings,
    PositiveInt,
    Recipe,
    ScaledOptimizer,
    Settings,
    Shares,
)

ASPECT_RATIO = (3 / 4, 4 / 3)
"""Width over height of a random crop (torchvision's default, which the reference keeps)."""


class MaskedAutoencoderSettings(PixelSettings):
    """Which masked autoencoder, on which input."""

    arch: str
    image_size: PositiveInt
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    norm_pix_loss: bool = True


class PretrainingAugmentation(Settings):
    """Random resized crop and flip, nothing else (MAE, appendix A.1)."""

    crop_scale: Shares = (0.2, 1.0)
    crop_tries: Annotated[
        PositiveInt, Field(description="draws of a crop until one fits; 1: a single one, cut to the image"), Later(1)
    ] = 10
    flip: Fraction = 0.5


class PretrainingRecipe(Recipe):
    """The settings of `backbench pretrain`."""

    task: Literal["pretraining"]
    model: MaskedAutoencoderSettings
    optimizer: ScaledOptimizer
    schedule: EpochSchedule
    augment: PretrainingAugmentation = PretrainingAugmentation()


class UnlabelledImages(Dataset[dict[str, Any]]):
    """Images for pre-training: `dataset[(index, epoch)]["images"]` is a random crop, uint8 (3, size, size).

    The crop is torchvision's, of ten tries, as in the reference (main_pretrain.py, line 124), or as the settings have
    it. It depends on (seed, epoch, index) only. An unreadable image is replaced by the next and named under `corrupt`.
    """

    def __init__(self, paths: Sequence[Path], size: int, augment: PretrainingAugmentation, seed: int) -> None:
        self.paths, self.size, self.augment, self.seed = paths, size, augment, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: tuple[int, int]) -> dict[str, Any]:
        index, epoch = draw
        rng = Random(mix(self.seed, "image", epoch, index))
        image, _, corrupt = read_or_replace(self.paths, index)
        augment = self.augment
        image = random_resized_crop(image, self.size, augment.crop_scale, ASPECT_RATIO, rng, augment.crop_tries)
        image = horizontal_flip(image, rng, augment.flip)
        return {"images": image.contiguous(), "corrupt": corrupt}


class PretrainingStep(BaseModel):
    """The masked autoencoder as mmengine's loop wants it: bytes in, `{"loss": …}` out."""

    def __init__(self, network: MaskedAutoencoder, mask_ratio: float, normalisation: Normalisation) -> None:
        super().__init__(BaseDataPreprocessor(non_blocking=True))
        self.network, self.mask_ratio, self.normalisation = network, mask_ratio, normalisation

    def init_weights(self) -> None:
        """Leave the weights as they are: the model has initialised itself."""

    def forward(self, images: Tensor, corrupt: object = None, mode: str = "loss") -> dict[str, Tensor]:
        """images: uint8 (B, 3, H, W)."""
        loss, _, _ = self.network(normalise(images, self.normalisation), self.mask_ratio)
        return {"loss": loss}


def create_step(recipe: PretrainingRecipe, seed: int) -> PretrainingStep:
    """The masked autoencoder as `recipe` has it. Raises InputError for settings that do not fit each other."""
    seed_generators(seed, "weights")
    settings = recipe.model
    network = create_mae(settings.arch, image_size=settings.image_size, norm_pix_loss=settings.norm_pix_loss)
    network.set_grad_checkpointing(recipe.runtime.activation_checkpointing)
    kept_patches(network.patch_embed.num_patches, settings.mask_ratio)  # refuses a ratio that hides all or nothing
    return PretrainingStep(network, settings.mask_ratio, settings.normalisation or IMAGENET)


@dataclass(frozen=True)
class PretrainedModel:
    """What pre-training leaves behind. `parameters` counts those of the encoder."""

    encoder: Path
    autoencoder: Path
    outcome: Outcome
    parameters: int


def list_images(data: Path) -> Paths:
    """`find_images` below `data`, or what it found before in the same folders."""
    rules = hashlib.sha256(inspect.getsource(folders).encode()).hexdigest()
    finding = kept("images", data, {"rules": rules}, lambda: Finding({}, folders.find_images(data).arrays))
    return Paths(data, **finding.arrays)


def pretrain(
    recipe: PretrainingRecipe, data: Path, directory: Path, *, seed: int, pretrain_data: str
) -> PretrainedModel:
    """Pre-train under `recipe` on all images below `data`, going on from whatever stands in `directory`.

    `pretrain_data` is what the checkpoints say that they were trained on.

    Writes checkpoints, pictures, `checkpoints/encoder.pth` (timm loads it) and `checkpoints/autoencoder.pth` (the
    decoder with it, in the published names). Raises InputError for unusable data, settings or output.
    """
    paths = list_images(data)
    settings, step = recipe.model, create_step(recipe, seed)
    network, normalisation = step.network, step.normalisation
    pictures = PictureHook(
        network,
        paths,
        directory / "pictures",
        mask_ratio=settings.mask_ratio,
        normalisation=normalisation,
        seed=seed,
        every_epochs=recipe.runtime.pictures_every or max(1, recipe.schedule.epochs // 10),
    )
    outcome = run_job(
        Job(
            model=step,
            dataset=UnlabelledImages(paths, settings.image_size, recipe.augment, seed),
            parameter_groups=param_groups_weight_decay(network, recipe.optimizer.weight_decay),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=f"pre-training {settings.arch}",
            hooks=[pictures],
        )
    )
    about = {
        "method": "MAE",
        "pretrain_data": pretrain_data,
        "arch": network.encoder_name,
        "image_size": settings.image_size,
        "grid": "{}×{}".format(*network.patch_embed.grid_size),
        "autoencoder": settings.arch,
        **normalisation.as_dict(),
    }
    encoder, autoencoder = directory / "checkpoints/encoder.pth", directory / "checkpoints/autoencoder.pth"
    if is_main_process():
        save_atomically({"model": network.encoder_state_dict(), **about}, encoder)
        save_atomically({"model": network.state_dict(), **about}, autoencoder)
    barrier()
    parameters = sum(tensor.numel() for tensor in network.encoder_state_dict().values())
    return PretrainedModel(encoder, autoencoder, outcome, parameters)
