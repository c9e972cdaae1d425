"""The masked autoencoder (He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377).

An encoder sees a random quarter of an image's patches; a light decoder paints the missing ones from what the encoder
made of them; the mean squared error on the missing ones is the loss. The encoder is timm's VisionTransformer, with its
parameters at the root of the module, so that MAE's published checkpoints load as they are.

B images, L patches, K kept and M masked of them, P numbers in a patch (rows, columns, channels), D width.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm
from timm.models import checkpoint_seq
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

import backbones.vit_sizes  # noqa: F401  (registers the mini encoder in timm)
from backbones.errors import InputError
from backbones.linear import linear, replace_linear_layers
from backbones.mae.masking import (
    MaskSampling,
    numbers_for,
    random_masking,
    rank_patches,
    take_patches,
)
from backbones.mae.positions import sincos_position_embedding

_CHANNELS = 3
_VARIANCE_EPS = 1e-6  # MAE's reference code, norm_pix_loss
_TOKEN_STD = 0.02  # MAE's reference code, class and mask token


@dataclass(frozen=True)
class Architecture:
    """The sizes of an encoder and its decoder. The decoder's defaults are MAE's for ViT-B, L and H (MAE, section 4)."""

    encoder_name: str  # in timm
    image_size: int | tuple[int, int]  # pixels; (height, width) if not square
    patch_size: int
    width: int
    depth: int
    heads: int
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = (self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size
        return height, width

    def check(self) -> None:
        """Raise InputError if the sizes do not fit each other."""
        for name, number in [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]:
            if not isinstance(number, int) or number < 1:
                raise InputError(f"{name}={number!r}: expected a whole number above 0.")
        sides = [self.image_size] * 2 if isinstance(self.image_size, int) else self.image_size
        if not isinstance(sides, list | tuple) or [type(side) for side in sides] != [int, int]:
            raise InputError(f"image_size={self.image_size!r}: expected a number of pixels or (height, width).")
        height, width = self.image_shape
        if min(height, width) < self.patch_size or height % self.patch_size or width % self.patch_size:
            raise InputError(
                f"image_size {self.image_size} with patch_size {self.patch_size}: "
                f"expected a height and a width that are multiples of the patch size."
            )
        for part, total, heads in (
            ("", self.width, self.heads),
            ("decoder_", self.decoder_width, self.decoder_heads),
        ):
            if total % heads or total % 4:
                raise InputError(
                    f"{part}width={total} with {part}heads={heads}: expected a width that is a multiple of 4 "
                    f"(sin-cos position embeddings) and of the number of heads."
                )


_ARCHITECTURES = {
    "mae_vit_base_patch16": Architecture("vit_base_patch16_224", 224, 16, 768, 12, 12),
    "mae_vit_large_patch16": Architecture("vit_large_patch16_224", 224, 16, 1024, 24, 16),
    "mae_vit_huge_patch14": Architecture("vit_huge_patch14_224", 224, 14, 1280, 32, 16),
    "mae_vit_tiny_patch16": Architecture("vit_tiny_patch16_224", 224, 16, 192, 12, 3, 128, 2, 4),
    "mae_vit_mini_patch8": Architecture("vit_mini_patch8_48", 48, 8, 128, 4, 4, 64, 1, 4),
    "mae_vit_mini_base_patch8": Architecture("vit_mini_base_patch8_48", 48, 8, 48, 4, 2, 32, 1, 2),
    "mae_vit_mini_large_patch8": Architecture("vit_mini_large_patch8_48", 48, 8, 64, 8, 2, 32, 1, 2),
    "mae_vit_mini_huge_patch6": Architecture("vit_mini_huge_patch6_48", 48, 6, 96, 8, 3, 32, 1, 2),
}


class MaskedAutoencoder(VisionTransformer):
    """A masked autoencoder whose encoder is the VisionTransformer that this class extends.

    Parameters have the names and shapes of the published checkpoints: the encoder's at the root (`cls_token`,
    `pos_embed`, `patch_embed.proj`, `blocks.N`, `norm`), the decoder's beside them (`mask_token`, `decoder_embed`,
    `decoder_pos_embed`, `decoder_blocks.N`, `decoder_norm`, `decoder_pred`). Both position embeddings are fixed.

    `forward_features`, `forward_intermediates` and the like are the encoder's, on whole images; `forward` is the
    pre-training step. Raises InputError if the architecture's sizes do not fit each other.

    norm_pix_loss: predict patches that are normalised by their own mean and spread (MAE, table 1d).
    mask_tokens_in_encoder: the encoder sees all patches, the masked ones as mask tokens of its width, and the decoder
        what it made of those (table 1c).
    mask_sampling: which patches are masked (table 1f), as `rank_patches` has it.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(
        self,
        architecture: Architecture,
        norm_pix_loss: bool = True,
        mask_tokens_in_encoder: bool = False,
        mask_sampling: MaskSampling = "random",
    ) -> None:
        architecture.check()
        super().__init__(
            img_size=architecture.image_shape,
            patch_size=architecture.patch_size,
            num_classes=0,
            embed_dim=architecture.width,
            depth=architecture.depth,
            num_heads=architecture.heads,
            weight_init="skip",
        )
        self.encoder_name = architecture.encoder_name
        self.norm_pix_loss, self.mask_sampling = norm_pix_loss, mask_sampling
        self.mask_tokens_in_encoder = mask_tokens_in_encoder
        decoder_width = architecture.decoder_width
        token_width = architecture.width if mask_tokens_in_encoder else decoder_width
        self.mask_token = nn.Parameter(torch.empty(1, 1, token_width))
        self.decoder_embed = nn.Linear(architecture.width, decoder_width)
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_width, architecture.decoder_heads, qkv_bias=True) for _ in range(architecture.decoder_depth)
        )
        self.decoder_norm = LayerNorm(decoder_width)
        self.decoder_pred = nn.Linear(decoder_width, architecture.patch_size**2 * _CHANNELS)
        grid = self.patch_embed.grid_size
        self.pos_embed = nn.Parameter(sincos_position_embedding(grid, architecture.width), requires_grad=False)
        self.decoder_pos_embed = nn.Parameter(sincos_position_embedding(grid, decoder_width), requires_grad=False)
        self._initialise()
        replace_linear_layers(self)

    def _initialise(self) -> None:
        """Xavier uniform for linear layers and for the patch projection seen as one; normal for the two tokens."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.flatten(1))
        nn.init.normal_(self.cls_token, std=_TOKEN_STD)
        nn.init.normal_(self.mask_token, std=_TOKEN_STD)

    def forward(  # type: ignore[override]
        self,
        images: Tensor,
        mask_ratio: float = 0.75,
        noise: Tensor | None = None,
        *,
        return_prediction: bool | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Mask images, paint what is missing, and compare.

        images (B, 3, H, W) are normalised; noise, drawn if not given as `draw_noise` does, fixes the masking: with
        random sampling it is (B, L), and the patches with the smallest are kept. The prediction of all patches costs
        more than the loss needs: it is computed in evaluation mode, and in training mode if `return_prediction` asks
        for it.

        Returns the loss (a scalar in single precision: the mean squared error over the masked patches), the prediction
        (B, L, P) of each patch's pixels, normalised by patch with `norm_pix_loss`, or None, and the mask (B, L), 1
        where masked. Raises InputError if the images' or the noise's shape does not fit, or nothing would be kept or
        nothing masked.
        """
        self._check_images(images)
        if return_prediction is None:
            return_prediction = not self.training
        patches_BLP = self.patchify(images)
        if noise is None:
            noise = self.draw_noise(len(images), images.device)
        self._check_noise(noise, images)
        noise_BL = rank_patches(noise, self.mask_sampling, self.patch_embed.grid_size, mask_ratio)
        kept_BK, masked_BM = random_masking(noise_BL, mask_ratio)

        latent_BND = self._encode(take_patches(patches_BLP, kept_BK), kept_BK, masked_BM)
        predicted = self._decode(latent_BND, kept_BK, masked_BM, return_prediction)
        loss = self._loss(predicted[:, -masked_BM.shape[1] :], take_patches(patches_BLP, masked_BM))

        prediction_BLP = None
        if return_prediction:
            restore_BL = torch.cat([kept_BK, masked_BM], dim=1).argsort(dim=1)
            prediction_BLP = take_patches(predicted, restore_BL)
        mask_BL = torch.ones_like(noise_BL, dtype=torch.float32).scatter_(1, kept_BK, 0.0)
        return loss, prediction_BLP, mask_BL

    def draw_noise(
        self, images: int, device: torch.device | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The random numbers that decide which patches of so many images are masked, an image a row."""
        numbers = numbers_for(self.mask_sampling, self.patch_embed.num_patches)
        return torch.rand(images, numbers, device=device, generator=generator)

    def _encode(self, visible_BKP: Tensor, kept_BK: Tensor, masked_BM: Tensor) -> Tensor:
        """Encode the visible patches alone: (B, K, P) gives the class token and theirs, (B, 1 + K, D).

        With mask tokens in the encoder, those of the masked patches follow, (B, 1 + L, D).
        """
        projection = self.patch_embed.proj
        weight_DP = projection.weight.permute(0, 2, 3, 1).flatten(1)
        tokens_BKD = linear(visible_BKP, weight_DP, projection.bias) + self.pos_embed[0, 1:][kept_BK]
        class_BD = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens_BKD), -1, -1)
        tokens = [class_BD, tokens_BKD]
        if self.mask_tokens_in_encoder:
            tokens.append(self.mask_token + self.pos_embed[0, 1:][masked_BM])
        return self.norm(self._run(self.blocks, torch.cat(tokens, dim=1)))

    def _decode(self, latent_BND: Tensor, kept_BK: Tensor, masked_BM: Tensor, predict_kept: bool) -> Tensor:
        """Predict the pixels of the masked patches (B, M, P), or of the kept and then the masked ones (B, L, P).

        The decoder's tokens stay in the order class, kept, masked: attention does not care, and each brings its
        position embedding along.
        """
        masked = masked_BM.shape[1]
        order = F.pad(torch.cat([kept_BK, masked_BM], dim=1) + 1, (1, 0))
        tokens = self.decoder_embed(latent_BND)
        if not self.mask_tokens_in_encoder:
            missing = self.mask_token.expand(len(tokens), masked, -1).to(tokens.dtype)
            tokens = torch.cat([tokens, missing], dim=1)
        tokens = tokens + self.decoder_pos_embed[0][order]
        tokens = self._run(self.decoder_blocks[:-1], tokens)
        last_block = cast(Block, self.decoder_blocks[-1])
        tokens = _last_block(last_block, tokens, skip=1 if predict_kept else tokens.shape[1] - masked)
        return self.decoder_pred(self.decoder_norm(tokens))

    def _run(self, blocks: Iterable[nn.Module], tokens: Tensor) -> Tensor:
        """Tokens through blocks, whose activations are kept or, after `set_grad_checkpointing`, computed again."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint_seq(list(blocks), tokens)
        for block in blocks:
            tokens = block(tokens)
        return tokens

    def _loss(self, predicted_BMP: Tensor, target_BMP: Tensor) -> Tensor:
        """Mean squared error of the masked patches, each normalised by its own mean and spread if norm_pix_loss."""
        target_BMP = target_BMP.float()
        if self.norm_pix_loss:
            variance, mean = torch.var_mean(target_BMP, dim=-1, keepdim=True)
            target_BMP = (target_BMP - mean) * (variance + _VARIANCE_EPS).rsqrt()
        return F.mse_loss(predicted_BMP.float(), target_BMP)

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images (B, 3, H, W) into patches (B, L, P): row by row, the pixels of each as rows, columns, channels."""
        rows, columns = self.patch_embed.grid_size
        size = self.patch_embed.patch_size[0]
        split = images.reshape(len(images), _CHANNELS, rows, size, columns, size)
        return split.permute(0, 2, 4, 3, 5, 1).reshape(len(images), rows * columns, size * size * _CHANNELS)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Put patches (B, L, P) together again to images (B, 3, H, W): the inverse of `patchify`."""
        rows, columns = self.patch_embed.grid_size
        size = self.patch_embed.patch_size[0]
        split = patches.reshape(len(patches), rows, columns, size, size, _CHANNELS)
        return split.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), _CHANNELS, rows * size, columns * size)

    def encoder_state_dict(self) -> dict[str, Tensor]:
        """The encoder's weights, as `timm.create_model(model.encoder_name, num_classes=0, img_size=...)` loads them."""
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("decoder_") and name != "mask_token"
        }

    def _check_images(self, images: Tensor) -> None:
        height, width = self.patch_embed.img_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (_CHANNELS, height, width):
            raise InputError(
                f"images of shape {tuple(images.shape)}: this model expects (batch, {_CHANNELS}, {height}, {width}). "
                f"Resize the images, or create the model with another image_size."
            )

    def _check_noise(self, noise: Tensor, images: Tensor) -> None:
        expected = (len(images), numbers_for(self.mask_sampling, self.patch_embed.num_patches))
        if noise.shape != expected:
            raise InputError(f"noise of shape {tuple(noise.shape)}: expected (batch, patches) = {expected}.")


