"""What a file of weights seems to be, from the names and shapes in it: for error messages and `backbench inspect`."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.code_bases.huggingface import named_as_dinov3
from backbones.weights.code_bases.timm_readers import is_openais, read_as_vit
from backbones.weights.code_bases.torchvision import in_a_row, named_by_torchvision
from backbones.weights.conversion import Weights
from backbones.weights.methods import ANY_NAMING
from backbones.weights.positions import Positions, kind_of_positions, may_have_grid

# (width, depth) of the sizes that have a name in timm.
_VIT_SIZES = {
    (128, 4): "mini",
    (48, 4): "mini_base",
    (64, 8): "mini_large",
    (96, 8): "mini_huge",
    (192, 12): "tiny",
    (384, 12): "small",
    (768, 12): "base",
    (1024, 24): "large",
    (1280, 32): "huge",
    (1408, 40): "giant",
    (1536, 40): "giant",
}
# Widths of the first stage and blocks of all stages together.
_STAGED = {
    "Swin": {(96, 12): "tiny", (96, 24): "small", (128, 24): "base", (192, 24): "large"},
    "ConvNeXt": {(96, 18): "tiny", (96, 36): "small", (128, 36): "base", (192, 36): "large", (256, 36): "xlarge"},
    "Hiera": {
        (96, 12): "tiny",
        (96, 16): "small",
        (96, 24): "base",
        (112, 24): "base_plus",
        (144, 48): "large",
        (256, 48): "huge",
    },
}
_STAGED_NAMES = {"Swin": "swin_{}_patch4_window7_224", "ConvNeXt": "convnext_{}", "Hiera": "hiera_{}_224"}
# What timm calls ViTs that differ from the plain one in more than their size.
_VARIANTS = {
    "": "vit_{size}_patch{patch}_{side}",
    "clip": "vit_{size}_patch{patch}_clip_224",
    "clip_quickgelu": "vit_{size}_patch{patch}_clip_quickgelu_224",
    "dinov2": "vit_{size}_patch{patch}_dinov2",
    "reg4_dinov2": "vit_{size}_patch{patch}_reg4_dinov2",
    "dinov3": "vit_{size}_patch{patch}_dinov3",
    "aimv2": "aimv2_{size}_patch{patch}_224",
    "siglip": "vit_{size}_patch{patch}_siglip_224",
    "gap": "vit_{size}_patch{patch}_gap_{side}",
    "deit3": "deit3_{size}_patch{patch}_224",
    "beit": "beit_{size}_patch{patch}_{side}",
    "beitv2": "beitv2_{size}_patch{patch}_224",
}
# Blocks in each of the four stages, and whether they are bottlenecks.
_RESNETS: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2, False): "ResNet-18",
    (3, 4, 6, 3, False): "ResNet-34",
    (3, 4, 6, 3, True): "ResNet-50",
    (3, 4, 23, 3, True): "ResNet-101",
    (3, 8, 36, 3, True): "ResNet-152",
}

_NOT_CLIPS = r"(?:^|[ .])logit_bias(?: |$)|visual\.trunk\.blocks\.0\.attn\.q_(?:bias|proj)"
"""Names in open_clip's files of other methods: SigLIP's bias of its loss, and the attention of EVA-CLIP."""

_POSITIONS: dict[Positions, str] = {
    "column first": "fixed as MAE's",
    "row first": "fixed as MoCo v3's",
    "learned": "learned",
}


@dataclass(frozen=True)
class Recognised:
    """A guess at a checkpoint's origin and architecture; what could not be told is None.

    method:      as in METHODS, where the names give it away ("MAE": it has a decoder); a bare encoder does not
    naming:      the code base whose names it uses
    family:      "ViT", "BEiT", "ResNet-50", "Swin", "ConvNeXt V2", "Hiera"
    variant:     in what a ViT or BEiT differs from the plain one, in timm's words: "reg4_dinov2", "clip", "gap"
    width, depth: of a ViT, or of the first stage and summed over the stages
    patch:       side in pixels
    grid:        rows and columns of patches, as the file says, else from the position embeddings if it may be square
    positions:   what kind of position embeddings it has, if a ViT
    has_decoder: whether MAE's decoder is there
    classes:     outputs of its classification head
    fine_tuned:  whether it has the norm after pooling that fine-tuning puts in place of the encoder's own
    """

    method: str | None = None
    naming: str = ""
    family: str | None = None
    variant: str = ""
    width: int | None = None
    depth: int | None = None
    patch: int | None = None
    grid: tuple[int, int] | None = None
    positions: Positions | None = None
    has_decoder: bool = False
    classes: int | None = None
    fine_tuned: bool = False

    @property
    def likely_method(self) -> str | None:
        """The method by names or, of a bare encoder, by its position embeddings; mmpretrain's MAE has MoCo v3's.

        Without a class token the fixed ones are I-JEPA's, which are computed as MAE's.
        """
        if self.variant == "gap" and self.method is None:
            return "I-JEPA" if self.positions == "column first" else None
        fixed = {"column first": "MAE", "row first": None if self.naming == "mmpretrain" else "MoCo v3"}
        return self.method or fixed.get(self.positions or "")

    @property
    def image_size(self) -> int | None:
        """Side in pixels that the position embeddings were made for, of a square image."""
        square = self.grid and self.grid[0] == self.grid[1]
        return self.grid[0] * self.patch if self.grid and square and self.patch else None

    @property
    def timm_name(self) -> str | None:
        """The timm model of this size, where the size has a name; the image size is that of timm's own files."""
        if self.family is not None and self.family.startswith("ResNet-"):
            return self.family.lower().replace("-", "")
        if self.family in _STAGED_NAMES:
            size = _STAGED[self.family].get((self.width or 0, self.depth or 0))
            return _STAGED_NAMES[self.family].format(size) if size else None
        if self.size is None:
            return None
        variant = self.variant or ("beit" if self.family == "BEiT" else "")
        side = 48 if self.size.startswith("mini") else 224
        return _VARIANTS[variant].format(size=self.size, patch=self.patch, side=side)

    @property
    def size(self) -> str | None:
        """What a ViT or BEiT of this width and depth is called: "base"."""
        return _VIT_SIZES.get((self.width or 0, self.depth or 0)) if self.family in {"ViT", "BEiT"} else None

    def __str__(self) -> str:
        if self.family is None:
            return "no architecture known here"
        parts = (
            f"{self.family}-{self.size}" if self.size else self.family,
            f"as timm's {self.timm_name}" if self.variant and self.size and not self.size.startswith("mini") else "",
            f"width {self.width}" if self.width else "",
            f"{self.depth} blocks" if self.depth else "",
            f"patch {self.patch}" if self.patch else "",
            f"{self.grid[0]}×{self.grid[1]} grid" if self.grid else "",
            f"positions {_POSITIONS[self.positions]}" if self.positions else "",
            "with a decoder" if self.has_decoder else "",
            f"a head for {self.classes} classes" if self.classes else "",
            f"named as by {self.naming}" if self.naming else "",
        )
        return ", ".join(filter(None, parts))


