"""Names and shapes of the masked autoencoders' parameters: the published checkpoints' and timm's."""

import pytest
import timm
import torch

from backbones.mae.model import create_mae, list_mae_models


def published_shapes(width: int, depth: int, patches: int, patch: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in facebookresearch/mae's mae_visualize_vit_*.pth: encoder and decoder."""

    def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, patches + 1, width),
        "mask_token": (1, 1, 512),
        "decoder_pos_embed": (1, patches + 1, 512),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for stem, block_width, blocks in (("blocks", width, depth), ("decoder_blocks", 512, 8)):
        for index in range(blocks):
            block = f"{stem}.{index}"
            shapes |= norm(f"{block}.norm1", block_width) | norm(f"{block}.norm2", block_width)
            shapes |= linear(f"{block}.attn.qkv", block_width, 3 * block_width)
            shapes |= linear(f"{block}.attn.proj", block_width, block_width)
            shapes |= linear(f"{block}.mlp.fc1", block_width, 4 * block_width)
            shapes |= linear(f"{block}.mlp.fc2", 4 * block_width, block_width)
    shapes |= norm("norm", width) | linear("decoder_embed", width, 512)
    return shapes | norm("decoder_norm", 512) | linear("decoder_pred", 512, 3 * patch * patch)


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads", "patches", "patch", "millions"),
    [
        ("mae_vit_base_patch16", 768, 12, 12, 196, 16, 111.9),
        ("mae_vit_large_patch16", 1024, 24, 16, 196, 16, 329.5),
        ("mae_vit_huge_patch14", 1280, 32, 16, 256, 14, 657.1),
    ],
)
def test_parameters_are_those_of_the_published_checkpoints(
    name: str, width: int, depth: int, heads: int, patches: int, patch: int, millions: float
) -> None:
    with torch.device("meta"):
        model = create_mae(name)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == published_shapes(
        width, depth, patches, patch
    )
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert {block.attn.num_heads for block in model.blocks} == {heads}
    assert {block.attn.num_heads for block in model.decoder_blocks} == {16}
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


@pytest.mark.parametrize("name", list_mae_models())
def test_encoder_loads_strictly_into_timm(name: str) -> None:
    with torch.device("meta"):
        model = create_mae(name)
        encoder = timm.create_model(model.encoder_name, num_classes=0)
    assert {k: v.shape for k, v in model.encoder_state_dict().items()} == {
        k: v.shape for k, v in encoder.state_dict().items()
    }
    assert [block.attn.num_heads for block in model.blocks] == [block.attn.num_heads for block in encoder.blocks]
