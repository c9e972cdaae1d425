"""BEiT's file of ImageNet-1K, `beit_base_patch16_224_pt1k_800ep.pth`, by a twin of its names and shapes.

microsoft/unilm, beit/README.md:190: `--disable_rel_pos_bias --abs_pos_emb --layer_scale_init_value 0`.
"""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from backbones import find_backbone, normalisation_of
from backbones.adapters import build_pyramid, parameter_groups
from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from backbones.inspection import describe
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.recognition import recognise
from tasks.classification.classifier import add_head
from tests.support.checkpoint_examples import State, images, load, save

NAME = "beit_vit_base_in1k"
PATCH, GRID, WIDTH, DEPTH, HEADS, WORDS = 8, 6, 64, 4, 2, 16


def as_published(patch: int, grid: int, width: int, depth: int, words: int) -> State:
    """Random weights, named and shaped by `VisionTransformerForMaskedImageModeling` (beit/modeling_pretrain.py:31-68)
    and its blocks (beit/modeling_finetune.py:66-173) under that configuration.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, 1, width),
        "pos_embed": (1, grid * grid + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(depth):
        shapes |= {
            f"blocks.{block}.{name}": shape
            for name, shape in {
                "norm1.weight": (width,),
                "norm1.bias": (width,),
                "attn.q_bias": (width,),
                "attn.v_bias": (width,),
                "attn.qkv.weight": (3 * width, width),
                "attn.proj.weight": (width, width),
                "attn.proj.bias": (width,),
                "norm2.weight": (width,),
                "norm2.bias": (width,),
                "mlp.fc1.weight": (4 * width, width),
                "mlp.fc1.bias": (4 * width,),
                "mlp.fc2.weight": (width, 4 * width),
                "mlp.fc2.bias": (width,),
            }.items()
        }
    head = {"lm_head.weight": (words, width), "lm_head.bias": (words,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), **head}
    return {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}


def tokens_after_blocks(state: State, pixels_B3HW: Tensor) -> list[Tensor]:
    """What follows from those weights by the formulas of a ViT, (B, 1 + N, C) after each block; keys have no bias."""
    x = F.conv2d(pixels_B3HW, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1) + state["pos_embed"]
    after = []
    for block in range(DEPTH):
        own = {name.removeprefix(f"blocks.{block}."): tensor for name, tensor in state.items()}
        q, k, v = F.linear(normed(x, own, "norm1"), own["attn.qkv.weight"]).chunk(3, -1)
        q, k, v = (
            y.unflatten(2, (HEADS, -1)).transpose(1, 2) for y in (q + own["attn.q_bias"], k, v + own["attn.v_bias"])
        )
        weights = (q @ k.mT / (WIDTH // HEADS) ** 0.5).softmax(-1)
        x = x + F.linear((weights @ v).transpose(1, 2).flatten(2), own["attn.proj.weight"], own["attn.proj.bias"])
        hidden = F.gelu(F.linear(normed(x, own, "norm2"), own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        x = x + F.linear(hidden, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
        after.append(x)
    return after


def normed(x: Tensor, state: State, name: str) -> Tensor:
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, State]:
    """A small file, and timm's BEiT as small, but for that as it is registered."""
    create = timm.create_model
    sizes = {"patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}

    def create_small(arch: str, **options: Any) -> Any:
        return create(arch, **({"img_size": PATCH * GRID} | options | sizes))

    monkeypatch.setattr(timm, "create_model", create_small)
    state = as_published(PATCH, GRID, WIDTH, DEPTH, WORDS)
    return save({"model": state}, tmp_path), state


def test_of_its_true_size_it_fits_the_registered_backbone_and_no_other() -> None:
    with torch.device("meta"):
        state = as_published(16, 14, 768, 12, 8192)
    checkpoint = Checkpoint(Path("beit_base_patch16_224_pt1k_800ep.pth"), "0" * 64, 1, "torch", "model", state, {})
    assert describe(checkpoint).fits == (NAME,)
    found = recognise(state)
    assert (found.method, found.family, found.size, found.grid) == ("BEiT", "BEiT", "base", (14, 14))
    entry = find_backbone(NAME)
    assert (entry.method, entry.pretrain_data, entry.model) == ("BEiT", "IN1K+DALLE", "ViT-B")
    assert normalisation_of(entry, checkpoint) == IMAGENET  # microsoft/unilm, beit/README.md:119


def test_it_computes_what_its_weights_say(twin: tuple[Path, State]) -> None:
    path, state = twin
    model, report = load(path, NAME)
    with torch.no_grad():
        expected = normed(tokens_after_blocks(state, images())[-1], state, "norm")
        torch.testing.assert_close(model.forward_features(images()), expected, rtol=1e-4, atol=1e-5)
    assert report.dropped.keys() == {"mask_token", "lm_head.weight", "lm_head.bias"}
    assert not report.initialised and not report.converted


def test_the_other_beit_refuses_it(twin: tuple[Path, State]) -> None:
    with pytest.raises(InputError, match=r"1 of the file's keys have no place in the model: pos_embed"):
        load(twin[0], "beit_vit_base")


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_it_classifies(twin: tuple[Path, State], pool: Any) -> None:
    """BEiT's fine-tuning averages the patches' tokens (beit/modeling_finetune.py:285-287)."""
    path, state = twin
    model, _ = load(path, NAME)
    classifier = add_head(model, 5, pool).eval()
    with torch.no_grad():
        last = tokens_after_blocks(state, images())[-1]
        features = (
            F.layer_norm(last[:, 1:].mean(1), (WIDTH,), eps=1e-6)
            if pool == "avg"
            else normed(last, state, "norm")[:, 0]
        )
        torch.testing.assert_close(classifier(images()), classifier.head(features), rtol=1e-4, atol=1e-5)
    classifier(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


@pytest.mark.parametrize("size", [PATCH * GRID, PATCH * (GRID + 2)])
def test_positions_are_interpolated(twin: tuple[Path, State], size: int) -> None:
    model, report = load(twin[0], NAME, size)
    assert report.converted == ({} if size == PATCH * GRID else {"pos_embed": "6×6 → 8×8"})
    assert model.forward_features(images(size=size)).shape == (2, (size // PATCH) ** 2 + 1, WIDTH)


@pytest.mark.parametrize("relative_position", [False, True])
def test_the_adapter_beit_takes_its_blocks_maps(twin: tuple[Path, State], relative_position: bool) -> None:
    """The relative positions that come with the adapter start at zero."""
    path, state = twin
    model, _ = load(path, NAME)
    pyramid = build_pyramid(model, "beit", image_size=PATCH * GRID, window=None, relative_position=relative_position)
    with torch.no_grad():
        for found, tokens in zip(pyramid.trunk(images()), tokens_after_blocks(state, images()), strict=True):
            torch.testing.assert_close(found.flatten(2).mT, tokens[:, 1:], rtol=1e-4, atol=1e-5)
    check_that_all_trains(pyramid)


def test_the_adapter_fpn_has_its_embeddings_and_trains_it(twin: tuple[Path, State]) -> None:
    """Windows change what blocks see, so the map before them is compared: patches with their positions."""
    path, state = twin
    model, _ = load(path, NAME)
    pyramid = build_pyramid(model, "fpn", image_size=PATCH * GRID, window=3)
    seen: list[Tensor] = []
    pyramid.trunk.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    maps = pyramid(images())
    assert [tuple(m.shape[1:]) for m in maps] == [(WIDTH, side, side) for side in (12, 6, 3, 2)]
    patches = F.conv2d(images(), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    torch.testing.assert_close(seen[0].flatten(1, 2), patches.flatten(2).mT + state["pos_embed"][:, 1:])
    check_that_all_trains(pyramid)


def check_that_all_trains(pyramid: Any) -> None:
    sum(m.square().sum() for m in pyramid(images())).backward()
    groups = parameter_groups(
        pyramid, pyramid, weight_decay=0.05, layer_decay=0.65, no_weight_decay="norms_and_positions"
    )
    grouped = {id(parameter) for group in groups for parameter in group["params"]}
    assert all(id(parameter) in grouped and parameter.grad is not None for parameter in pyramid.parameters())
