"""Maps of a frozen backbone: those of timm's own forward pass, at any size, and never another after training."""

import copy
import itertools
import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import InputError
from backbones.frozen_maps import FrozenMaps, centred

DEPTH, SIZE, WIDTH = 5, 64, 32
SMALL: dict[str, Any] = {"img_size": SIZE, "patch_size": 16, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": 2}


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def small_vit(**options: Any) -> Any:
    return randomised(VisionTransformer(**(SMALL | {"num_classes": 0} | options)))


def small_beit(**options: Any) -> Any:
    settings = SMALL | {"num_classes": 0, "init_values": 0.1, "use_abs_pos_emb": False, "use_rel_pos_bias": True}
    return randomised(Beit(**(settings | options)))


MODELS = {
    "ViT": small_vit,
    "dropped paths": lambda: small_vit(drop_path_rate=0.9, proj_drop_rate=0.5),
    "register tokens": lambda: small_vit(reg_tokens=3),
    "no class token": lambda: small_vit(class_token=False, global_pool="avg"),
    "BEiT": lambda: small_beit(global_pool="token"),
    "BEiT without a last norm": small_beit,
}


def last_of_timm(model: Any, images: Tensor, layers: int) -> list[Tensor]:
    with torch.no_grad():
        found = model.eval().forward_intermediates(images, indices=layers, norm=True, intermediates_only=True)
    return list(found)


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("name", MODELS)
def test_they_are_the_last_patches_of_timm(name: str, layers: int) -> None:
    model = MODELS[name]()
    expected = last_of_timm(copy.deepcopy(model), images := torch.randn(2, 3, SIZE, SIZE), layers)
    maps = FrozenMaps(model, layers, SIZE).train()
    assert maps.widths == (WIDTH,) * layers and maps.stride == 16 and maps.notes == []
    for found, other in zip(maps(images), expected, strict=True):
        assert found.shape == (2, WIDTH, 4, 4)
        torch.testing.assert_close(found, other)
    assert not any(each.requires_grad for each in (*maps.parameters(), *maps(images)))


def dinov2s_padding(images: Tensor, multiple: int) -> Tensor:
    """As its notebook has it."""

    def pads(size: int) -> tuple[int, int]:
        missing = math.ceil(size / multiple) * multiple - size
        return missing // 2, missing - missing // 2

    return F.pad(images, list(itertools.chain.from_iterable(pads(side) for side in images.shape[:1:-1])))


@pytest.mark.parametrize("size", [(64, 64), (70, 57), (69, 58)])
def test_patches_of_14_pixels_stay_and_images_get_zeros_as_dinov2_lays_them(size: tuple[int, int]) -> None:
    model = small_vit(patch_size=14, img_size=70)
    images = torch.randn(2, 3, *size)
    padded = dinov2s_padding(images, 14)
    assert padded.shape == (2, 3, 70, 70)
    assert torch.equal(centred(images, 14), padded)
    expected = last_of_timm(copy.deepcopy(model), padded, 4)
    for found, other in zip(FrozenMaps(model, 4, 64)(images), expected, strict=True):
        assert found.shape == (2, WIDTH, 5, 5)
        torch.testing.assert_close(found, other)


def test_other_sizes_have_position_embeddings_interpolated_from_those_that_were_loaded() -> None:
    """To the patches of each image, whatever size was expected (DINOv2's `interpolate_pos_encoding`)."""
    model = small_vit()
    images = torch.randn(1, 3, 80, 112)
    there = copy.deepcopy(model)
    patches = there.pos_embed[:, 1:].detach().view(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=(5, 7), mode="bicubic").flatten(2).mT
    there.pos_embed = nn.Parameter(torch.cat([there.pos_embed[:, :1], patches], 1))
    there.patch_embed.set_input_size((80, 112))
    (expected,) = last_of_timm(there, images, 1)
    for expected_size in (SIZE, 96):
        (found,) = FrozenMaps(copy.deepcopy(model), 1, expected_size)(images)
        torch.testing.assert_close(found, expected)


def test_a_hierarchical_model_gives_its_last_map_and_keeps_its_statistics() -> None:
    model = randomised(timm.create_model("resnet18", num_classes=0))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(40.0)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval().forward_features(images)
    maps = FrozenMaps(model, 1, SIZE).train()
    before = copy.deepcopy(maps.state_dict())
    (found,) = maps(images)
    assert found.shape == (2, 512, 2, 3) and maps.stride == 32
    torch.testing.assert_close(found, expected)
    assert all(torch.equal(value, before[name]) for name, value in maps.state_dict().items())
    assert maps.notes == ["features are the last map of ResNet, of stride 32, before any norm of its head"]


def test_a_model_for_one_size_sees_smaller_images_padded_and_gives_their_cells() -> None:
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=0, img_size=64, embed_dim=16, window_size=2, num_heads=(1, 1, 1, 1)
    )
    maps = FrozenMaps(model, 1, 96)
    assert maps.largest_image == 96
    images = torch.randn(1, 3, 64, 96)
    (found,), (whole,) = maps(images), maps(F.pad(images, (0, 0, 0, 32)))
    assert found.shape == (1, 128, 2, 3)
    assert torch.equal(found, whole[:, :, :2])


class Tokens(nn.Module):
    """Another author's, of patches of 14 pixels after two other tokens."""

    num_prefix_tokens = 2

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 24, 14, 14)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.pad(self.proj(images).flatten(2).mT, (0, 0, 2, 0))


def test_another_authors_patches_of_14_pixels_will_do() -> None:
    model = Tokens()
    images = torch.randn(2, 3, 50, 64)
    expected = model.proj(dinov2s_padding(images, 14))
    maps = FrozenMaps(model, 1, SIZE)
    torch.testing.assert_close(maps(images)[0], expected.detach())
    assert maps.widths == (24,) and maps.stride == 14 and maps.largest_image is None


class Pooled(nn.Module):
    """Another author's, whose features have no places."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 24, 16, 16)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.proj(images).mean((2, 3))


@pytest.mark.parametrize(
    ("build", "layers", "message"),
    [
        (Pooled, 1, r"Pooled: forward_features returned .* looks like pooled features .* Return tokens"),
        (Tokens, 4, r'key "features\.layers": 4: Tokens is probed on its last map alone .*features\.layers=1'),
        (lambda: timm.create_model("resnet18", num_classes=0), 4, r"ResNet is probed on its last map alone"),
        (lambda: small_vit(depth=2), 4, r'key "features\.layers": 4: this ViT has 2 block'),
    ],
)
def test_what_cannot_be_probed_is_refused(build: Any, layers: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FrozenMaps(build(), layers, SIZE)
