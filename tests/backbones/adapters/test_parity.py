"""The `simple` pyramid against detectron2's ViT and SimpleFeaturePyramid with the same weights."""

from functools import partial

import pytest
import torch
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid, ViT
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.adapters import Pyramid, build_pyramid

DEPTH, WIDTH, HEADS, PATCH = 8, 32, 2, 16
PRETRAINED_SIZE, IMAGE_SIZE, WINDOW, CHANNELS = 64, 96, 3, 24
EXACT = {"rtol": 1e-4, "atol": 1e-4}


def encoder() -> VisionTransformer:
    """A small ViT with a class token, its weights large enough to matter."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=PRETRAINED_SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 0.5)
    return model


def own_pyramid(relative_position: bool) -> Pyramid:
    pyramid = build_pyramid(
        encoder(),
        "simple",
        image_size=IMAGE_SIZE,
        window=WINDOW,
        relative_position=relative_position,
        channels=CHANNELS,
    )
    torch.manual_seed(1)
    for name, parameter in pyramid.named_parameters():
        if "rel_pos" in name or "levels" in name:
            nn.init.normal_(parameter, std=0.2)
    return pyramid


def reference_pyramid(relative_position: bool) -> SimpleFeaturePyramid:
    trunk = ViT(
        img_size=IMAGE_SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=relative_position,
        window_size=WINDOW,
        window_block_indexes=(0, 2, 4, 6),
        pretrain_img_size=PRETRAINED_SIZE,
    )
    return SimpleFeaturePyramid(trunk, "last_feat", CHANNELS, (4.0, 2.0, 1.0, 0.5))


def paired(ours: Pyramid, reference: SimpleFeaturePyramid) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Each parameter of ours with the reference's."""
    names = dict(reference.net.named_parameters())
    pairs = [
        (parameter, names.pop(name.replace("attn.attention.", "attn.").replace("attn.attend.", "attn.")))
        for name, parameter in ours.trunk.named_parameters()
    ]
    assert not names
    stages = [parameter for stage in reference.stages for parameter in stage.parameters()]
    return pairs + list(zip(ours.levels.parameters(), stages, strict=True))


def values(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Both values in one shape: the reference's position embeddings begin with the class token's."""
    ours, reference = pair
    return ours, reference[:, 1:].view_as(ours) if ours.ndim == 4 and reference.ndim == 3 else reference


@pytest.mark.parametrize("relative_position", [False, True])
@pytest.mark.parametrize(
    "size",
    [
        pytest.param((96, 96), id="whole windows"),
        pytest.param((64, 64), id="the pre-trained grid, padded windows, resized relative positions"),
        pytest.param((128, 160), id="oblong"),
    ],
)
def test_maps_and_gradients_equal_those_of_detectron2(relative_position: bool, size: tuple[int, int]) -> None:
    ours, reference = own_pyramid(relative_position), reference_pyramid(relative_position)
    pairs = paired(ours, reference)
    with torch.no_grad():
        for own_value, reference_value in map(values, pairs):
            reference_value.copy_(own_value)
    images = torch.randn(2, 3, *size)
    own_maps, reference_maps = ours(images), list(reference(images).values())
    directions = [torch.randn_like(reference_map) for reference_map in reference_maps]
    for own_map, reference_map in zip(own_maps, reference_maps, strict=True):
        torch.testing.assert_close(own_map, reference_map, **EXACT)
    for maps in (own_maps, reference_maps):
        torch.autograd.backward(maps, directions)
    scale = max(pair[1].grad.abs().max() for pair in pairs)
    for own, other in pairs:
        own_gradient, reference_gradient = values((own.grad, other.grad))
        torch.testing.assert_close(own_gradient / scale, reference_gradient / scale, **EXACT)
    last = ours.trunk(images)[-1]
    torch.testing.assert_close(last, reference.net(images)["last_feat"], **EXACT)


def test_drop_path_draws_as_in_detectron2() -> None:
    """Stochastic depth drops whole branches of an image, so that the same generator gives the same maps."""
    ours, reference = own_pyramid(False), reference_pyramid(False)
    with torch.no_grad():
        for own_value, reference_value in map(values, paired(ours, reference)):
            reference_value.copy_(own_value)
    from timm.layers import DropPath

    for block, other in zip(ours.trunk.blocks, reference.net.blocks, strict=True):
        block.drop_path1, block.drop_path2, other.drop_path = DropPath(0.5), DropPath(0.5), DropPath(0.5)
    images = torch.randn(4, 3, 96, 96)
    torch.manual_seed(3)
    own_map = ours.trunk(images)[-1]
    torch.manual_seed(3)
    torch.testing.assert_close(own_map, reference.net(images)["last_feat"], **EXACT)
