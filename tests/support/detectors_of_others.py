"""Detectors as others build, save and evaluate them: detectron2's ViTDet, and MIMDet's ViT with FPN restated.

Both scaled down, with numbers as if they had learnt something, on a few images of odd sizes in COCO's format.
"""

import json
import math
import pickle
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import ROIMasks
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZE, PATCH, WIDTH, DEPTH, HEADS, PROPOSALS = 96, 16, 32, 8, 2, 30
GRID = SIZE // PATCH
CATEGORIES = ("disc", "bar", "ring")
SHAPES = ((61, 117), (131, 90), (96, 95))
"""Heights and widths of the images."""


def small_vit(image_size: int | None = None, drop_path: float = 0.0) -> VisionTransformer:
    """The trunk, as a backbone of a function's name."""
    return VisionTransformer(
        img_size=64,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        drop_path_rate=drop_path,
    )


CONFIGS = Path(detectron2.__file__).parent / "model_zoo/configs/common/models"
BACKBONE = f"{__name__}:small_vit"
SETTINGS = (f"model.proposals={PROPOSALS}", "runtime.workers=0", "runtime.log_every=1", "precision=fp32")
"""What of a recipe has to be set for the scale of these, and what does not matter."""


def odd_images(root: Path, suffix: str = "png") -> Path:
    """Pictures of noise at several scales, each with two objects, in COCO's format; the same for both splits."""
    generator = np.random.default_rng(0)
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 2 * index + 1, "name": name} for index, name in enumerate(CATEGORIES)]
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir(parents=True)
    for number, (height, width) in enumerate(SHAPES, 1):
        coarse = generator.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        for split in ("train", "val"):
            picture.save(root / f"{split}2017/{number:03d}.{suffix}")
        content["images"].append(
            {"id": number, "file_name": f"{number:03d}.{suffix}", "height": height, "width": width}
        )
        for nth in range(2):
            left, top, side = 10 + 30 * nth, 8 + 10 * nth, 20 + 9 * nth
            corners = [left, top, left + side, top, left + side, top + side, left, top + side]
            identity = len(content["annotations"]) + 1
            about = {"id": identity, "image_id": number, "category_id": 2 * nth + 1, "iscrowd": 0, "area": side * side}
            content["annotations"].append(about | {"bbox": [left, top, side, side], "segmentation": [corners]})
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        (root / f"annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


def learnt(model: nn.Module, spread: float = 0.1) -> Any:
    """Moved away from what it was initialised with, running statistics included."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand(buffer.shape, generator=generator), alpha=0.3)
    return model.eval()


def configuration() -> Any:
    """detectron2's configuration of ViTDet, scaled down."""
    config = LazyConfig.load(str(CONFIGS / "mask_rcnn_vitdet.py")).model
    config.backbone.square_pad = SIZE
    config.backbone.net.update(
        img_size=SIZE,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        drop_path_rate=0.0,
        window_size=4,
        window_block_indexes=[0, 2, 4, 6],
        pretrain_img_size=80,  # of another grid than the trunk, as ViT-H's
    )
    config.backbone.out_channels = config.proposal_generator.head.in_channels = 16
    config.roi_heads.num_classes = len(CATEGORIES)
    config.proposal_generator.pre_nms_topk = (2 * PROPOSALS, PROPOSALS)
    config.proposal_generator.post_nms_topk = (PROPOSALS,) * 2
    heads = config.roi_heads
    heads.box_head.input_shape.channels = heads.mask_head.input_shape.channels = 16
    heads.box_head.conv_dims, heads.box_head.fc_dims, heads.mask_head.conv_dims = [16] * 4, [32], [16] * 5
    heads.box_predictor.input_shape.channels = 32
    return config


def vitdet() -> GeneralizedRCNN:
    """detectron2's own."""
    torch.manual_seed(4)
    return learnt(instantiate(configuration()))


def save_pth(model: nn.Module, folder: Path) -> Path:
    """As detectron2's training leaves it."""
    optimizer = torch.optim.AdamW(model.parameters())
    DetectionCheckpointer(model, str(folder), optimizer=optimizer).save("model_final", iteration=9)
    return folder / "model_final.pth"


def save_pkl(model: nn.Module, folder: Path, name: str = "model_final.pkl") -> Path:
    """As detectron2's model zoo publishes it."""
    arrays = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    (folder / name).write_bytes(pickle.dumps({"model": arrays, "__author__": "ViTDet", "matching_heuristics": False}))
    return folder / name


def found_by_detectron2(model: nn.Module, root: Path, sides: tuple[int, int] = (SIZE, SIZE)) -> list[dict[str, Any]]:
    """What detectron2's evaluation finds: its mapper of a test configuration, its model, its results in COCO's format.

    `model` takes detectron2's inputs, images with such a longest and a shorter side; category ids are the data set's.
    """
    content = json.loads((root / "annotations/instances_val2017.json").read_text())
    augmentations = [T.ResizeShortestEdge(short_edge_length=sides[1], max_size=sides[0])]
    if isinstance(model, Mimdet):
        augmentations.append(T.FixedSizeCrop((SIZE, SIZE)))
    mapper = DatasetMapper(is_train=False, augmentations=augmentations, image_format="RGB")
    found: list[dict[str, Any]] = []
    for image in content["images"]:
        entry = {"file_name": str(root / "val2017" / image["file_name"]), "image_id": image["id"]}
        with torch.no_grad():
            (output,) = model([mapper(entry | {"height": image["height"], "width": image["width"]})])
        found += instances_to_coco_json(output["instances"], image["id"])
    return [each | {"category_id": content["categories"][each["category_id"]]["id"]} for each in found]


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + bias).softmax(3)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, WIDTH))


