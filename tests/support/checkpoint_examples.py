"""Small models with weights of their own, their checkpoints in every layout, and whether all of a file was loaded."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones import registry
from backbones.mae.positions import sincos_position_embedding
from backbones.registry import create_backbone
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.loading import LoadReport

State = dict[str, Tensor]


def small_vit(patch: int, grid: int) -> nn.Module:
    """A ViT with a class token, as small as can be, of grid × grid patches."""
    sizes = {"img_size": patch * grid, "patch_size": patch, "embed_dim": 32, "depth": 4, "num_heads": 2}
    return randomised(VisionTransformer(**sizes, num_classes=0))


def published_mae(patch: int, grid: int) -> State:
    """The weights of `small_vit` as MAE publishes them: its position embeddings are fixed."""
    state = {name: tensor.detach() for name, tensor in small_vit(patch, grid).state_dict().items()}
    return state | {"pos_embed": sincos_position_embedding((grid, grid), state["pos_embed"].shape[2])}


def shrink_vit_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mae_vit_huge be a small one, of patches of 14 in a grid of 4."""

    def build(image_size: int | None, drop_path: float) -> nn.Module:
        return small_vit(14, (image_size or 56) // 14)

    entry = replace(registry._entries["mae_vit_huge"], build=build)
    monkeypatch.setitem(registry._entries, "mae_vit_huge", entry)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter values of its own, so that exchanging any two of a shape changes the features."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def vit_mini(**options: object) -> nn.Module:
    import backbones.vit_sizes  # noqa: F401

    return randomised(timm.create_model("vit_mini_patch8_48", num_classes=0, **options))


def beit_mini(**options: object) -> nn.Module:
    """timm's BEiT with the sizes of the mini ViT."""
    sizes = {"img_size": 48, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 0}
    return timm.create_model("beit_base_patch16_224", **(sizes | {"global_pool": "token"} | options))


def images(count: int = 2, size: int = 48) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def save(content: object, folder: Path, name: str = "checkpoint.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state: State, *rules: tuple[str, str]) -> State:
    result = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def load(path: Path, backbone: str = "mae_vit_mini", image_size: int | None = None) -> tuple[nn.Module, LoadReport]:
    """Load through the front door and check that the report accounts for every key of the file and of the model."""
    model = create_backbone(backbone, path, image_size).eval()
    report = model.load_report
    check_account(report, path, model)
    return model, report


def check_account(report: LoadReport, path: Path, model: nn.Module) -> None:
    used = {key for keys in report.used.values() for key in keys}
    assert used | report.dropped.keys() == read_checkpoint(path).state_dict.keys()
    assert not used & report.dropped.keys()
    assert report.used.keys() | report.initialised.keys() == model.state_dict().keys()
    assert not report.used.keys() & report.initialised.keys()
    assert all(report.dropped.values()) and all(report.initialised.values())


def assert_same_features(model: nn.Module, source: nn.Module, tolerance: float = 0.0) -> None:
    with torch.no_grad():
        difference = (model.forward_features(images()) - source.forward_features(images())).abs().max().item()
    assert difference <= tolerance
