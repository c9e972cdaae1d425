"""Files as the authors of methods release them: names and containers of their code, small random weights."""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.support.checkpoint_examples import prefixed, renamed, save
from tests.support.restated import (
    HEADS,
    WIDTH,
    State,
    beit_shapes,
    clip_features,
    clip_shapes,
    random_state,
    swiglu,
    vit_features,
    vit_shapes,
)

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    name:  what a table calls it
    into:  the small architecture of timm's that it belongs to (tests/support/small_architectures.py)
    write: makes one in a folder; returns it with what computes its own features from images
    """

    name: str
    into: str
    write: Callable[[Path], tuple[Path, Features]]


def _content(state: State, pack: Callable[[State], object], name: str) -> Callable[[Path], tuple[Path, Features]]:
    def write(folder: Path) -> tuple[Path, Features]:
        return save(pack(state), folder, name), partial(vit_features, state)

    return write


def _kind(name: str, into: str, state: State, pack: Callable[[State], object], file: str = "model.pth") -> Kind:
    return Kind(name, into, _content(state, pack, file))


def _draw(**shapes: tuple[int, ...]) -> State:
    """Tensors that lie beside the encoder; "__" in a name is a dot."""
    return random_state({name.replace("__", "."): shape for name, shape in shapes.items()}, seed=5)


_VIT = random_state(vit_shapes())
_OTHER = random_state(vit_shapes(), seed=1)
_WITHOUT_CLASS = random_state(vit_shapes(class_token=False))
_OTHER_WITHOUT_CLASS = random_state(vit_shapes(class_token=False), seed=1)
_HEAD = _draw(head__weight=(10, WIDTH), head__bias=(10,))
_DINO_HEAD = _draw(
    head__mlp__0__weight=(8, WIDTH), head__last_layer__weight_g=(8, 1), head__last_layer__weight_v=(8, 4)
)
_MASK = {"mask_token": torch.zeros(1, 1, WIDTH)}
_DECODER = _draw(
    decoder_embed__weight=(16, WIDTH), decoder_pos_embed=(1, 17, 16), decoder_blocks__0__norm1__weight=(16,)
)
_SETTINGS = argparse.Namespace(model="vit", epochs=np.int64(100))
_FINE_TUNED = renamed(_VIT, (r"^norm\.", "fc_norm."))
_DEIT3 = random_state(
    {**vit_shapes(scale="gamma_1"), "pos_embed": (1, vit_shapes(class_token=False)["pos_embed"][1], WIDTH)}
)
_DINOV2 = random_state(vit_shapes(scale="ls1.gamma"))
_REGISTERS = random_state(vit_shapes(scale="ls1.gamma", registers=4))
_GIANT = random_state(swiglu(vit_shapes(scale="ls1.gamma")))
_FLAT_MASK = {"mask_token": torch.zeros(1, WIDTH)}
_BEIT = random_state(beit_shapes(shared=True))
_BEIT_BLOCKS = random_state(beit_shapes(shared=False))
_BEIT_AVERAGED = {name: tensor for name, tensor in _BEIT_BLOCKS.items() if not name.startswith("norm.")}
_FC_NORM = _draw(fc_norm__weight=(WIDTH,), fc_norm__bias=(WIDTH,))
_INDEX = {"rel_pos_bias.relative_position_index": torch.zeros(17, 17, dtype=torch.long)}
_INDICES = {f"blocks.{i}.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.long) for i in range(2)}
_TOKENS_HEAD = _draw(lm_head__weight=(32, WIDTH), lm_head__bias=(32,))
_CLS_PT = {name: tensor for name, tensor in prefixed(_BEIT, "cls_pt_layers.").items() if "blocks." in name}
_CLS_PT = renamed(_CLS_PT, (r"cls_pt_layers\.blocks\.", "cls_pt_layers."))
_PIXELS = _draw(decoder__0__weight=(48, WIDTH, 1, 1), decoder__0__bias=(48,))


def _chunked(state: State) -> State:
    """DINOv2's training, which keeps its blocks in chunks of several."""
    return renamed(state, (r"^blocks\.(\d+)\.", r"blocks.0.\1."))


def _mmpretrain(state: State) -> State:
    rules = ((r"^fc_norm\.", "ln2."), (r"^norm\.", "ln1."), (r"\.norm([12])\.", r".ln\1."), (r"^blocks\.", "layers."))
    layers = ((r"mlp\.fc1", "ffn.layers.0.0"), (r"mlp\.fc2", "ffn.layers.1"), (r"embed\.proj", "embed.projection"))
    scales = ((r"ls1\.gamma", "attn.gamma1.weight"), (r"ls2\.gamma", "ffn.gamma2.weight"))
    return renamed(state, *rules, *layers, *scales)


