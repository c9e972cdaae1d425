"""Vision Transformers smaller than timm's own, for work without a GPU. Importing this module registers them in timm.

`vit_mini_patch8_48` stands alone. The sizes base, large and huge stand to each other as those of the literature do:
huge has other patches than the rest, which no feature pyramid takes as they are, and BEiT comes in two of them. All are
for images of 48 px and have a multiple of four blocks.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.beit import Beit
from timm.models.beit import checkpoint_filter_fn as beit_filter_fn
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

_SIDE = 48
_CFG = {
    "num_classes": 1000,
    "input_size": (3, _SIDE, _SIDE),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}
_VITS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_BEITS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

default_cfgs = generate_default_cfgs(
    {
        "vit_mini_patch8_48": _CFG | _VITS,
        "vit_mini_base_patch8_48": _CFG | _VITS,
        "vit_mini_large_patch8_48": _CFG | _VITS,
        "vit_mini_huge_patch6_48": _CFG | _VITS,
        "beit_mini_base_patch8_48": _CFG | _BEITS,
        "beit_mini_large_patch8_48": _CFG | _BEITS,
    }
)


def _vit(name: str, pretrained: bool, given: dict[str, Any], **architecture: Any) -> VisionTransformer:
    return build_model_with_cfg(
        VisionTransformer,
        name,
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **({"img_size": _SIDE} | architecture | given),
    )


def _beit(name: str, pretrained: bool, given: dict[str, Any], **architecture: Any) -> Beit:
    positions = {"use_abs_pos_emb": False, "use_rel_pos_bias": True}
    return build_model_with_cfg(
        Beit,
        name,
        pretrained,
        pretrained_filter_fn=beit_filter_fn,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **({"img_size": _SIDE} | positions | architecture | given),
    )


@register_model
def vit_mini_patch8_48(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for images of 48 px: patch 8, width 128, 4 blocks, 4 heads; 0.8 million parameters, 37 tokens an image."""
    return _vit("vit_mini_patch8_48", pretrained, kwargs, patch_size=8, embed_dim=128, depth=4, num_heads=4)


@register_model
def vit_mini_base_patch8_48(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for images of 48 px: patch 8, width 48, 4 blocks, 2 heads; 0.1 million parameters, 37 tokens an image."""
    return _vit("vit_mini_base_patch8_48", pretrained, kwargs, patch_size=8, embed_dim=48, depth=4, num_heads=2)


@register_model
def vit_mini_large_patch8_48(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for images of 48 px: patch 8, width 64, 8 blocks, 2 heads; 0.4 million parameters, 37 tokens an image."""
    return _vit("vit_mini_large_patch8_48", pretrained, kwargs, patch_size=8, embed_dim=64, depth=8, num_heads=2)


@register_model
def vit_mini_huge_patch6_48(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for images of 48 px: patch 6, width 96, 8 blocks, 3 heads; 0.9 million parameters, 65 tokens an image."""
    return _vit("vit_mini_huge_patch6_48", pretrained, kwargs, patch_size=6, embed_dim=96, depth=8, num_heads=3)


@register_model
def beit_mini_base_patch8_48(pretrained: bool = False, **kwargs: Any) -> Beit:
    """BEiT of the size of `vit_mini_base_patch8_48`, its layer scale as in timm's beit_base."""
    sizes = {"patch_size": 8, "embed_dim": 48, "depth": 4, "num_heads": 2}
    return _beit("beit_mini_base_patch8_48", pretrained, kwargs, init_values=0.1, **sizes)


@register_model
def beit_mini_large_patch8_48(pretrained: bool = False, **kwargs: Any) -> Beit:
    """BEiT of the size of `vit_mini_large_patch8_48`, its layer scale as in timm's beit_large."""
    sizes = {"patch_size": 8, "embed_dim": 64, "depth": 8, "num_heads": 2}
    return _beit("beit_mini_large_patch8_48", pretrained, kwargs, init_values=1e-5, **sizes)
