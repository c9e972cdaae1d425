"""Files of weights as the authors of methods released them: names and containers, random numbers.

DeiT-style supervised training, MoCo v3, BEiT, MAE and DINO, of every size that `timm` has a model for. What else a
released file holds (optimiser, settings) is left out, but for its place. `write_stand_ins` writes those of the mini
models.
"""

import io
import zlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

import backbones.vit_sizes  # noqa: F401  (registers the mini models in timm)
from backbones.errors import InputError, not_written
from backbones.mae.model import create_mae
from backbones.mae.positions import sincos_position_embedding
from backbones.training.writing import written_whole
from benchmarks.mini.files import write_text

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


def moco_v3(model: nn.Module, hidden: int = 4096, projected: int = 256) -> dict[str, object]:
    """facebookresearch/moco-v3, main_moco.py and moco/builder.py: both encoders with projectors, the predictor.

    hidden and projected are widths of those.
    """
    state = _randomised(model)
    rows, columns = _grid(model)
    width = state["norm.weight"].numel()
    state["pos_embed"] = sincos_position_embedding((rows, columns), width, rows_first=True)
    encoder = state | _layers("head", [width, hidden, hidden, projected])
    momentum = {name: tensor.clone() for name, tensor in encoder.items()}
    predictor = _layers("predictor", [projected, hidden, projected])
    named = {"base_encoder.": encoder, "momentum_encoder.": momentum, "": predictor}
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


def beit(model: nn.Module, visual_tokens: int = 8192) -> dict[str, object]:
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
    classifier = _drawn(lm_head__weight=(visual_tokens, width), lm_head__bias=(visual_tokens,))
    beside = _drawn(mask_token=(1, 1, width)) | classifier
    kept = {name: tensor for name, tensor in state.items() if name not in tables}
    return {"model": kept | shared | index | beside}


def mae(model: nn.Module) -> dict[str, object]:
    """facebookresearch/mae, models_mae.py: encoder and decoder, as in mae_pretrain_vit_base_full.pth."""
    return {"model": _randomised(model)}


def dino(model: nn.Module) -> dict[str, object]:
    """facebookresearch/dino, README.md, "backbone only": the teacher's encoder, bare."""
    return {**_randomised(model)}


def in_timm(pack: Callable[[nn.Module], dict[str, object]], name: str) -> dict[str, object]:
    """What `pack` makes of timm's model of that name."""
    return pack(timm.create_model(name, num_classes=0, global_pool="token"))


def autoencoder(name: str) -> dict[str, object]:
    """MAE's file of one of `list_mae_models()`."""
    return mae(create_mae(name))


_MOCO = partial(moco_v3, hidden=64, projected=16)
_BEIT = partial(beit, visual_tokens=256)

_BOTH = ("base", "large")

STAND_INS: dict[str, Callable[[], dict[str, object]]] = {
    **{f"supervised_vit_mini_{size}": partial(in_timm, deit, f"vit_mini_{size}_patch8_48") for size in _BOTH},
    **{f"mocov3_vit_mini_{size}": partial(in_timm, _MOCO, f"vit_mini_{size}_patch8_48") for size in _BOTH},
    **{f"beit_vit_mini_{size}": partial(in_timm, _BEIT, f"beit_mini_{size}_patch8_48") for size in _BOTH},
    **{f"dino_vit_mini_{size}": partial(in_timm, dino, f"vit_mini_{size}_patch8_48") for size in _BOTH},
    **{f"mae_vit_mini_{size}": partial(autoencoder, f"mae_vit_mini_{size}_patch8") for size in _BOTH},
    "mae_vit_mini_huge": partial(autoencoder, "mae_vit_mini_huge_patch6"),
}
"""By mini backbone: what makes the content of its file."""

VERSION = 1
"""Raised whenever the same seed would give other numbers."""

README = """\
Stand-ins for pre-trained weights: random numbers in the files of the methods' authors, for the mini models. Nothing was
trained for them: what comes of fine-tuning them shows that everything works, and says nothing of any method.

Version {version}, seed {seed}.
"""


def stand_in_files(folder: Path) -> dict[str, Path]:
    """By mini backbone, where `write_stand_ins` puts its weights in a folder."""
    return {name: folder / f"{name}.pth" for name in STAND_INS}


def write_stand_ins(folder: Path, seed: int) -> int:
    """Write a file of random weights for every mini backbone, and return how many of them were missing.

    The same seed gives the same bytes on one machine, and leaves torch's own random numbers as they are. A call that
    was cut short is completed by the next, and what is complete is left as it is. Raises InputError if the folder
    holds those of another seed or version, and if it cannot be written.
    """
    readme = README.format(version=VERSION, seed=seed)
    try:
        marker = folder / "README.txt"
        if marker.exists() and marker.read_text() != readme:
            raise InputError(
                f"{marker}: not that of random weights of version {VERSION} and seed {seed}. Choose a new folder, or "
                "delete this one."
            )
        write_text(marker, readme)
        missing = {name: path for name, path in stand_in_files(folder).items() if not path.exists()}
        for name, path in missing.items():
            with written_whole(path, several_writers=False, safe_from_power_cuts=False) as file:
                file.write(_content(name, seed))
        return len(missing)
    except OSError as error:
        message = f"{folder}: cannot write the random weights: {error.strerror or error}."
        raise not_written(message, error.errno) from error


def _content(name: str, seed: int) -> bytes:
    """The bytes of a backbone's file."""
    buffer = io.BytesIO()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{name} {seed}".encode()))
        torch.save(STAND_INS[name](), buffer)
    return buffer.getvalue()
