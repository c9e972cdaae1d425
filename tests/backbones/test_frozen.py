"""Features of frozen backbones are what timm's own functions give, and the backbone stays as it is."""

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.frozen import FrozenBackbone


def images(side: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


def small_vit(**settings: Any) -> Any:
    torch.manual_seed(0)
    defaults = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 5, "num_heads": 2, "num_classes": 0}
    return timm.models.vision_transformer.VisionTransformer(**defaults | settings).eval()


@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_of_the_last_blocks_after_the_last_norm(registers: int) -> None:
    model = small_vit(reg_tokens=registers)
    with torch.no_grad():
        whole = model.forward_features(images(32))
        states = [model.norm(each) for each in _states(model)]
        found = FrozenBackbone(copy.deepcopy(model), 32)(images(32))
    assert found.keys() == {"token1", "token2", "token3", "token4", "avg1"}
    torch.testing.assert_close(found["token1"], whole[:, 0])
    torch.testing.assert_close(found["avg1"], whole[:, 1 + registers :].mean(1))
    for place in (2, 3, 4):
        torch.testing.assert_close(found[f"token{place}"], states[-place][:, 0])


def _states(model: Any) -> list[Tensor]:
    """What leaves each block."""
    states: list[Tensor] = []
    handles = [block.register_forward_hook(lambda *call: states.append(call[2])) for block in model.blocks]
    model.forward_features(images(32))
    for handle in handles:
        handle.remove()
    return states


def test_without_a_class_token_the_mean_of_each_block() -> None:
    model = small_vit(class_token=False, global_pool="avg", fc_norm=True)
    frozen = FrozenBackbone(copy.deepcopy(model), 32)
    with torch.no_grad():
        found = frozen(images(32))
        torch.testing.assert_close(found["avg1"], model(images(32)))
    assert frozen.kinds == list(found) == ["avg1", "avg2", "avg3", "avg4"]


def test_fewer_blocks_than_four() -> None:
    frozen = FrozenBackbone(small_vit(depth=2), 32)
    assert frozen.kinds == [*frozen(images(32))] == ["token1", "token2", "avg1"]


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_lite0", "swin_tiny_patch4_window7_224"])
def test_hierarchical_networks_pool_as_they_do(name: str) -> None:
    model = timm.create_model(name, num_classes=0).eval()
    frozen = FrozenBackbone(copy.deepcopy(model), 224)
    with torch.no_grad():
        found = frozen(images(224, 1))
        torch.testing.assert_close(found["avg1"], model(images(224, 1)))
    assert sorted(found) == sorted(frozen.kinds) and all(each.ndim == 2 for each in found.values())


@pytest.mark.parametrize("name", ["cait_xxs24_224", "xcit_nano_12_p16_224", "pit_ti_224"])
def test_a_class_token_is_not_called_a_mean(name: str) -> None:
    model = timm.create_model(name, num_classes=0).eval()
    frozen = FrozenBackbone(copy.deepcopy(model), 224)
    with torch.no_grad():
        found = frozen(images(224, 1))
        torch.testing.assert_close(found["token1"], model.forward_features(images(224, 1))[:, 0])
    assert [*found] == frozen.kinds == ["token1"] and found["token1"].shape == (1, frozen.width)


def test_a_mean_that_looks_about_is_no_class_token() -> None:
    """CLIP's ResNets pool by attention, begun at the mean, which timm calls "token"."""
    with torch.device("meta"):
        frozen = FrozenBackbone(timm.create_model("resnet50_clip", num_classes=0), 224)
    assert frozen.kinds == ["avg1", "avg2", "avg3", "avg4"]


class Stranger(nn.Module):
    """Another author's: tokens of 8 pixels after one other."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 8, 8)

    def forward_features(self, images: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).transpose(1, 2)
        return torch.cat([patches.mean(1, keepdim=True) + 1, patches], 1)


def test_another_authors_module() -> None:
    frozen = FrozenBackbone(Stranger(), 32)
    found = frozen(images(32))
    assert sorted(found) == sorted(frozen.kinds) == ["avg1", "token1"]
    torch.testing.assert_close(found["token1"], found["avg1"] + 1)


def test_the_backbone_stays_as_it_is() -> None:
    model = timm.create_model("resnet18", num_classes=0, drop_path_rate=0.5)
    before = copy.deepcopy(model.state_dict())
    frozen = FrozenBackbone(model, 64).train()
    first, second = frozen(images(64)), frozen(images(64))
    assert not frozen.training and not any(module.training for module in frozen.modules())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert not any(each.requires_grad for each in frozen.parameters())


class OneSize(Stranger):
    def forward_features(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (48, 48):
            raise ValueError("48 pixels")
        return super().forward_features(images)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"--set model\.image_size=48"):
        FrozenBackbone(OneSize(), 32)
