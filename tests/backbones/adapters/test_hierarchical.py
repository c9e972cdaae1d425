"""Hierarchical models as feature pyramids, and what cannot be one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import InputError
from backbones.adapters import build_pyramid


def small_vit(**options: Any) -> nn.Module:
    settings = {"img_size": 64, "embed_dim": 32, "depth": 4, "num_heads": 2, "num_classes": 0} | options
    return VisionTransformer(**settings)


def timm_model(name: str, **options: Any) -> Any:
    return timm.create_model(name, num_classes=0, **options)


def covered(maps: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(level.shape[2:]) for level in maps]


HIERARCHICAL = {
    "convnext": ("convnext_atto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 2, 1)}, (8, 16, 24, 32)),
    "resnet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}, (8, 16, 24, 32)),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 2), "drop_path_rate": 0.0},
        (16, 32, 64, 128),
    ),
}


@pytest.mark.parametrize(
    ("kind", "checkpointing"),
    [("convnext", False), ("convnext", True), ("resnet", False), ("swin", False), ("swin", True)],
)
def test_hierarchical_models_give_their_own_maps(kind: str, checkpointing: bool) -> None:
    name, options, widths = HIERARCHICAL[kind]
    sized = {"img_size": 160} if kind == "swin" else {}
    model = timm_model(name, **options, **sized)
    reference = copy.deepcopy(model)
    pyramid = build_pyramid(model, "fpn", image_size=160, window=16, activation_checkpointing=checkpointing)
    images = torch.randn(2, 3, 150, 141)
    maps = pyramid(images)
    assert covered(maps) == [(38, 36), (19, 18), (10, 9), (5, 5)]
    assert tuple(level.shape[1] for level in maps) == pyramid.channels == widths
    expected = reference.forward_intermediates(F.pad(images, (0, 19, 0, 10)), intermediates_only=True)[-4:]
    for level, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(level, wanted[..., : level.shape[2], : level.shape[3]])
    sum(level.square().mean() for level in maps).backward()
    assert [name for name, parameter in pyramid.named_parameters() if parameter.grad is None] == []


def test_a_trunk_with_batch_norm_does_not_compute_activations_twice() -> None:
    """Its running statistics would take every batch in twice."""
    name, options, _ = HIERARCHICAL["resnet"]
    with pytest.raises(InputError, match=r"runtime\.activation_checkpointing.*ResNet has batch norm"):
        build_pyramid(timm_model(name, **options), "fpn", image_size=160, window=16, activation_checkpointing=True)


@pytest.mark.parametrize("windows", [7, (7, 7, 14, 7)])
def test_swin_is_set_to_the_image_size_with_its_windows_as_they_are(windows: Any) -> None:
    name, options, _ = HIERARCHICAL["swin"]
    options = options | {"window_size": windows}
    small = timm_model(name, **options)
    large = timm.create_model(name, num_classes=0, img_size=256, **options)
    large.load_state_dict(small.state_dict())
    pyramid = build_pyramid(small, "fpn", image_size=250, window=16)
    images = torch.randn(1, 3, 256, 256)
    expected = large.forward_intermediates(images, intermediates_only=True)
    for level, wanted in zip(pyramid(images), expected, strict=True):
        torch.testing.assert_close(level, wanted)
    with pytest.raises(InputError, match=r"an image of 100 × 257: SwinTransformer was built for at most 256 × 256"):
        pyramid(torch.randn(1, 3, 257, 100))


@pytest.mark.parametrize("kind", HIERARCHICAL)
def test_what_is_for_plain_vits_changes_nothing_and_smaller_crops_are_taken(kind: str) -> None:
    name, options, _ = HIERARCHICAL[kind]
    model = timm_model(name, **options).eval()
    reference = build_pyramid(copy.deepcopy(model), "fpn", image_size=128, window=16)
    for_vits: dict[str, Any] = {"window": None, "shared_positions": False, "taps": (3, 5, 7, 11), "layer_scale": 1.0}
    pyramid = build_pyramid(model, "fpn", image_size=128, **for_vits)
    assert pyramid.state_dict().keys() == reference.state_dict().keys()
    for height, width in [(128, 128), (97, 128), (33, 70)]:
        images = torch.randn(1, 3, height, width)
        with torch.no_grad():
            maps = pyramid(images)
            assert all(torch.equal(found, other) for found, other in zip(maps, reference(images), strict=True))
        sizes = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]
        assert [tuple(level.shape[2:]) for level in maps] == sizes


@pytest.mark.parametrize("kind", ["resnet", "convnext"])
def test_convolutional_models_take_images_larger_than_the_crops(kind: str) -> None:
    name, options, _ = HIERARCHICAL[kind]
    model = timm_model(name, **options).eval()
    reference = copy.deepcopy(model)
    images = torch.randn(1, 3, 160, 224)
    with torch.no_grad():
        maps = build_pyramid(model, "fpn", image_size=64, window=None)(images)
        expected = reference.forward_intermediates(images, intermediates_only=True)[-4:]
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_swin_says_which_setting_larger_images_need() -> None:
    model = timm_model("swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1, 1, 1))
    with pytest.raises(InputError, match=r"512 × 683: SwinTransformer .* 512 × 512\. Set model\.image_size .* windows"):
        build_pyramid(model, "fpn", image_size=512, window=None)(torch.randn(1, 3, 683, 512))


class Unhelpful(nn.Module):
    """A model that promises four maps and gives something else."""

    feature_info = tuple({"num_chs": 8, "reduction": stride} for stride in (4, 8, 16, 32))

    def group_matcher(self) -> dict[str, str]:
        return {}

    def prune_intermediate_layers(self, *_: Any, **__: Any) -> None:
        pass

    def forward_intermediates(self, x: Tensor, **_: Any) -> list[Tensor]:
        return [x] * 4


@pytest.mark.parametrize(
    ("model", "adapter", "message"),
    [
        (
            lambda: nn.Linear(2, 2),
            "fpn",
            r"Linear has no spatial feature maps .*: it has no blocks with attention, and no forward_features. Use",
        ),
        (
            lambda: timm_model("mixer_s32_224"),
            "fpn",
            r"MlpMixer gives one map, of stride 32, .*it has no blocks with att",
        ),
        (
            lambda: timm_model("eva02_base_patch16_clip_224", depth=1, embed_dim=48, num_heads=4),
            "fpn",
            r"Eva gives one map, .*its attention is timm\.models\.eva\.E",
        ),
        (lambda: timm_model("vit_tiny_r_s16_p8_224"), "fpn", r"its patch embedding is timm\.layers\.hybrid_embed\.Hyb"),
        (lambda: timm_model("resnet18"), "simple", r"ResNet: .* `simple` needs a plain ViT"),
        (lambda: small_vit(depth=6), "fpn", r"a ViT of 6 blocks: .* must be a multiple of 4"),
        (lambda: small_vit(patch_size=(16, 8)), "fpn", r"patches of 8 × 16: maps need square ones"),
        (small_vit, "pyramid", r"adapter 'pyramid': no such adapter. There are fpn, simple and beit"),
    ],
)
def test_a_model_that_cannot_be_a_pyramid_is_refused(
    model: Callable[[], nn.Module], adapter: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_pyramid(model(), adapter, image_size=64, window=4)


def test_a_model_whose_maps_are_of_other_sizes_is_refused() -> None:
    pyramid = build_pyramid(Unhelpful(), "fpn", image_size=64, window=4)
    with pytest.raises(InputError, match=r"Unhelpful: .* maps of rows and columns \[\(64, 64\), .* strides 4"):
        pyramid(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 0}, "image size 0: expected a positive number"),
        ({"window": -1}, "window -1: expected a positive number"),
        ({"channels": 0}, "channels 0: expected a positive number"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_pyramid(small_vit(), "simple", **({"image_size": 64, "window": 4} | setting))


def test_a_pyramid_of_one_size_has_images_padded_to_it_or_is_refused() -> None:
    """timm's Hiera has learned positions for its size alone."""

    def build() -> Any:
        return timm_model("hiera_tiny_224", embed_dim=16, stages=(1, 1, 1, 1))

    pyramid = build_pyramid(build(), "fpn", image_size=200, window=None).eval()
    assert pyramid.largest_image == 224
    assert covered(pyramid(torch.zeros(1, 3, 128, 160)))[0] == (32, 40)
    with pytest.raises(InputError, match=r"Hiera takes only images of 224 × 224 pixels, .* --set model.image_size=224"):
        build_pyramid(build(), "fpn", image_size=512, window=None)
