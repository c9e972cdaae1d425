"""Models of other authors, as `--backbone tests.support.strangers:NAME` takes them: four that serve, and wrong ones.

All are for the generated images: small, and quick to build.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

WIDTH, DEPTH, HEADS, PATCH, SIDE = 32, 4, 4, 8, 48


class Block(nn.Module):
    """A transformer block of plain PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.projection = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, count, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, WIDTH)
        x = x + self.projection(attended)
        return x + self.mlp(self.norm2(x))


class PlainViT(nn.Module):
    """A ViT of plain PyTorch: a class token, learned positions, nothing of timm."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, (image_size // PATCH) ** 2, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)

    def forward_features(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        rows = math.isqrt(self.pos_embed.shape[1])
        grid = self.pos_embed.transpose(1, 2).unflatten(2, (rows, rows))
        if (rows, rows) != tuple(x.shape[2:]):
            grid = F.interpolate(grid, size=tuple(x.shape[2:]), mode="bicubic")
        x = (x + grid).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def plain_vit(image_size: int | None, drop_path: float) -> nn.Module:
    return PlainViT(image_size or SIDE)


class OneMap(nn.Module):
    """A ConvNet that ends in one map, of stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, 4)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, stride, 1), nn.GroupNorm(4, WIDTH), nn.GELU()) for stride in (1, 2)
        )

    def forward_features(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return x


def one_map(image_size: int | None, drop_path: float) -> nn.Module:
    return OneMap()


class ScaledViT(VisionTransformer):
    """timm's ViT with a forward pass of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scale = nn.Parameter(torch.ones(self.embed_dim))

    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images) * self.scale


def timm_subclass(image_size: int | None, drop_path: float) -> nn.Module:
    sizes = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "patch_size": PATCH, "num_classes": 0}
    return ScaledViT(img_size=image_size or SIDE, drop_path_rate=drop_path, **sizes)


class HuggingFace(nn.Module):
    """A model of transformers, in ten lines."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward_features(self, images: Tensor) -> Any:
        return self.model(pixel_values=images)


def hugging_face(image_size: int | None, drop_path: float) -> nn.Module:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "patch_size": PATCH}
    config = Dinov2WithRegistersConfig(
        image_size=image_size or SIDE, drop_path_rate=drop_path, num_register_tokens=4, **sizes
    )
    model = Dinov2WithRegistersModel(config)
    model.embeddings.mask_token.requires_grad_(False)  # nothing is masked
    return HuggingFace(model)


STRANGERS = ("plain_vit", "one_map", "timm_subclass", "hugging_face")
"""The functions above that build a model which serves."""


# Wrong ones, each in one way


class Logits(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images).mean(1)[:, :10]


class OddThings(PlainViT):
    def forward_features(self, images: Tensor) -> Any:
        return [3, "tokens", super().forward_features(images).mean(1)]


class WrongWidth(PlainViT):
    embed_dim = 64