def _last_block(block: Block, x_BND: Tensor, skip: int) -> Tensor:
    """A transformer block that computes its output from token `skip` on only: (B, N, D) gives (B, N − skip, D).

    The tokens before it serve as keys and values alone.
    """
    attention: Any = block.attn
    normed_BND = block.norm1(x_BND)
    width = x_BND.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    queries = linear(normed_BND[:, skip:], weight[:width], bias[:width])
    keys_values = linear(normed_BND, weight[width:], bias[width:])
    q, k, v = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part in (queries, *keys_values.chunk(2, dim=-1))
    )
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x_BMD = x_BND[:, skip:] + attention.proj(attended)
    return x_BMD + block.mlp(block.norm2(x_BMD))


def list_mae_models() -> list[str]:
    """The names that `create_mae` takes."""
    return list(_ARCHITECTURES)


def create_mae(
    name: str,
    *,
    image_size: int | tuple[int, int] | None = None,
    norm_pix_loss: bool = True,
    mask_tokens_in_encoder: bool = False,
    mask_sampling: MaskSampling = "random",
    **overrides: Any,
) -> MaskedAutoencoder:
    """Create a masked autoencoder with fresh weights.

    name: one of `list_mae_models()`. image_size: pixels, or (height, width), multiples of the patch size; by default
    the architecture's (224, mini 48). norm_pix_loss, mask_tokens_in_encoder, mask_sampling: as MaskedAutoencoder has
    them. overrides: any other field of `Architecture`, such as patch_size or decoder_depth.
    Raises InputError for an unknown name or override and for sizes that do not fit each other.
    """
    if name not in _ARCHITECTURES:
        raise InputError(f"no MAE model {name!r}. " + _nearest(name, list_mae_models()))
    known = [field.name for field in fields(Architecture) if field.name not in ("encoder_name", "image_size")]
    for key in overrides:
        if key not in known:
            raise InputError(f"create_mae takes no {key!r}. " + _nearest(key, known))
    if image_size is not None:
        overrides["image_size"] = image_size
    architecture = replace(_ARCHITECTURES[name], **overrides)
    return MaskedAutoencoder(architecture, norm_pix_loss, mask_tokens_in_encoder, mask_sampling)


def _nearest(word: str, words: list[str]) -> str:
    nearest = get_close_matches(word, words, n=1)
    return f"Did you mean {nearest[0]!r}?" if nearest else f"There are {', '.join(words)}."