def _moco(state: State) -> object:
    head = _draw(head__0__weight=(16, WIDTH), head__1__running_mean=(16,))
    return {
        "epoch": 300,
        "state_dict": prefixed(state | head, "module.base_encoder.")
        | prefixed(_OTHER | head, "module.momentum_encoder.")
        | {"module.predictor.0.weight": torch.zeros(16, 16)},
    }


def _dino(state: State) -> object:
    """Student and teacher of DINO's and iBOT's training."""
    student = _OTHER | {"masked_embed": torch.zeros(1, WIDTH)}
    return {
        "student": prefixed(student, "module.backbone.") | prefixed(_DINO_HEAD, "module."),
        "teacher": prefixed(state, "backbone.") | _DINO_HEAD,
        "epoch": 100,
        "args": _SETTINGS,
    }


def _without_norm(state: State) -> State:
    """What a model without a norm over tokens computes: its norm is behind the average."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(("norm.", "fc_norm."))}


def _averaged(name: str, into: str, state: State, pack: Callable[[State], object]) -> Kind:
    def write(folder: Path) -> tuple[Path, Features]:
        return save(pack(state), folder), partial(vit_features, _without_norm(state))

    return Kind(name, into, write)


PLAIN = (
    _kind("MAE, encoder", "vit", _VIT, lambda s: {"model": s}),
    _kind("MAE, with decoder", "vit", _VIT, lambda s: {"model": s | _MASK | _DECODER, "args": _SETTINGS}),
    _averaged("MAE, fine-tuned", "vit_with_fc_norm", _FINE_TUNED, lambda s: {"model": s | _HEAD}),
    _kind("MoCo v3", "vit", _VIT, _moco),
    _kind("DINO, backbone", "vit", _VIT, dict),
    _kind("DINO, training", "vit", _VIT, _dino),
    _kind("DeiT", "vit", _VIT, lambda s: {"model": s | _HEAD}),
    _kind("DeiT III", "deit3", _DEIT3, lambda s: {"model": s | _HEAD}),
    _kind("iBOT, teacher", "vit", _VIT, lambda s: {"state_dict": s}),
    _kind("iBOT, student", "vit", _VIT, lambda s: {"state_dict": s | {"masked_embed": torch.zeros(1, WIDTH)}}),
    _kind("iBOT, training", "vit", _VIT, _dino),
    _kind(
        "MSN",
        "vit",
        _VIT,
        lambda s: {
            "encoder": prefixed(_OTHER, "module."),
            "target_encoder": prefixed(s | _draw(fc__fc1__weight=(16, WIDTH), fc__bn1__running_mean=(16,)), "module."),
            "prototypes": torch.zeros(8, 16),
        },
        "vit.pth.tar",
    ),
    _kind(
        "I-JEPA",
        "vit_without_class_token",
        _WITHOUT_CLASS,
        lambda s: {
            "encoder": prefixed(_OTHER_WITHOUT_CLASS, "module."),
            "predictor": {"module.predictor_embed.weight": torch.zeros(8, WIDTH)},
            "target_encoder": prefixed(s, "module."),
        },
        "vit.pth.tar",
    ),
    _kind("DINOv2", "dinov2", _DINOV2, lambda s: s | _FLAT_MASK),
    _kind("DINOv2, registers", "dinov2_registers", _REGISTERS, lambda s: s | _FLAT_MASK),
    _kind("DINOv2, ViT-g", "dinov2_giant", _GIANT, lambda s: s | _FLAT_MASK),
    _kind(
        "DINOv2, training",
        "dinov2",
        _DINOV2,
        lambda s: {
            "teacher": prefixed(_chunked(s) | _FLAT_MASK, "backbone.")
            | {"dino_head.mlp.0.weight": torch.zeros(8, WIDTH)}
        },
    ),
)

_BEIT_V2 = _BEIT | _INDEX | _MASK | _TOKENS_HEAD | _CLS_PT
BEIT_LIKE = (
    _kind("BEiT, pre-trained", "beit", _BEIT, lambda s: {"model": s | _INDEX | _MASK | _TOKENS_HEAD}),
    _averaged(
        "BEiT, fine-tuned", "beit_averaged", _BEIT_AVERAGED, lambda s: {"model": s | _INDICES | _FC_NORM | _HEAD}
    ),
    _kind("BEiT v2, pre-trained", "beit", _BEIT, lambda s: {"model": _BEIT_V2 | s}),
    _kind(
        "BEiT v2, pre-trained, own head",
        "beit",
        _BEIT,
        lambda s: {"model": _BEIT_V2 | s | _draw(cls_pt_norm__weight=(WIDTH,), cls_pt_lm_head__weight=(32, WIDTH))},
    ),
    _kind(
        "data2vec, pre-trained",
        "beit",
        _BEIT,
        lambda s: {
            "model": s | _INDEX | _MASK | _draw(lm_head__weight=(WIDTH, WIDTH), lm_head__bias=(WIDTH,)),
            "args": _SETTINGS,
        },
    ),
    _averaged(
        "data2vec, fine-tuned", "beit_averaged", _BEIT_AVERAGED, lambda s: {"model": s | _INDICES | _FC_NORM | _HEAD}
    ),
    _kind("SimMIM ViT", "beit", _BEIT, lambda s: {"model": prefixed(s | _INDEX | _MASK, "encoder.") | _PIXELS}),
    _averaged(
        "SimMIM ViT, fine-tuned",
        "beit_averaged",
        _without_norm(_BEIT),
        lambda s: {"model": s | _INDEX | _FC_NORM | _HEAD},
    ),
)

OPENMMLAB = (
    _kind(
        "mmpretrain, MAE",
        "vit",
        _VIT,
        lambda s: {
            "state_dict": prefixed(_mmpretrain(s), "backbone.") | _draw(neck__mask_token=(1, 1, 16)),
            "meta": {"epoch": 3},
        },
    ),
    _averaged(
        "mmpretrain, fine-tuned",
        "vit_with_fc_norm",
        _FINE_TUNED,
        lambda s: {
            "state_dict": prefixed(_mmpretrain(s), "backbone.")
            | _draw(head__layers__head__weight=(10, WIDTH), head__layers__head__bias=(10,))
        },
    ),
    _kind(
        "mmpretrain, DeiT III",
        "deit3",
        renamed(_DEIT3, (r"gamma_([12])", r"ls\1.gamma")),
        lambda s: {"state_dict": prefixed(_mmpretrain(s), "backbone.") | _draw(head__layers__head__weight=(10, WIDTH))},
    ),
    _averaged(
        "mmpretrain, BEiT fine-tuned",
        "beit_averaged",
        _BEIT_AVERAGED,
        lambda s: {
            "state_dict": prefixed(_mmpretrain(s | _INDICES | _FC_NORM), "backbone.")
            | _draw(head__fc__weight=(10, WIDTH))
        },
    ),
    _kind("mmpretrain, backbone", "vit", _VIT, _mmpretrain),
)

WRAPPED = (
    _kind("DataParallel", "vit", _VIT, lambda s: {"state_dict": prefixed(s, "module.")}),
    _kind("torch.compile", "vit", _VIT, lambda s: prefixed(s, "_orig_mod.")),
    _kind("timm, training", "vit", _VIT, lambda s: {"state_dict": s | _HEAD, "arch": "vit"}),
    _kind(
        "Lightning, one model",
        "vit",
        _VIT,
        lambda s: {"state_dict": prefixed(s, "model."), "pytorch-lightning_version": "2.4", "epoch": 3},
        "last.ckpt",
    ),
    _kind(
        "Lightning, backbone and head",
        "vit",
        _VIT,
        lambda s: {
            "state_dict": prefixed(s, "backbone.") | _draw(projection_head__layers__0__weight=(16, WIDTH)),
            "pytorch-lightning_version": "2.4",
        },
        "last.ckpt",
    ),
    _kind(
        "lightly, MaskedVisionTransformerTIMM",
        "vit",
        _VIT,
        lambda s: {
            "state_dict": prefixed(s, "backbone.vit.")
            | {"backbone.mask_token": torch.zeros(1, 1, WIDTH)}
            | _draw(decoder__decoder_embed__weight=(16, WIDTH))
        },
        "last.ckpt",
    ),
)


def _clip(name: str, quick: bool, pack: Callable[[State], object], round_to: torch.dtype = torch.float32) -> Kind:
    state = {key: tensor.to(round_to) for key, tensor in random_state(clip_shapes()).items()}

    def write(folder: Path) -> tuple[Path, Features]:
        exact = {key: tensor.float() for key, tensor in state.items()}
        return save(pack(state), folder, "clip.pt"), partial(clip_features, exact, quick=quick)

    return Kind(name, "clip_quickgelu" if quick else "clip", write)


class _Node(nn.Module):
    """A module of a program, with what is registered in it."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def _program(state: State, folder: Path) -> Path:
    """A TorchScript program with these weights, as OpenAI releases CLIP."""
    root = _Node()
    for name, tensor in state.items():
        *inner, last = name.split(".")
        node: nn.Module = root
        for part in inner:
            if part not in node._modules:
                node.add_module(part, _Node())
            node = node.get_submodule(part)
        node.register_buffer(last, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(root).save(folder / "ViT.pt")
    return folder / "ViT.pt"


def _openais_program(folder: Path) -> tuple[Path, Features]:
    state = {key: tensor.half() for key, tensor in random_state(clip_shapes()).items()}
    exact = {key: tensor.float() for key, tensor in state.items()}
    return _program(state | _NUMBERS, folder), partial(clip_features, exact, quick=True)


_NUMBERS = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(7), "vocab_size": torch.tensor(9)}
_TRUNK = random_state(vit_shapes())
CLIP = (
    Kind("OpenAI CLIP, program", "clip_quickgelu", _openais_program),
    _clip("OpenAI CLIP, state_dict", True, lambda s: s | _NUMBERS, torch.float16),
    _clip("open_clip", False, dict),
    _clip("open_clip, quick GELU", True, dict),
    _clip("open_clip, training", False, lambda s: {"epoch": 3, "name": "run", "state_dict": prefixed(s, "module.")}),
    _clip("open_clip, image encoder alone", False, lambda s: {k: t for k, t in s.items() if k.startswith("visual.")}),
    _kind(
        "open_clip, timm's encoder",
        "vit",
        _TRUNK,
        lambda s: (
            prefixed(s, "visual.trunk.")
            | _draw(visual__head__proj__weight=(24, WIDTH), text__token_embedding__weight=(9, 32), logit_scale=(1,))
        ),
    ),
)


