"""A compiled network gives what it gave, at every size that it is called with."""

import copy

import torch
from timm.models.vision_transformer import VisionTransformer

from backbones.adapters import build_pyramid
from backbones.training.compiling import compile_network


@torch.no_grad()
def test_images_of_a_second_size_are_compiled_too() -> None:
    """With torch's dynamic sizes the second one failed."""
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=1, num_classes=0, mlp_ratio=1)
    pyramid = build_pyramid(vit, "fpn", image_size=32, window=None, relative_position=False)
    expected = copy.deepcopy(pyramid)
    torch.compiler.reset()
    compile_network(pyramid, backend="aot_eager")
    for size in ((32, 32), (32, 44)):
        images = torch.rand(1, 3, *size)
        for found, wanted in zip(pyramid(images), expected(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
