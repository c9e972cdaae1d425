"""Vision Transformers smaller than timm's own, for work without a GPU. Importing this module registers them in timm."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

default_cfgs = generate_default_cfgs(
    {
        "vit_mini_patch8_48": {
            "num_classes": 1000,
            "input_size": (3, 48, 48),
            "pool_size": None,
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "fixed_input_size": True,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


@register_model
def vit_mini_patch8_48(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """ViT for images of 48 px: patch 8, width 128, 4 blocks, 4 heads; 0.8 million parameters, 37 tokens an image."""
    architecture = {"img_size": 48, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4}
    return build_model_with_cfg(
        VisionTransformer,
        "vit_mini_patch8_48",
        pretrained,
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        **(architecture | kwargs),
    )
