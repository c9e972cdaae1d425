"""Patches of 14 pixels in feature pyramids: filters resampled, or taken from a file that holds larger ones already."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import resample_patch_embed
from torch import Tensor

from backbones import create_backbone
from backbones.adapters import build_pyramid
from backbones.errors import InputError
from backbones.inspection import describe
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.patches import FILTERS
from tests.support.checkpoint_examples import published_mae, save, shrink_vit_huge, small_vit


@pytest.fixture(autouse=True)
def small_vit_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_vit_huge(monkeypatch)


def pyramid(network: Any, **options: Any) -> Any:
    return build_pyramid(network, "simple", image_size=96, window=3, relative_position=False, **options)


def test_the_filters_are_interpolated_as_images_are_if_asked_to(tmp_path: Path) -> None:
    state = published_mae(14, 4)
    found = {}
    for resampling in ("pseudo_inverse", "bicubic"):
        network: Any = create_backbone("mae_vit_huge", save({"model": state}, tmp_path), for_pyramid=True)
        report = network.load_report
        found[resampling] = pyramid(network, patch_resampling=resampling).trunk.patch_embed.proj.weight
        assert report.converted[FILTERS] == f"14×14 → 16×16 pixels, {resampling}"
    torch.testing.assert_close(found["pseudo_inverse"], resample_patch_embed(state[FILTERS], [16, 16]))
    expected = F.interpolate(state[FILTERS], size=(16, 16), mode="bicubic", align_corners=False)
    torch.testing.assert_close(found["bicubic"], expected)
    assert (found["bicubic"] - found["pseudo_inverse"]).abs().max() > 0.01


def test_bicubic_filters_learn_and_have_their_bias() -> None:
    network = small_vit(14, 4)
    bias = network.patch_embed.proj.bias.clone()
    projection = pyramid(network, patch_resampling="bicubic").trunk.patch_embed.proj
    assert projection.weight.requires_grad and torch.equal(projection.bias, bias)
    assert (projection.stride, projection.kernel_size) == ((16, 16), (16, 16))


@pytest.mark.parametrize("grid", [3, 4], ids=["positions of that grid", "positions of the original's"])
@pytest.mark.parametrize("resampling", ["pseudo_inverse", "bicubic"])
def test_a_file_with_filters_of_16_pixels_is_taken_as_it_is(tmp_path: Path, grid: int, resampling: str) -> None:
    """As ViTDet's mae_pretrain_vit_huge_p14to16.pth. The features are those of a model of such patches."""
    state = published_mae(16, grid)
    network: Any = create_backbone("mae_vit_huge", save({"model": state}, tmp_path), drop_path=0.0, for_pyramid=True)
    report = network.load_report
    taken = pyramid(network, patch_resampling=resampling).eval()
    assert report.converted == {FILTERS: "filters of 16×16 pixels as they are in the file, in place of 14×14"}
    assert report.used.keys() == state.keys()

    original = small_vit(16, grid)
    original.load_state_dict(state)
    expected = pyramid(original).eval()
    for name, tensor in expected.trunk.state_dict().items():
        assert torch.equal(taken.trunk.state_dict()[name], tensor), name
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps: list[Tensor] = taken.trunk(images)
        assert all(torch.equal(one, other) for one, other in zip(maps, expected.trunk(images), strict=True))


@pytest.mark.parametrize("image_size", [None, 56, 84])
def test_classification_says_why_it_does_not_take_it(tmp_path: Path, image_size: int | None) -> None:
    path = save({"model": published_mae(16, 3)}, tmp_path)
    with pytest.raises(InputError) as caught:
        create_backbone("mae_vit_huge", path, image_size)
    message = str(caught.value)
    assert message.startswith(f"{path}: its patch filters have 16×16 pixels, and this model cuts images into patches")
    assert "Detection and segmentation take the file; classification needs the one that has filters of 14×14" in message


def test_an_inspection_names_the_tasks_that_take_it(tmp_path: Path) -> None:
    description = describe(read_checkpoint(save({"model": published_mae(16, 3)}, tmp_path)), "mae_vit_huge")
    assert "mae_vit_huge (detection and segmentation)" in description.fits
    assert "mae_vit_huge" not in description.fits
    assert description.report is not None and list(description.report.converted) == [FILTERS]
    assert "mae_vit_huge" in describe(read_checkpoint(save({"model": published_mae(14, 4)}, tmp_path))).fits


@pytest.mark.parametrize(("name", "value"), [(FILTERS, (32, 3, 18, 18)), (FILTERS, (48, 3, 16, 16)), ("cls", (1,))])
def test_a_pyramid_takes_no_other_file(tmp_path: Path, name: str, value: tuple[int, ...]) -> None:
    state = published_mae(16 if name == "cls" else 14, 4) | {name: torch.zeros(value)}
    with pytest.raises(InputError, match=f"{name}|no place in the model"):
        create_backbone("mae_vit_huge", save({"model": state}, tmp_path), for_pyramid=True)


def test_patches_of_a_power_of_two_stay(tmp_path: Path) -> None:
    """A file of another patch size is refused as ever."""
    state = {name: tensor.detach() for name, tensor in timm.create_model("vit_mini_patch8_48").state_dict().items()}
    network: Any = create_backbone("mae_vit_mini", save(state, tmp_path), for_pyramid=True)
    report = network.load_report
    taken = build_pyramid(network, "simple", image_size=48, window=3, patch_resampling="bicubic").trunk
    assert torch.equal(taken.patch_embed.proj.weight, state[FILTERS])
    assert FILTERS not in report.converted
    state[FILTERS] = torch.zeros(128, 3, 16, 16)
    with pytest.raises(InputError, match=r"patch_embed\.proj\.weight \(128, 3, 16, 16\) instead of"):
        create_backbone("mae_vit_mini", save(state, tmp_path), for_pyramid=True)
