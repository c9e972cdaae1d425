"""Files of weights as the authors of MAE's four methods released them: names and containers, random numbers.

DeiT-style supervised training, MoCo v3, BEiT and MAE, of every size that `timm` has a model for. What else a released
file holds (optimiser, settings) is left out, but for its place.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn

from backbones.mae.model import create_mae
from backbones.mae.positions import sincos_position_embedding
from backbones.registry import find_backbone

State = dict[str, Tensor]


def _drawn(**shapes: tuple[int, ...]) -> State:
    """Small random tensors by name; "__" stands for a dot."""
    return {name.replace("__", "."): 0.02 * torch.randn(shape) for name, shape in shapes.items()}


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def _randomised(model: nn.Module) -> State:
    """The model's state, each learned tensor moved a little: what timm begins with is zero or one in places."""
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return {name: x + 0.02 * torch.randn_like(x) if name in learned else x for name, x in state.items()}


def _grid(model: nn.Module) -> tuple[int, int]:
    """Rows and columns of its patches."""
    patches: Any = model.patch_embed
    return patches.grid_size


def deit(model: nn.Module) -> dict[str, object]:
    """facebookresearch/deit, main.py: the whole classifier under "model"."""
    state = _randomised(model)
    width = state["norm.weight"].numel()
    return {"model": state | _drawn(head__weight=(1000, width), head__bias=(1000,))}


def moco_v3(model: nn.Module) -> dict[str, object]:
    """facebookresearch/moco-v3, main_moco.py and moco/builder.py: both encoders with projectors, the predictor."""
    state = _randomised(model)
    rows, columns = _grid(model)
    width = state["norm.weight"].numel()
    state["pos_embed"] = sincos_position_embedding((rows, columns), width, rows_first=True)
    encoder = state | _layers("head", [width, 4096, 4096, 256])
    momentum = {name: tensor.clone() for name, tensor in encoder.items()}
    named = {"base_encoder.": encoder, "momentum_encoder.": momentum, "": _layers("predictor", [256, 4096, 256])}
    everything = {name: x for prefix, part in named.items() for name, x in _prefixed(f"module.{prefix}", part).items()}
    return {"epoch": 300, "state_dict": everything, "optimizer": {}}


def _layers(name: str, widths: list[int]) -> State:
    """Linear layers without biases, batch norms and ReLUs in turn; the last norm learns nothing."""
    state: State = {}
    pairs = list(pairwise(widths))
    for number, (before, after) in enumerate(pairs):
        norm = nn.BatchNorm1d(after, affine=number + 1 < len(pairs))
        state |= _drawn(**{f"{name}__{3 * number}__weight": (after, before)})
        state |= _prefixed(f"{name}.{3 * number + 1}.", norm.state_dict())
    return state


def beit(model: nn.Module) -> dict[str, object]:
    """microsoft/unilm, beit/modeling_pretrain.py: one table of biases for all blocks, mask token, token classifier.

    The file of ImageNet-1K has absolute position embeddings in the table's place.
    """
    state = _randomised(model)
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    rows, columns = _grid(model)
    length, width = rows * columns + 1, state["norm.weight"].numel()
    shared, index = {}, {}
    if tables:
        shared = {f"rel_pos_bias.{tables[0].rpartition('.')[2]}": state[tables[0]]}
        index = {"rel_pos_bias.relative_position_index": torch.zeros(length, length, dtype=torch.long)}
    beside = _drawn(mask_token=(1, 1, width), lm_head__weight=(8192, width), lm_head__bias=(8192,))
    kept = {name: tensor for name, tensor in state.items() if name not in tables}
    return {"model": kept | shared | index | beside}


def mae(model: nn.Module) -> dict[str, object]:
    """facebookresearch/mae, models_mae.py: encoder and decoder, as in mae_pretrain_vit_base_full.pth."""
    return {"model": _randomised(model)}


def _timms(pack: Callable[[nn.Module], dict[str, object]], name: str) -> dict[str, object]:
    return pack(timm.create_model(name, num_classes=0, global_pool="token"))


def _registered(pack: Callable[[nn.Module], dict[str, object]], name: str) -> dict[str, object]:
    return pack(find_backbone(name, with_checkpoint=True).build(None, 0.0))


def _autoencoder(name: str) -> dict[str, object]:
    return mae(create_mae(name))


WRITERS: dict[str, Callable[[], dict[str, object]]] = {
    **{f"supervised_vit_{size}": partial(_timms, deit, f"vit_{size}_patch16_224") for size in ("base", "large")},
    **{f"mocov3_vit_{size}": partial(_timms, moco_v3, f"vit_{size}_patch16_224") for size in ("base", "large")},
    **{f"beit_vit_{size}": partial(_timms, beit, f"beit_{size}_patch16_224") for size in ("base", "large")},
    "beit_vit_base_in1k": partial(_registered, beit, "beit_vit_base_in1k"),
    **{f"mae_vit_{size}": partial(_autoencoder, f"mae_vit_{size}_patch16") for size in ("base", "large")},
    "mae_vit_huge": partial(_autoencoder, "mae_vit_huge_patch14"),
}
"""By backbone: what makes the content of its file."""
