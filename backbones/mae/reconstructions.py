"""Pictures of what a masked autoencoder sees and paints."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torchvision.utils import make_grid, save_image

from backbones.images.crops import evaluation_crop
from backbones.images.normalisation import Normalisation
from backbones.images.pixels import normalise, to_pixels
from backbones.images.tolerance import read_or_replace
from backbones.mae.model import MaskedAutoencoder
from backbones.training.writing import written_whole

IMAGES = 8


def reconstruct(
    model: MaskedAutoencoder, images: Tensor, mask_ratio: float, noise: Tensor, normalisation: Normalisation
) -> Tensor:
    """What `paint` gives, but for the loss and the mask."""
    return paint(model, images, mask_ratio, noise, normalisation)[0]


@torch.no_grad()
def paint(
    model: MaskedAutoencoder, images: Tensor, mask_ratio: float, noise: Tensor, normalisation: Normalisation
) -> tuple[Tensor, Tensor, Tensor]:
    """The original, the masked input and the reconstruction of each image side by side.

    images: uint8 (B, 3, H, W); noise: as `draw_noise` gives it. Returns (3B, 3, H, W) between 0 and 1, three in a row
    for each image; the loss, a scalar; and the mask (B, L), 1 where a patch is hidden.
    The visible patches are shown as they are, the hidden ones in the normalisation's mean, as in the reference's
    demo/mae_visualize.ipynb (`run_one_image`). A model trained on normalised pixels predicts each patch up to its mean
    and deviation; the picture borrows those of the original patch.
    """
    training = model.training
    model.eval()
    inputs = normalise(images, normalisation)
    loss, prediction, mask = model(inputs, mask_ratio, noise)
    model.train(training)
    assert prediction is not None
    patches = model.patchify(inputs)
    prediction = prediction.float()
    if model.norm_pix_loss:
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        prediction = prediction * (variance + 1e-6).sqrt() + mean
    masked = mask[..., None].bool()
    painted = model.unpatchify(torch.where(masked, prediction, patches))
    hidden = model.unpatchify(torch.where(masked, 0.0, patches))
    shown = [to_pixels(each, normalisation) for each in (inputs, hidden, painted)]
    return torch.stack(shown, dim=1).flatten(0, 1), loss, mask


class PictureHook(Hook):
    """Saves reconstructions of the same few images, under the same masks, at intervals and at the end."""

    def __init__(
        self,
        model: MaskedAutoencoder,
        paths: Sequence[Path],
        directory: Path,
        *,
        mask_ratio: float,
        normalisation: Normalisation,
        seed: int,
        every_epochs: int,
    ) -> None:
        self.model, self.directory, self.mask_ratio = model, directory, mask_ratio
        self.normalisation, self.every_epochs = normalisation, every_epochs
        chosen = torch.linspace(0, len(paths) - 1, min(IMAGES, len(paths))).round().int().tolist()
        size = model.patch_embed.img_size
        crops = [evaluation_crop(read_or_replace(paths, index)[0], size[0]) for index in chosen]
        self.images = torch.stack(crops)
        generator = torch.Generator().manual_seed(seed)
        self.noise = model.draw_noise(len(crops), generator=generator)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        done = batch_idx + 1
        per_epoch = runner.train_dataloader.batch_sampler.iterations_per_epoch
        if done % (per_epoch * self.every_epochs) == 0 or done == runner.max_iters:
            self.save(done)

    @master_only
    def save(self, done: int) -> None:
        """Write the picture of `done` iterations."""
        device = self.model.mask_token.device
        images, noise = self.images.to(device), self.noise.to(device)
        panels = reconstruct(self.model, images, self.mask_ratio, noise, self.normalisation)
        with written_whole(self.directory / f"reconstruction_{done}.png") as file:
            save_image(make_grid(panels, nrow=6, padding=2, pad_value=1.0), file, format="png")