class OfItsBatch(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        x = super().forward_features(images)
        return x - x.mean(0)


class Random(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        return F.dropout(super().forward_features(images), 0.1, training=True)


class Unused(PlainViT):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.projector = nn.Linear(WIDTH, WIDTH)


class Frozen(PlainViT):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.requires_grad_(False)


class FrozenStem(PlainViT):
    """It serves: its patches alone do not train."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.patches.requires_grad_(False)


class Half(PlainViT):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.half()


class HalfAlone(PlainViT):
    """Its kernels take half precision alone."""

    def forward_features(self, images: Tensor) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected scalar type BFloat16 but found Float")
        return super().forward_features(images)


class Meta(PlainViT):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.to("meta")


class Lazy(PlainViT):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.patches = nn.LazyConv2d(WIDTH, PATCH, PATCH)


class TokenBehind(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images).roll(-1, 1)


class ColumnsFirst(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        rows, columns = (side // PATCH for side in images.shape[2:])
        tokens = super().forward_features(images)
        return torch.cat([tokens[:, :1], tokens[:, 1:].unflatten(1, (rows, columns)).transpose(1, 2).flatten(1, 2)], 1)


class OfPositivePixels(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        if images.min() < 0:
            raise ValueError("expected pixels between 0 and 1")
        return super().forward_features(images)


class WithoutGradient(PlainViT):
    @torch.no_grad()
    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images)


class PartlyWithoutGradient(PlainViT):
    """Its blocks are used, and nothing is passed on to them."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images).detach() * self.scale


class UnderInferenceMode(PlainViT):
    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.projector = nn.Linear(WIDTH, WIDTH)

    def forward_features(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            x = super().forward_features(images)
        return self.projector(x)


class Talkative(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        print("features next")
        return super().forward_features(images)


class InPlace(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images.sub_(0.5))


class InPlaceInTraining(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images.mul_(0.5) if self.training else images)


class Masked(PlainViT):
    def forward_features(self, images: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward_features(images * mask)


class OfOneBlock(PlainViT):
    """Its blocks are one module."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.blocks = nn.ModuleList([Block()] * DEPTH)


class OnGpuAlone(PlainViT):
    """Its kernels are a GPU's; tests claim that there is one."""

    on_gpu = False

    def cuda(self, device: Any = None) -> Any:
        self.on_gpu = True
        return self

    def to(self, *place: Any, **options: Any) -> Any:
        self.on_gpu = False
        return self

    def forward_features(self, images: Tensor) -> Tensor:
        if not self.on_gpu:
            raise RuntimeError("no kernel for the CPU")
        return super().forward_features(images)


class Overflowing(PlainViT):
    """In bf16 the softmax of what is infinite is undefined."""

    def forward_features(self, images: Tensor) -> Tensor:
        x = super().forward_features(images)
        if torch.is_autocast_enabled("cpu"):
            x = x * torch.inf
        return x


class FixedSize(PlainViT):
    def forward_features(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (SIDE, SIDE):
            raise ValueError(f"expected {SIDE} pixels")
        return super().forward_features(images)


class Touchy(FixedSize):
    @property
    def set_input_size(self) -> Any:
        raise RuntimeError("ask for the size first")


class HiddenState(PlainViT):
    """What decides its features is in no state_dict."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.offset = [torch.randn(WIDTH)]

    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images) + self.offset[0]


class Pooled(PlainViT):
    """One token, whatever the size."""

    def forward_features(self, images: Tensor) -> Tensor:
        return super().forward_features(images).mean(1, keepdim=True)


class FromTheEnd(PlainViT):
    """Its blocks learn the faster, the nearer to the images they are."""

    def group_matcher(self, coarse: bool = False) -> Any:
        return lambda name: (-int(name.split(".")[1]),) if name.startswith("blocks.") else (100,)


class Unnumbered(nn.Module):
    """No names that would tell its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, WIDTH, 4, 4), nn.Conv2d(WIDTH, WIDTH, 4, 4)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.second(F.gelu(self.first(images)))


class StrideOf14(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, WIDTH, 7, 7), nn.Conv2d(WIDTH, WIDTH, 2, 2)])

    def forward_features(self, images: Tensor) -> Tensor:
        for block in self.blocks:
            images = block(images)
        return images


def _of_one_size(kind: type[PlainViT]) -> Callable[[int | None, float], nn.Module]:
    return lambda image_size, drop_path: kind(SIDE)


def _without_arguments(kind: Callable[[], nn.Module]) -> Callable[[int | None, float], nn.Module]:
    return lambda image_size, drop_path: kind()


logits, odd_things, wrong_width = _of_one_size(Logits), _of_one_size(OddThings), _of_one_size(WrongWidth)
of_its_batch, random, unused = _of_one_size(OfItsBatch), _of_one_size(Random), _of_one_size(Unused)
overflowing, fixed_size, hidden_state = _of_one_size(Overflowing), _of_one_size(FixedSize), _of_one_size(HiddenState)
pooled, from_the_end = _of_one_size(Pooled), _of_one_size(FromTheEnd)
frozen, frozen_stem, half = _of_one_size(Frozen), _of_one_size(FrozenStem), _of_one_size(Half)
half_alone = _of_one_size(HalfAlone)
without_gradient, partly_without_gradient = _of_one_size(WithoutGradient), _of_one_size(PartlyWithoutGradient)
in_place, in_place_in_training = _of_one_size(InPlace), _of_one_size(InPlaceInTraining)
masked, of_one_block, touchy = _of_one_size(Masked), _of_one_size(OfOneBlock), _of_one_size(Touchy)
under_inference_mode, talkative = _of_one_size(UnderInferenceMode), _of_one_size(Talkative)
on_gpu_alone = _of_one_size(OnGpuAlone)
token_behind, columns_first = _of_one_size(TokenBehind), _of_one_size(ColumnsFirst)
of_positive_pixels = _of_one_size(OfPositivePixels)
meta, lazy = _of_one_size(Meta), _of_one_size(Lazy)
unnumbered, stride_of_14 = _without_arguments(Unnumbered), _without_arguments(StrideOf14)
bare = _without_arguments(lambda: nn.Linear(2, 2))


def of_six_blocks(image_size: int | None, drop_path: float) -> nn.Module:
    """timm's, and a pyramid of its last map alone."""
    sizes = {"embed_dim": WIDTH, "depth": 6, "num_heads": HEADS, "patch_size": PATCH, "num_classes": 0}
    return VisionTransformer(img_size=image_size or SIDE, drop_path_rate=drop_path, **sizes)


def without_arguments() -> nn.Module:
    return PlainViT(SIDE)


def drop_path_first(drop_path: float, image_size: int | None) -> nn.Module:
    return PlainViT(SIDE)


def of_a_size(image_size: int | None, drop_path: float) -> nn.Module:
    """It cannot do without a size."""
    return PlainViT(SIDE * max(image_size, SIDE) // max(image_size, SIDE))  # type: ignore[type-var]
