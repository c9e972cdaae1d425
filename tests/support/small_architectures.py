"""timm's models as small as can be, by name for `create_backbone`: "tests.support.small_architectures:vit".

Images have 32 pixels a side, ViTs 4 × 4 patches, 64 numbers a token, two blocks and two heads.
"""

from functools import partial
from typing import Any

import timm
from timm.layers import LayerNorm, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.hiera import Hiera
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SIDE, PATCH, WIDTH, DEPTH, HEADS = 32, 8, 64, 2, 2
_SIZES: dict[str, Any] = {"patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "num_classes": 0}


def _vit(image_size: int | None, **options: Any) -> nn.Module:
    return VisionTransformer(img_size=image_size or SIDE, **(_SIZES | options))


def vit(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size)


def vit_with_fc_norm(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, global_pool="avg", fc_norm=True)


def vit_without_class_token(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, class_token=False, global_pool="avg", fc_norm=False)


def deit3(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, no_embed_class=True, init_values=1e-6)


def dinov2(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, init_values=1e-5)


def dinov2_registers(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, init_values=1e-5, reg_tokens=4, no_embed_class=True)


def dinov2_giant(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, init_values=1e-5, mlp_ratio=5.5, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU)


def clip(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5))


def clip_quickgelu(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5), act_layer="quick_gelu")


def siglip(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, class_token=False, global_pool="map", act_layer="gelu_tanh")


def siglip_exact(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, class_token=False, global_pool="map")


def siglip_averaged(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, class_token=False, global_pool="avg", fc_norm=False, act_layer="gelu_tanh")


def aimv2(image_size: int | None, drop_path: float) -> nn.Module:
    norm = partial(RmsNorm, eps=1e-5)
    kinds: dict[str, Any] = {"norm_layer": norm, "embed_norm_layer": norm, "mlp_layer": SwiGLU, "act_layer": "silu"}
    without = {"class_token": False, "qkv_bias": False, "proj_bias": False, "fc_norm": False}
    return _vit(image_size, global_pool="avg", **kinds, **without)


def _dinov3(image_size: int | None, **options: Any) -> nn.Module:
    rope = {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True, "use_rot_pos_emb": True}
    kinds = {"init_values": 1e-5, "num_reg_tokens": 4, "use_fc_norm": False, "norm_layer": partial(LayerNorm, eps=1e-5)}
    return Eva(
        img_size=image_size or SIDE, use_abs_pos_emb=False, dynamic_img_size=True, **_SIZES, **rope, **kinds, **options
    )


def dinov3(image_size: int | None, drop_path: float) -> nn.Module:
    return _dinov3(image_size, qkv_bias=False)


def dinov3_biases(image_size: int | None, drop_path: float) -> nn.Module:
    return _dinov3(image_size, qkv_bias=True)


def dinov3_gates(image_size: int | None, drop_path: float) -> nn.Module:
    return _dinov3(image_size, qkv_bias=True, swiglu_mlp=True, swiglu_align_to=8)


def _beit(image_size: int | None, **options: Any) -> nn.Module:
    return Beit(img_size=image_size or SIDE, init_values=0.1, **(_SIZES | options))


def beit(image_size: int | None, drop_path: float) -> nn.Module:
    return _beit(image_size, use_rel_pos_bias=True, global_pool="token", use_abs_pos_emb=False)


def beit_averaged(image_size: int | None, drop_path: float) -> nn.Module:
    return _beit(image_size, use_rel_pos_bias=True, global_pool="avg", use_abs_pos_emb=False)


def swin(image_size: int | None, drop_path: float) -> nn.Module:
    return SwinTransformer(
        img_size=image_size or SIDE, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=0
    )


def convnext(image_size: int | None, drop_path: float) -> nn.Module:
    return ConvNeXt(depths=(1, 1, 2, 1), dims=(16, 24, 32, 48), num_classes=0)


def hiera(image_size: int | None, drop_path: float) -> nn.Module:
    size = (image_size or 64, image_size or 64)
    return Hiera(img_size=size, embed_dim=16, num_heads=1, stages=(1, 1, 2, 1), num_classes=0)


def resnet(image_size: int | None, drop_path: float) -> nn.Module:
    return timm.create_model("resnet18", num_classes=0)


def deit_distilled(image_size: int | None, drop_path: float) -> nn.Module:
    return VisionTransformerDistilled(img_size=image_size or SIDE, **_SIZES)


def vit_of_large_patches(image_size: int | None, drop_path: float) -> nn.Module:
    return _vit(image_size, patch_size=16, depth=4)


def beit_of_large_patches(image_size: int | None, drop_path: float) -> nn.Module:
    return _beit(image_size, patch_size=16, depth=4, use_rel_pos_bias=True, global_pool="token", use_abs_pos_emb=False)
