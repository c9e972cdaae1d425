"""Pre-training: from images to what is left behind for the tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from timm import is_model
from torch import Tensor, nn

from backbones.architectures import build_timm_model
from backbones.errors import InputError
from backbones.forward_cost import ForwardCost, forward_cost
from backbones.images.packed import Paths
from backbones.mae.reconstructions import PictureHook
from backbones.objectives import encoder_weights
from backbones.pretraining.beginning import as_begun, begin_with
from backbones.pretraining.images import UnlabelledImages, list_images
from backbones.pretraining.settings import PretrainingRecipe
from backbones.pretraining.steps import MaskedAutoencoderStep, PretrainingStep, create_step
from backbones.training.checkpointing import save_atomically
from backbones.training.job import Job, Outcome, run_job
from backbones.training.same_lists import Listing, require_same_lists
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.deviating import in_short, stating
from backbones.weights.loading import LoadReport


@dataclass(frozen=True)
class PretrainedModel:
    """What pre-training leaves behind.

    network:    with the decoder or whatever else it was trained with
    method:     the row of the tables that the encoder comes to stand in
    begun_with: what became of the weights that it began with, if there were any, and that is known
    parameters: how many the encoder has
    cost:       what the encoder takes for a whole image; None where it is no model of timm's
    """

    encoder: Path
    network: nn.Module
    method: str
    outcome: Outcome
    parameters: int
    begun_with: LoadReport | None
    cost: ForwardCost | None = None


def pretrain(
    recipe: PretrainingRecipe,
    data: Path,
    directory: Path,
    *,
    seed: int,
    pretrain_data: str,
    begin: Checkpoint | None = None,
    deviations: Sequence[str] = (),
) -> PretrainedModel:
    """Pre-train under `recipe` on all images below `data`, going on from whatever stands in `directory`.

    `pretrain_data` is what the encoder's file says that it was trained on, `deviations` where that departs from the
    literature. A run that has no checkpoint yet begins with
    the weights of `begin`, if that is given.

    Writes checkpoints and `checkpoints/encoder.pth` (timm loads it); of a masked autoencoder also pictures, and
    `checkpoints/autoencoder.pth` (the decoder with it, in the published names). Raises InputError for unusable data,
    settings, weights or output, and for an objective that cannot train.
    """
    paths = list_images(data)
    require_same_lists(data, Listing("images", len(paths), (*paths.arrays.values(),), paths.names))
    step = create_step(recipe, seed)
    report = as_begun(begin_with(step.network, begin), directory) if begin else None
    outcome = run_job(
        Job(
            model=step,
            dataset=UnlabelledImages(paths, recipe.model.image_size, recipe.augment, seed),
            parameter_groups=step.parameter_groups(recipe.optimizer.weight_decay),
            recipe=recipe,
            directory=directory,
            seed=seed,
            title=f"pre-training {recipe.model.arch}",
            hooks=_pictures(step, recipe, paths, directory, seed),
        )
    )
    weights = encoder_weights(step.network, recipe.model.arch)
    encoder = directory / "checkpoints/encoder.pth"
    if is_main_process():
        _leave_behind(step, recipe, weights, encoder, {"pretrain_data": pretrain_data, **stating(in_short(deviations))})
    barrier()
    parameters = sum(each.numel() for each in weights.values())
    cost = _encoder_cost(step.arch, recipe.model.image_size)
    return PretrainedModel(encoder, step.network, step.method, outcome, parameters, report, cost)


def _encoder_cost(arch: str, image_size: int) -> ForwardCost | None:
    if not is_model(arch):
        return None
    try:
        with torch.random.fork_rng([]), torch.device("meta"):
            encoder = build_timm_model(arch, image_size)
    except InputError:  # an objective's own images need not be its encoder's
        return None
    return forward_cost(encoder, image_size)


def _pictures(step: PretrainingStep, recipe: PretrainingRecipe, paths: Paths, directory: Path, seed: int) -> list[Hook]:
    """What draws pictures: of networks that paint any."""
    if not isinstance(step, MaskedAutoencoderStep):
        return []
    hook = PictureHook(
        step.network,
        paths,
        directory / "pictures",
        mask_ratio=step.mask_ratio,
        normalisation=step.normalisation,
        seed=seed,
        every_epochs=recipe.runtime.pictures_every or max(1, recipe.schedule.epochs // 10),
    )
    return [hook]


def _leave_behind(
    step: PretrainingStep, recipe: PretrainingRecipe, weights: dict[str, Tensor], encoder: Path, said: dict[str, str]
) -> None:
    about: dict[str, Any] = {
        "method": step.method,
        **said,
        **({"arch": step.arch} if step.arch else {}),
        "image_size": recipe.model.image_size,
    }
    if not isinstance(step, MaskedAutoencoderStep):
        about |= {"objective": recipe.model.arch, **step.normalisation.as_dict()}
        save_atomically({"model": weights, **about}, encoder)
        return
    about |= {
        "grid": "{}×{}".format(*step.network.patch_embed.grid_size),
        "autoencoder": recipe.model.arch,
        **step.normalisation.as_dict(),
    }
    save_atomically({"model": weights, **about}, encoder)
    save_atomically({"model": step.network.state_dict(), **about}, encoder.with_name("autoencoder.pth"))
