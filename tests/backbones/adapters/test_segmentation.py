"""Plain ViTs as ADE20K's protocol has them: taps, no windows, and what is added for transfer."""

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import LayerScale
from timm.models.beit import Beit
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor, nn

from backbones import InputError
from backbones.adapters import Adapter, Pyramid, build_pyramid

DEPTH, WIDTH, HEADS, SIZE = 12, 32, 2, 64
TAPS = (3, 5, 7, 11)
PROTOCOL: dict[str, Any] = {"window": None, "shared_positions": False, "taps": TAPS, "layer_scale": 1.0}


def small_vit(**options: Any) -> Any:
    """A small ViT, its weights large enough to matter."""
    torch.manual_seed(0)
    sizes = {"img_size": SIZE, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "num_classes": 0}
    return randomised(VisionTransformer(**(sizes | options)))


def small_beit(**options: Any) -> Any:
    sizes = {"img_size": SIZE, "embed_dim": WIDTH, "depth": 4, "num_heads": HEADS, "num_classes": 0}
    return Beit(**(sizes | {"use_abs_pos_emb": False, "use_rel_pos_bias": True} | options))


def randomised(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return model


def fpn(model: nn.Module, image_size: int = SIZE, **settings: Any) -> Pyramid:
    return build_pyramid(model, "fpn", image_size=image_size, **(PROTOCOL | settings))


def tables_of(pyramid: Pyramid) -> list[Tensor]:
    return [block.attn.attend.relative_position_bias_table for block in pyramid.trunk.blocks]


# ---- Taps


@pytest.mark.parametrize(
    ("depth", "taps"), [(12, TAPS), (24, [7, 11, 15, 23]), (6, (0, 1, 2, 5)), (5, (1, 2, 3, 4)), (8, None)]
)
def test_maps_are_those_of_timm_after_the_taps(depth: int, taps: Any) -> None:
    """Without a class token, which takes part in timm's attention."""
    model = small_vit(depth=depth, class_token=False, global_pool="avg")
    images = torch.randn(1, 3, SIZE, SIZE)
    indices = [1, 3, 5, 7] if taps is None else list(taps)
    expected = model.forward_intermediates(images, indices=indices, intermediates_only=True)
    trunk = fpn(model, taps=taps, relative_position=False, layer_scale=None).trunk
    assert [block.attn.window for block in trunk.blocks] == [None] * depth
    for found, wanted in zip(trunk(images), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_taps_leave_windows_where_they_are() -> None:
    quarters = fpn(small_vit(), image_size=128, window=3, taps=None).trunk
    tapped = fpn(small_vit(), image_size=128, window=3).trunk
    assert [block.attn.window for block in tapped.blocks] == [3, 3, None] * 4
    images = torch.randn(1, 3, 128, 128)
    ends, maps = quarters(images), tapped(images)  # after 2, 5, 8, 11 and after 3, 5, 7, 11
    assert torch.equal(ends[1], maps[1])
    assert torch.equal(ends[3], maps[3])
    assert not torch.allclose(ends[2], maps[2], atol=0.1)


@pytest.mark.parametrize(
    "taps",
    [
        pytest.param((7, 11, 15, 23), id="of ViT-L"),
        pytest.param((2, 5, 8), id="three"),
        pytest.param((1, 3, 5, 7, 11), id="five"),
        pytest.param((3, 5, 7, 10), id="not the last"),
        pytest.param((3, 7, 5, 11), id="descending"),
        pytest.param((3, 5, 5, 11), id="twice"),
        pytest.param((-9, -7, -5, 11), id="negative"),
        pytest.param((), id="none"),
    ],
)
def test_taps_that_do_not_fit_are_refused(taps: tuple[int, ...]) -> None:
    message = (
        rf'key "model.taps": {re.escape(str(list(taps)))}: .* 4 blocks, .* last of them 11, .* 12 blocks\. .*=null'
    )
    with pytest.raises(InputError, match=message):
        fpn(small_vit(), taps=taps)


def test_taps_of_a_smaller_vit_are_refused_with_the_depth() -> None:
    with pytest.raises(InputError, match=r"\[3, 5, 7, 11\]: .* 23, for this ViT has 24 blocks"):
        fpn(small_vit(depth=24))


def test_the_simple_pyramid_has_no_taps() -> None:
    with pytest.raises(InputError, match=r'key "model.taps": \[3, 5, 7, 11\]: the adapter `simple` .*=null'):
        build_pyramid(small_vit(), "simple", image_size=SIZE, window=3, taps=TAPS)


@pytest.mark.parametrize("settings", [{"taps": None}, {"taps": (1, 2, 3, 5), "window": 3}])
def test_quarters_are_needed_for_windows_and_without_taps(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"a ViT of 6 blocks: .* multiple of 4\. .* segmentation where model\.taps"):
        fpn(small_vit(depth=6), **settings)


# ---- Relative positions


def test_every_block_has_a_bias_table_of_its_own() -> None:
    pyramid = fpn(small_vit(), image_size=128)
    tables = tables_of(pyramid)
    assert len({id(table) for table in tables}) == DEPTH
    assert {tuple(table.shape) for table in tables} == {(15**2, HEADS)}
    assert not any(table.any() for table in tables)
    names = [name for name, _ in pyramid.named_parameters() if "relative_position" in name]
    assert names == [f"trunk.blocks.{block}.attn.attend.relative_position_bias_table" for block in range(DEPTH)]


def test_tables_of_windowed_blocks_are_made_for_windows() -> None:
    tables = tables_of(fpn(small_vit(), image_size=128, window=3))
    assert [len(table) for table in tables] == [5**2, 5**2, 15**2] * 4


def test_without_windows_blocks_can_share_one_table() -> None:
    pyramid = fpn(small_vit(), image_size=128, shared_positions=True)
    shapes = {name: tuple(p.shape) for name, p in pyramid.named_parameters() if "relative_position" in name}
    assert shapes == {"trunk.global_positions.relative_position_bias_table": (15**2, HEADS)}


def test_images_of_another_size_have_the_tables_interpolated() -> None:
    made_for_128, made_for_96 = (fpn(small_vit(), image_size=side) for side in (128, 96))
    with torch.no_grad():
        for table, other in zip(tables_of(made_for_128), tables_of(made_for_96), strict=True):
            nn.init.normal_(table)
            square = table.t().reshape(1, HEADS, 15, 15)
            other.copy_(F.interpolate(square, size=(11, 11), mode="bicubic").flatten(2)[0].t())
    images = torch.randn(1, 3, 96, 96)
    for found, expected in zip(made_for_128.trunk(images), made_for_96.trunk(images), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("relative_position", [False, True])
def test_beit_keeps_its_own_tables(relative_position: bool, shared: bool) -> None:
    model = randomised(small_beit())
    own = [block.attn.relative_position_bias_table[:-3].clone() for block in model.blocks]
    settings = {"taps": None, "relative_position": relative_position, "shared_positions": shared}
    for table, expected in zip(tables_of(fpn(model, **settings)), own, strict=True):
        torch.testing.assert_close(table, expected)


# ---- Layer scale


@pytest.mark.parametrize("model", [small_vit, lambda: small_beit(use_rel_pos_bias=False, init_values=None)])
def test_what_is_added_for_transfer_begins_without_effect_and_learns(model: Any) -> None:
    torch.manual_seed(0)
    before = model()
    with_it = fpn(copy.deepcopy(before), taps=None)
    without = fpn(before, taps=None, relative_position=False, layer_scale=None)
    without.levels.load_state_dict(with_it.levels.state_dict())
    images = torch.randn(2, 3, SIZE, SIZE)
    maps = with_it(images)
    for found, expected in zip(maps, without(images), strict=True):
        torch.testing.assert_close(found, expected)
    sum(level.square().mean() for level in maps).backward()
    added = {name: p for name, p in with_it.named_parameters() if name not in dict(without.named_parameters())}
    assert len(added) == 3 * len(with_it.trunk.blocks)  # a table and two layer scales a block
    assert [name for name, parameter in added.items() if not parameter.grad.any()] == []


def test_layer_scale_begins_with_the_value_that_was_asked_for() -> None:
    for block in fpn(small_vit(), layer_scale=0.1).trunk.blocks:
        for scale in (block.ls1, block.ls2):
            assert isinstance(scale, LayerScale)
            torch.testing.assert_close(scale.gamma, torch.full((WIDTH,), 0.1))
    for block in fpn(small_beit(init_values=None), taps=None, layer_scale=0.1).trunk.blocks:
        for gamma in (block.gamma_1, block.gamma_2):
            torch.testing.assert_close(gamma, nn.Parameter(torch.full((WIDTH,), 0.1)))
        assert block.gamma_1 is not block.gamma_2


def test_a_backbone_keeps_the_layer_scale_that_it_has() -> None:
    vit, beit = small_vit(init_values=0.3), randomised(small_beit(init_values=0.3))
    own = [parameter for name, parameter in [*vit.named_parameters(), *beit.named_parameters()] if "gamma" in name]
    pyramids = fpn(vit), fpn(beit, taps=None)
    kept = [p for pyramid in pyramids for name, p in pyramid.named_parameters() if "gamma" in name]
    assert len(own) == 2 * (DEPTH + 4)
    assert [id(parameter) for parameter in kept] == [id(parameter) for parameter in own]


def test_none_is_added_unless_asked_for() -> None:
    pyramid = build_pyramid(small_vit(), "fpn", image_size=SIZE, window=None)
    assert not any("gamma" in name for name, _ in pyramid.named_parameters())


def test_blocks_without_a_place_for_layer_scale_are_refused() -> None:
    with pytest.raises(InputError, match=r'key "model.layer_scale": ResPostBlock has no place .*=null'):
        fpn(small_vit(block_fn=ResPostBlock))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_layer_scale_that_is_not_positive_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"layer scale .*: expected a positive number"):
        fpn(small_vit(), layer_scale=value)


# ---- Training, and the other adapter


def test_activation_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        pyramid = fpn(small_vit(drop_path_rate=0.3), activation_checkpointing=checkpointing)
        torch.manual_seed(1)
        sum(level.square().mean() for level in pyramid(torch.randn(2, 3, SIZE, SIZE))).backward()
        gradients.append([parameter.grad for parameter in pyramid.parameters()])
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


@pytest.mark.parametrize("adapter", ["fpn", "simple"])
def test_no_windows_are_windows_as_large_as_the_image(adapter: Adapter) -> None:
    images = torch.randn(1, 3, 96, 96)
    maps = [
        build_pyramid(small_vit(), adapter, image_size=96, window=window, relative_position=False).trunk(images)
        for window in (None, 6)
    ]
    assert all(torch.equal(found, expected) for found, expected in zip(*maps, strict=True))
