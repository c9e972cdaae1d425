"""Plain ViTs as feature pyramids."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import PatchDropout, resample_patch_embed
from timm.layers.attention import Attention
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import create_backbone
from backbones.adapters import Adapter, Pyramid, build_pyramid
from backbones.adapters.attention import SpatialAttention

ADAPTERS: list[Adapter] = ["fpn", "simple"]
SMALL = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "num_heads": 2, "num_classes": 0}


def randomised(model: nn.Module) -> Any:
    """The model with weights that matter, layer scales and biases of relative positions included."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def small_vit(**options: Any) -> Any:
    return randomised(VisionTransformer(**(SMALL | {"depth": 8} | options)))


def small_beit(**options: Any) -> Any:
    return randomised(Beit(**(SMALL | {"depth": 4, "use_abs_pos_emb": False, "init_values": 0.1} | options)))


def covered(maps: list[Tensor]) -> list[tuple[int, int]]:
    return [tuple(level.shape[2:]) for level in maps]


# ---- Plain ViTs without windows: timm's own forward pass


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="as it stands"),
        pytest.param({"pre_norm": True, "qk_norm": True, "init_values": 0.1}, id="more norms, layer scale"),
        pytest.param({"scale_attn_norm": True, "scale_mlp_norm": True, "qkv_bias": False}, id="norms inside"),
        pytest.param({"pos_embed": "none", "dynamic_img_size": True}, id="no positions"),
        pytest.param({"fc_norm": False, "img_size": (64, 96)}, id="oblong"),
    ],
)
def test_with_windows_as_large_as_the_image_maps_are_those_of_timm(options: dict[str, Any]) -> None:
    """A ViT without a class token, for the class token takes part in timm's attention."""
    model = small_vit(class_token=False, global_pool="avg", **options)
    images = torch.randn(2, 3, *model.patch_embed.img_size)
    expected = model.forward_intermediates(images, indices=[1, 3, 5, 7], intermediates_only=True)
    trunk = build_pyramid(model, "fpn", image_size=64, window=4, relative_position=False).trunk
    for found, wanted in zip(trunk(images), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("options", [{"no_embed_class": True}, {"reg_tokens": 3}, {"class_token": False}])
def test_class_and_register_tokens_are_left_out(options: dict[str, Any]) -> None:
    """They come first in the position embeddings, unless those do not cover them."""
    model = small_vit(global_pool="avg", **options)
    patches = model.pos_embed[:, -16:].view(1, 4, 4, 32)
    trunk = build_pyramid(model, "simple", image_size=64, window=2).trunk
    torch.testing.assert_close(trunk.pos_embed, patches)
    assert not any("token" in name for name, _ in trunk.named_parameters())


def attend_by_formula(attention: Any, x_BNC: Tensor) -> Tensor:
    """BEiT's attention of timm among patches, written out."""
    batch, tokens, width = x_BNC.shape
    bias = torch.cat((attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias))
    qkv = F.linear(x_BNC, attention.qkv.weight, bias).view(batch, tokens, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = q @ k.mT * attention.scale + attention._get_rel_pos_bias()[..., 1:, 1:]
    return attention.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_beit_keeps_its_own_relative_positions(adapter: Adapter) -> None:
    model = small_beit(use_rel_pos_bias=True, qkv_bias=True)
    reference = copy.deepcopy(model)
    images = torch.randn(2, 3, 64, 64)
    trunk = build_pyramid(model, adapter, image_size=64, window=4).trunk
    x = reference.patch_embed(images)
    for block in reference.blocks:
        x = x + block.gamma_1 * attend_by_formula(block.attn, block.norm1(x))
        x = x + block.gamma_2 * block.mlp(block.norm2(x))
    found = trunk(images)[-1].flatten(2).mT
    torch.testing.assert_close(found, x)
    direction = torch.randn_like(x)
    found.backward(direction)
    x.backward(direction)
    for block, other in zip(trunk.blocks, reference.blocks, strict=True):
        table = block.attn.attend.relative_position_bias_table
        torch.testing.assert_close(table.grad, other.attn.relative_position_bias_table.grad[:-3])
        torch.testing.assert_close(block.attn.attention.q_bias.grad, other.attn.q_bias.grad)


def test_a_bias_that_beit_shares_is_given_to_every_block() -> None:
    """As in BEiT's own fine-tuning."""
    model = small_beit(use_shared_rel_pos_bias=True, depth=8)
    table = model.rel_pos_bias.relative_position_bias_table[:-3].clone()
    trunk = build_pyramid(model, "fpn", image_size=64, window=4).trunk
    tables = [block.attn.attend.relative_position_bias_table for block in trunk.blocks]
    assert len({id(own) for own in tables}) == 8
    for own in tables:
        torch.testing.assert_close(own, table)


# ---- Windows


def test_the_last_block_of_each_quarter_is_global() -> None:
    trunk = build_pyramid(small_vit(depth=12), "simple", image_size=128, window=3).trunk
    assert [block.attn.window for block in trunk.blocks] == [3, 3, None] * 4
    sizes = [len(block.attn.attend.rel_pos_h) for block in trunk.blocks]
    assert sizes == [5, 5, 15] * 4


@pytest.mark.parametrize("gated", [False, True])
def test_windows_do_not_see_each_other_and_zeros_fill_them_up(gated: bool) -> None:
    """A 5 × 5 map in windows of 3: four windows, which attend as if each were alone."""
    attention = randomised(Attention(32, 2, qkv_bias=True, gated=gated))
    windowed = SpatialAttention(attention, 3, None)
    x = torch.randn(2, 5, 5, 32)
    found = windowed(x)
    padded = F.pad(x, (0, 0, 0, 1, 0, 1))
    for row in (0, 3):
        for column in (0, 3):
            window = padded[:, row : row + 3, column : column + 3]
            alone = attention(window.flatten(1, 2)).view_as(window)[:, : 5 - row, : 5 - column]
            torch.testing.assert_close(found[:, row : row + 3, column : column + 3], alone)


def test_blocks_share_two_bias_tables_in_fpn() -> None:
    pyramid = build_pyramid(small_vit(), "fpn", image_size=128, window=3)
    shapes = {name: tuple(p.shape) for name, p in pyramid.named_parameters() if "relative_position" in name}
    assert shapes == {
        "trunk.windowed_positions.relative_position_bias_table": (5**2, 2),
        "trunk.global_positions.relative_position_bias_table": (15**2, 2),
    }
    assert not any(pyramid.get_parameter(name).any() for name in shapes)
    images = torch.randn(1, 3, 128, 128)
    before = pyramid.trunk(images)
    nn.init.normal_(pyramid.trunk.windowed_positions.relative_position_bias_table, std=5.0)
    after = pyramid.trunk(images)
    assert all((new - old).abs().max() > 0.1 for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_relative_positions_begin_without_effect(adapter: Adapter) -> None:
    images = torch.randn(1, 3, 96, 128)
    maps = [
        build_pyramid(small_vit(), adapter, image_size=96, window=4, relative_position=wanted).trunk(images)
        for wanted in (True, False)
    ]
    for with_positions, without in zip(*maps, strict=True):
        torch.testing.assert_close(with_positions, without)


# ---- Sizes


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("patch", [4, 8, 16, 32, 14])
@pytest.mark.parametrize("size", [(112, 112), (100, 61), (33, 97)])
def test_maps_have_their_strides_whatever_the_patch_and_the_image(
    adapter: Adapter, patch: int, size: tuple[int, int]
) -> None:
    model = small_vit(img_size=4 * patch, patch_size=patch, depth=4)
    pyramid = build_pyramid(model, adapter, image_size=112, window=3, channels=20)
    maps = pyramid(torch.randn(2, 3, *size))
    assert covered(maps) == [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32)]
    assert tuple(level.shape[1] for level in maps) == pyramid.channels == ((32 if adapter == "fpn" else 20),) * 4
    sum(level.square().mean() for level in maps).backward()
    assert [name for name, parameter in pyramid.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_padding_an_image_to_whole_patches_changes_nothing(adapter: Adapter) -> None:
    pyramid = build_pyramid(small_vit(), adapter, image_size=96, window=3)
    images = torch.randn(2, 3, 90, 70)
    padded = pyramid(F.pad(images, (0, 10, 0, 6)))
    for level, other in zip(pyramid(images), padded, strict=True):
        torch.testing.assert_close(level, other[..., : level.shape[2], : level.shape[3]])


def test_patches_of_14_become_patches_of_16() -> None:
    model = small_vit(img_size=56, patch_size=14)
    filters, positions = model.patch_embed.proj.weight.clone(), model.pos_embed[:, 1:].clone()
    trunk = build_pyramid(model, "simple", image_size=64, window=2).trunk
    assert trunk.stride == 16
    torch.testing.assert_close(trunk.patch_embed.proj.weight, resample_patch_embed(filters, [16, 16]))
    torch.testing.assert_close(trunk.pos_embed.flatten(1, 2), positions)
    assert covered(trunk(torch.randn(1, 3, 64, 64))) == [(4, 4)]


def test_fpn_resamples_by_the_layers_of_the_protocol() -> None:
    levels = build_pyramid(small_vit(), "fpn", image_size=64, window=4).levels
    assert [[type(layer).__name__ for layer in level] for level in levels] == [
        ["ConvTranspose2d", "GroupNorm", "GELU", "ConvTranspose2d"],
        ["ConvTranspose2d"],
        [],
        ["MaxPool2d"],
    ]
    assert levels[0][1].num_groups == 32
    levels = build_pyramid(small_vit(embed_dim=24, patch_size=8), "fpn", image_size=64, window=4).levels
    assert [len(level) for level in levels] == [1, 0, 1, 2]
    assert build_pyramid(small_vit(embed_dim=24), "fpn", image_size=64, window=4).levels[0][1].num_groups == 8


# ---- Training


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_activation_checkpointing_changes_no_gradient(adapter: Adapter) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = small_vit(drop_path_rate=0.3, proj_drop_rate=0.1)
        pyramid = build_pyramid(model, adapter, image_size=80, window=3, activation_checkpointing=checkpointing)
        torch.manual_seed(1)
        maps = pyramid(torch.randn(3, 3, 80, 80))
        sum(level.square().mean() for level in maps).backward()
        gradients.append([parameter.grad for parameter in pyramid.parameters()])
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_activation_checkpointing_keeps_fewer_activations() -> None:
    def kept(checkpointing: bool) -> int:
        pyramid = build_pyramid(small_vit(), "simple", image_size=80, window=3, activation_checkpointing=checkpointing)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            pyramid.trunk(torch.randn(1, 3, 80, 80))
        return sum(sizes)

    assert kept(True) < kept(False) / 3


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_pyramid_can_be_copied_and_restored(adapter: Adapter) -> None:
    pyramid = build_pyramid(small_vit(), adapter, image_size=96, window=3)
    for name, parameter in pyramid.named_parameters():
        if "positions" in name or "rel_pos" in name:
            nn.init.normal_(parameter)
    images = torch.randn(1, 3, 96, 96)
    expected = pyramid(images)
    twin = copy.deepcopy(pyramid)
    restored = build_pyramid(small_vit(), adapter, image_size=96, window=3)
    restored.load_state_dict(pyramid.state_dict())
    assert len(pyramid.state_dict()) == len(list(pyramid.parameters()))  # no tensor under two names
    with torch.no_grad():
        for parameter in pyramid.parameters():
            parameter.zero_()
    for other in (twin, restored):
        for level, wanted in zip(other(images), expected, strict=True):
            torch.testing.assert_close(level, wanted)


def test_frozen_position_embeddings_stay_frozen() -> None:
    model = small_vit()
    model.pos_embed.requires_grad_(False)
    trunk = build_pyramid(model, "simple", image_size=64, window=4).trunk
    assert not trunk.pos_embed.requires_grad


def test_what_applies_to_token_sequences_only_is_left_out() -> None:
    model = small_vit(patch_drop_rate=0.5)
    assert isinstance(model.patch_drop, PatchDropout)
    assert covered(build_pyramid(model, "simple", image_size=64, window=4)(torch.randn(1, 3, 64, 64)))[2] == (4, 4)


@pytest.mark.parametrize("name", ["random_vit_mini", "vit_mini_patch8_48"])
def test_registered_backbones_become_pyramids(name: str) -> None:
    pyramid = build_pyramid(create_backbone(name, drop_path=0.1), "fpn", image_size=96, window=6)
    assert isinstance(pyramid, Pyramid)
    assert covered(pyramid(torch.randn(1, 3, 96, 96))) == [(24, 24), (12, 12), (6, 6), (3, 3)]
    assert pyramid.channels == (128,) * 4