class _Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn, self.mlp = _Attention(), _Perceptron()

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), bias)
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class _Positions(nn.Module):
    """A bias for each pair of places in a square, by how far they are apart in rows and in columns."""

    relative_position_index: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, HEADS))
        rows, columns = (each.flatten() for each in torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij"))
        apart = [each[:, None] - each[None, :] + side - 1 for each in (rows, columns)]
        self.register_buffer("relative_position_index", apart[0] * (2 * side - 1) + apart[1])

    def forward(self) -> Tensor:
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class _MimdetTrunk(Backbone):
    """What MIMDet's models/benchmarking.py computes: windows, but for the last block of each quarter, and four maps."""

    window = 3

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.pos_embed = nn.Parameter(torch.randn(1, GRID * GRID, WIDTH))
        self.blocks = nn.Sequential(*(_Block() for _ in range(DEPTH)))
        self.windowed_rel_pos_bias, self.global_rel_pos_bias = _Positions(self.window), _Positions(GRID)
        up = [nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2) for _ in range(3)]
        self.ms_adaptor = nn.ModuleList(
            [nn.Sequential(up[0], nn.GroupNorm(32, WIDTH), nn.GELU(), up[1]), up[2], nn.Identity(), nn.MaxPool2d(2)]
        )
        self._out_features = ["s0", "s1", "s2", "s3"]
        self._out_feature_channels = dict.fromkeys(self._out_features, WIDTH)
        self._out_feature_strides = dict(zip(self._out_features, (4, 8, 16, 32), strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2) + self.pos_embed
        maps = {}
        for index, block in enumerate(self.blocks):
            if (index + 1) % (DEPTH // 4):
                x = self._joined(block(self._windows(x), self.windowed_rel_pos_bias()))
                continue
            x = block(x, self.global_rel_pos_bias())
            level = index // (DEPTH // 4)
            maps[f"s{level}"] = self.ms_adaptor[level](x.transpose(1, 2).unflatten(2, (GRID, GRID)))
        return maps

    def _windows(self, x: Tensor) -> Tensor:
        across = GRID // self.window
        cut = x.view(-1, across, self.window, across, self.window, WIDTH)
        return cut.transpose(2, 3).reshape(-1, self.window**2, WIDTH)

    def _joined(self, x: Tensor) -> Tensor:
        across = GRID // self.window
        return x.view(-1, across, across, self.window, self.window, WIDTH).transpose(2, 3).reshape(-1, GRID**2, WIDTH)


class Mimdet(GeneralizedRCNN):
    """Mask R-CNN whose images fill the whole square, and whose boxes grow by one scale to the original's size."""

    def inference(self, batched_inputs: Any, *_: Any, **__: Any) -> Any:
        found = super().inference(batched_inputs, do_postprocess=False)
        outputs = []
        for inputs, instances in zip(batched_inputs, found, strict=True):
            height, width = inputs["height"], inputs["width"]
            instances.pred_boxes.scale(max(height, width) / SIZE, max(height, width) / SIZE)
            instances._image_size = (height, width)
            instances.pred_boxes.clip((height, width))
            instances = instances[instances.pred_boxes.nonempty()]
            masks = ROIMasks(instances.pred_masks[:, 0])
            instances.pred_masks = masks.to_bitmasks(instances.pred_boxes, height, width, 0.5).tensor
            outputs.append({"instances": instances})
        return outputs


def mimdet() -> Mimdet:
    """The restated trunk in detectron2's parts, as MIMDet's configuration has them."""
    torch.manual_seed(6)
    config = configuration()
    config.roi_heads.box_head.conv_norm = config.roi_heads.mask_head.conv_norm = "BN"
    trunk = _MimdetTrunk()
    backbone = FPN(trunk, trunk._out_features, 16, norm="BN", top_block=LastLevelMaxPool())
    parts = {"proposal_generator": instantiate(config.proposal_generator), "roi_heads": instantiate(config.roi_heads)}
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    model = Mimdet(backbone=backbone, pixel_mean=mean, pixel_std=std, input_format="RGB", **parts)
    return learnt(model, 0.05)