def google_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """A ViT of google-research/vision_transformer."""
    shapes: dict[str, tuple[int, ...]] = {"cls": (1, 1, WIDTH), "head/kernel": (WIDTH, 10), "head/bias": (10,)}
    shapes |= {"embedding/kernel": (8, 8, 3, WIDTH), "embedding/bias": (WIDTH,)}
    shapes |= {"Transformer/posembed_input/pos_embedding": (1, 17, WIDTH)}
    for scale in ("scale", "bias"):
        shapes[f"Transformer/encoder_norm/{scale}"] = (WIDTH,)
    for block in ("Transformer/encoderblock_0/", "Transformer/encoderblock_1/"):
        shapes |= {f"{block}LayerNorm_{i}/{scale}": (WIDTH,) for i in (0, 2) for scale in ("scale", "bias")}
        attention = block + "MultiHeadDotProductAttention_1/"
        for part in ("query", "key", "value"):
            shapes |= {f"{attention}{part}/kernel": (WIDTH, HEADS, WIDTH // HEADS)}
            shapes |= {f"{attention}{part}/bias": (HEADS, WIDTH // HEADS)}
        shapes |= {f"{attention}out/kernel": (HEADS, WIDTH // HEADS, WIDTH), f"{attention}out/bias": (WIDTH,)}
        shapes |= {block + "MlpBlock_3/Dense_0/kernel": (WIDTH, 256), block + "MlpBlock_3/Dense_0/bias": (256,)}
        shapes |= {block + "MlpBlock_3/Dense_1/kernel": (256, WIDTH), block + "MlpBlock_3/Dense_1/bias": (WIDTH,)}
    return {name: tensor.numpy() for name, tensor in random_state(shapes, seed).items()}


def _google(name: str, prefix: str) -> Kind:
    """timm, which reads these files itself, is what they are compared with."""
    from tests.support.small_architectures import vit

    def write(folder: Path) -> tuple[Path, Features]:
        np.savez(folder / "vit.npz", **{prefix + name: array for name, array in google_arrays().items()})
        model = vit(None, 0.0).eval()
        model.load_pretrained(str(folder / "vit.npz"))
        return folder / "vit.npz", model.forward_features

    return Kind(name, "vit", write)


GOOGLE = (_google("Google's ViT in JAX", ""), _google("Google's ViT in JAX, optimiser's", "opt/target/"))

AUTHORS_FILES = (*PLAIN, *BEIT_LIKE, *OPENMMLAB, *WRAPPED, *CLIP, *GOOGLE)
