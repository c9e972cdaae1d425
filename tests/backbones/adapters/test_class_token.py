"""The adapter `beit`: plain ViTs that keep their class token, against timm's own forward pass, and the rest of it."""

import copy
from typing import Any

import pytest
import timm
import torch
from mmseg.models.backbones import MAE
from timm.models.beit import Beit, gen_relative_position_index
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import InputError
from backbones.adapters import Pyramid, build_pyramid

DEPTH, SIZE, GRID = 4, 64, 4
SMALL: dict[str, Any] = {"img_size": SIZE, "patch_size": 16, "embed_dim": 32, "depth": DEPTH, "num_heads": 2}


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def small_vit(**options: Any) -> Any:
    return randomised(VisionTransformer(**(SMALL | {"num_classes": 0} | options)))


def small_beit(**options: Any) -> Any:
    return randomised(Beit(**(SMALL | {"num_classes": 0, "init_values": 0.1, "use_abs_pos_emb": False} | options)))


def beit(model: nn.Module, image_size: int = SIZE, **settings: Any) -> Pyramid:
    return build_pyramid(model, "beit", image_size=image_size, window=None, **settings)


MODELS = {
    "ViT": small_vit,
    "register tokens": lambda: small_vit(reg_tokens=3),
    "tokens without positions": lambda: small_vit(reg_tokens=2, no_embed_class=True),
    "norm before the blocks, no positions": lambda: small_vit(pre_norm=True, pos_embed="none", dynamic_img_size=True),
    "distillation token": lambda: randomised(VisionTransformerDistilled(**SMALL, num_classes=0)),
    "no class token": lambda: small_vit(class_token=False, global_pool="avg"),
    "BEiT, a table a block": lambda: small_beit(use_rel_pos_bias=True, qkv_bias=True),
    "BEiT, a shared table, positions": lambda: small_beit(use_shared_rel_pos_bias=True, use_abs_pos_emb=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_maps_and_gradients_are_those_of_timm(name: str) -> None:
    model = MODELS[name]()
    reference = copy.deepcopy(model)
    trunk = beit(model, relative_position=False).trunk
    images = torch.randn(2, 3, SIZE, SIZE)
    expected = reference.forward_intermediates(images, indices=list(range(DEPTH)), intermediates_only=True)
    found = trunk(images)
    directions = [torch.randn_like(each) for each in expected]
    torch.autograd.backward(expected, directions)
    torch.autograd.backward(found, directions)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    others = dict(reference.named_parameters())
    for own_name, own in trunk.named_parameters():
        name_of_timm = own_name.replace(".attention.", ".").replace(".attend.", ".")
        if (other := others.get(name_of_timm)) is not None:
            scale = other.grad.abs().max() + 1e-9
            assert torch.allclose(own.grad / scale, other.grad.view_as(own) / scale, atol=1e-4), own_name
    tokens = [own_name for own_name in others if own_name.endswith("_token")]
    assert tokens == [own_name for own_name, _ in trunk.named_parameters() if own_name.endswith("_token")]


def test_beits_tables_keep_what_they_have_for_the_class_token() -> None:
    model = small_beit(use_rel_pos_bias=True)
    reference = copy.deepcopy(model)
    trunk = beit(model, image_size=96).trunk
    for block, other in zip(trunk.blocks, reference.blocks, strict=True):
        other.attn.set_window_size((6, 6))
        torch.testing.assert_close(
            block.attn.attend.relative_position_bias_table, other.attn.relative_position_bias_table
        )


def test_images_of_another_size_have_tables_and_positions_interpolated() -> None:
    """Against attention written out, its biases by timm's index of a table whose distances were interpolated."""
    pyramid = beit(small_vit(), image_size=96)
    trunk = pyramid.trunk
    randomised(trunk)
    images = torch.randn(2, 3, 80, 112)
    grid = (5, 7)
    x = trunk.patch_embed.proj(images).flatten(2).mT
    patches = trunk.pos_embed[:, 1:].view(1, 6, 6, 32).permute(0, 3, 1, 2)
    patches = nn.functional.interpolate(patches, size=grid, mode="bicubic").flatten(2).mT
    x = torch.cat([trunk.cls_token.expand(2, -1, -1), x], 1) + torch.cat([trunk.pos_embed[:, :1], patches], 1)
    for block in trunk.blocks:
        table = block.attn.attend.relative_position_bias_table
        square = table[:-3].t().reshape(1, 2, 11, 11)
        square = nn.functional.interpolate(square, size=(9, 13), mode="bicubic").flatten(2)[0].t()
        bias = torch.cat([square, table[-3:]])[gen_relative_position_index(grid)].permute(2, 0, 1)
        attention = block.attn.attention
        q, k, v = attention.qkv(block.norm1(x)).view(2, -1, 3, 2, 16).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.mT * 16**-0.5 + bias).softmax(-1) @ v
        x = x + attention.proj(mixed.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(trunk(images)[-1], x[:, 1:].mT.unflatten(2, grid), rtol=1e-4, atol=1e-4)


def test_position_embeddings_are_interpolated_once_as_mmsegmentation_does() -> None:
    reference = MAE(img_size=96, patch_size=16, embed_dims=32, num_layers=2, num_heads=2)
    model = small_vit()
    expected = reference.resize_abs_pos_embed({"pos_embed": model.pos_embed.detach().clone()})["pos_embed"]
    trunk = beit(model, image_size=96).trunk
    assert trunk.pos_embed.shape == (1, 1 + 6 * 6, 32)
    assert torch.equal(trunk.pos_embed, expected)


def test_without_a_class_token_positions_are_interpolated_all_the_same() -> None:
    trunk = beit(small_vit(class_token=False, global_pool="avg"), image_size=96).trunk
    assert trunk.pos_embed.shape == (1, 6, 6, 32)
    assert {len(block.attn.attend.relative_position_bias_table) for block in trunk.blocks} == {11**2}


def test_transposed_convolutions_begin_as_pytorchs_do_with_the_norm_that_was_asked_for() -> None:
    class Norm(nn.BatchNorm2d):
        pass

    torch.manual_seed(0)
    pyramid = beit(small_vit(), norm=Norm)
    assert [type(layer) for layer in pyramid.levels[0]] == [nn.ConvTranspose2d, Norm, nn.GELU, nn.ConvTranspose2d]
    for level in pyramid.levels[:2]:
        for layer in level:
            if isinstance(layer, nn.ConvTranspose2d):  # uniform within 1 / sqrt(32 · 2 · 2)
                assert layer.bias is not None and layer.bias.any()
                assert 0.95 / 128**0.5 < layer.weight.abs().max() <= 1 / 128**0.5


def test_detections_pyramids_have_neither_class_token_nor_batch_norm() -> None:
    for adapter in ("fpn", "simple"):
        pyramid = build_pyramid(small_vit(), adapter, image_size=96, window=2)  # type: ignore[arg-type]
        assert pyramid.trunk.pos_embed.shape == (1, GRID, GRID, 32)
        assert not any("token" in name for name, _ in pyramid.named_parameters())
        assert not any(isinstance(module, nn.BatchNorm2d) for module in pyramid.modules())


def test_hierarchical_models_are_the_same_pyramid() -> None:
    pyramids = [
        build_pyramid(timm.create_model("resnet18", num_classes=0), adapter, image_size=64, window=None)  # type: ignore[arg-type]
        for adapter in ("fpn", "beit")
    ]
    pyramids[1].load_state_dict(pyramids[0].state_dict())
    images = torch.randn(2, 3, 64, 64)
    for found, expected in zip(*(pyramid.eval()(images) for pyramid in pyramids), strict=True):
        assert torch.equal(found, expected)


def test_windows_are_refused() -> None:
    with pytest.raises(InputError, match=r"window 2: the adapter `beit` has no windows"):
        build_pyramid(small_vit(), "beit", image_size=SIZE, window=2)


def gradients(pyramid: Pyramid, batches: list[Tensor]) -> list[Tensor]:
    """With the maps of all images computed before the backward pass."""
    torch.manual_seed(1)
    loss = sum(level.square().mean() for images in batches for level in pyramid(images))
    return list(torch.autograd.grad(loss, list(pyramid.parameters())))  # type: ignore[arg-type]


def checkpointed(on: bool) -> Pyramid:
    return beit(small_vit(drop_path_rate=0.3), activation_checkpointing=on)


def test_activation_checkpointing_changes_no_gradient() -> None:
    """Nor do images of another shape in between, which would misplace the patches in the backward pass."""
    batches = [torch.randn(2, 3, *size) for size in ((64, 96), (96, 64))]
    for kept, again in zip(*(gradients(checkpointed(on), batches) for on in (False, True)), strict=True):
        assert torch.equal(kept, again)


@pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_compiled_pyramid_is_one_graph_with_the_same_gradients(checkpointing: bool) -> None:
    images = [torch.randn(2, 3, SIZE, SIZE)]
    expected = gradients(checkpointed(False).eval(), images)
    pyramid = checkpointed(checkpointing).eval()
    torch.compiler.reset()
    pyramid.compile(backend="aot_eager", fullgraph=True)
    for kept, again in zip(expected, gradients(pyramid, images), strict=True):
        torch.testing.assert_close(kept, again)