def recognise(state_dict: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> Recognised:
    """Guess what a state_dict is, by any of the namings that are read here. Never raises for odd contents.

    grid: rows and columns of patches, if the file says so
    """
    names = " ".join(state_dict)
    naming, method = _origin(names)
    weights = Weights.from_file(state_dict)
    nothing = nn.Identity()
    for step in ANY_NAMING:
        try:
            step(weights, nothing)
        except (InputError, LookupError, ValueError, RuntimeError):
            continue
    if "blocks.0.attn.q_bias" not in weights.tensors:
        with suppress(InputError):
            read_as_vit(weights, nothing)
    found = _architecture(weights.tensors, grid)
    variant = _variant(state_dict, weights.tensors) if found.family in {"ViT", "BEiT"} else ""
    predictor = state_dict.get("lm_head.weight")
    if method == "BEiT" and predictor is not None and tuple(predictor.shape) == (found.width, found.width):
        method = "data2vec"  # it predicts features, and BEiT visual tokens
    return replace(
        found,
        method=method or ("DINOv2" if "dinov2" in variant else None),
        naming=naming,
        variant=variant,
        has_decoder="decoder_embed" in names,
        fine_tuned="fc_norm." in names,
        classes=_classes(state_dict),
    )


def _variant(file: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Tell in what a ViT differs from the plain one: by what the file holds, and by its tensors in timm's names."""
    if "norm_pre.weight" in tensors:
        return "clip_quickgelu" if is_openais(file) else "clip"
    if any("cls_pt_layers." in name for name in file):
        return "beitv2"
    if "attn_pool.latent" in tensors:
        return "siglip"
    if "patch_embed.norm.weight" in tensors:
        return "aimv2"
    if _is_dinov3(tensors):
        return "dinov3"
    scaled = "blocks.0.ls1.gamma" in tensors
    if scaled and (registers := tensors.get("reg_token")) is not None:
        return "reg4_dinov2" if registers.shape[1] == 4 else ""
    if scaled and any(name.endswith("mask_token") and tensor.ndim == 2 for name, tensor in file.items()):
        return "dinov2"
    position = tensors.get("pos_embed")
    if position is None or not _square_root(position.shape[1]):
        return ""
    if "cls_token" not in tensors:
        return "gap"
    return "deit3" if scaled else ""


def _is_dinov3(tensors: Mapping[str, Tensor]) -> bool:
    """Whether it has DINOv3's four register tokens, and positions by rotation alone."""
    registers = tensors.get("reg_token")
    has_registers = registers is not None and registers.shape[1] == 4
    return has_registers and "cls_token" in tensors and "pos_embed" not in tensors


def _origin(names: str) -> tuple[str, str | None]:
    """Tell the code base and, where it follows, the method from all names joined."""
    if "base_encoder." in names:
        return "facebookresearch/moco-v3", "MoCo v3"
    method = "MAE" if "decoder_embed" in names else None
    if "masked_embed" in names:
        method = "iBOT"
    if re.search(r"(?:^| )encoder\.mask_token", names) and "decoder.0." in names:
        return "microsoft/SimMIM", "SimMIM"
    if "lm_head." in names or ("relative_position_bias_table" in names and ("q_bias" in names or "beit." in names)):
        method = "BEiT v2" if "cls_pt_layers." in names else "BEiT"
    if "data2vec_vision." in names:
        return "transformers", "data2vec"
    if "patch_embeddings.projection" in names:
        return "transformers", method
    if named_as_dinov3(names.split()):
        return "transformers", None
    if "register_tokens" in names:
        return "facebookresearch/dinov2", "DINOv2"
    if "embeddings.class_embedding" in names:
        return "transformers", "CLIP"
    if "embeddings.patch_embedding.weight" in names or "embeddings.patch_embed.weight" in names:
        return "transformers", None
    if "visual.class_embedding" in names or "visual.trunk." in names:
        return "open_clip", None if re.search(_NOT_CLIPS, names) else "CLIP"
    if "Transformer/encoderblock_0/" in names:
        return "google-research/vision_transformer", method
    if named_by_torchvision(names.split()):
        return "torchvision", method
    if in_a_row(re.sub(r"^(?:[a-z_]+\.)+", "", name) for name in names.split()):
        return "the places of its modules in a row", method
    if ".ffn.layers.0.0." in names:
        return "mmpretrain", method
    if "head.last_layer" in names:
        return "facebookresearch/dino", "DINO"
    return "timm" if "blocks.0.attn.qkv" in names else "", method


def _architecture(tensors: Mapping[str, Tensor], grid: tuple[int, int] | None) -> Recognised:
    """Find family, width, depth, patch and grid among timm's names."""
    if any(re.fullmatch(r"blocks\.\d+\.proj\.weight", name) for name in tensors):
        width, depth = tensors["blocks.0.attn.proj.weight"].shape[0], _count(r"blocks\.(\d+)\.", tensors)
        return Recognised(family="Hiera", width=width, depth=depth)
    if "blocks.0.attn.qkv.weight" in tensors and "patch_embed.proj.weight" in tensors:
        return _vit(tensors, grid)
    if "layer1.0.conv1.weight" in tensors:
        blocks = [_count(rf"layer{stage}\.(\d+)\.", tensors) for stage in range(1, 5)]
        known = _RESNETS.get((*blocks, "layer1.0.conv3.weight" in tensors), "ResNet")
        return Recognised(family=known, depth=sum(blocks))
    if "layers.0.blocks.0.attn.qkv.weight" in tensors:
        depth = sum(_count(rf"layers\.{stage}\.blocks\.(\d+)\.", tensors) for stage in range(4))
        family = "Swin V2" if "layers.0.blocks.0.attn.logit_scale" in tensors else "Swin"
        return Recognised(family=family, width=tensors["layers.0.blocks.0.attn.qkv.weight"].shape[1], depth=depth)
    for kernel in ("stages.0.blocks.0.conv_dw.weight", "stages.0.0.dwconv.weight"):
        if kernel in tensors:
            depth = sum(_count(rf"stages\.{stage}\.(?:blocks\.)?(\d+)\.", tensors) for stage in range(4))
            family = "ConvNeXt V2" if any(".grn." in name for name in tensors) else "ConvNeXt"
            return Recognised(family=family, width=tensors[kernel].shape[0], depth=depth)
    return Recognised()


def _vit(tensors: Mapping[str, Tensor], grid: tuple[int, int] | None) -> Recognised:
    projection = tensors["patch_embed.proj.weight"]
    position = tensors.get("pos_embed")
    table = tensors.get("blocks.0.attn.relative_position_bias_table")
    side, positions = None, None
    if position is not None and position.ndim == 3:
        side = _square_root(position.shape[1] - 1) or _square_root(position.shape[1])
        side = side if side and may_have_grid(position, (side, side)) else None
    elif table is not None and (offsets := _square_root(table.shape[0] - 3)):
        side = (offsets + 1) // 2  # BEiT: (2 grid - 1)² offsets and three for the class token
    grid = grid or ((side, side) if side else None)
    if position is not None and grid:
        positions = kind_of_positions(position, grid)
    return Recognised(
        family="ViT" if _is_dinov3(tensors) or (table is None and "blocks.0.attn.q_bias" not in tensors) else "BEiT",
        width=projection.shape[0],
        depth=_count(r"blocks\.(\d+)\.", tensors),
        patch=projection.shape[-1] if projection.ndim == 4 else None,
        grid=grid,
        positions=positions,
    )


def _count(pattern: str, tensors: Mapping[str, Tensor]) -> int:
    """Count the different numbers that a pattern finds at the beginning of the names."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _square_root(number: int) -> int | None:
    root = round(max(number, 0) ** 0.5)
    return root if root > 0 and root * root == number else None


def _classes(state_dict: Mapping[str, Tensor]) -> int | None:
    """Find the outputs of a classification head: one linear layer with a bias, right at the end of the names."""
    for name, tensor in state_dict.items():
        if re.search(r"(?:^|\.)(?:head|head\.fc|fc|classifier)\.weight$", name) and tensor.ndim == 2:
            return tensor.shape[0]
    return None
