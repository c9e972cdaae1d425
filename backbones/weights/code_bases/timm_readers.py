"""timm's own readers of the original authors' files, one for each family of models, with an account of what they do."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from timm.models import vision_transformer
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.conversion import Weights

Reader = Callable[[dict[str, Tensor], Any], Mapping[str, Tensor]]

_FILTERS = ("patch_embed.proj.weight", "visual.conv1.weight")
_OPENAIS_NUMBERS = r"(?:input_resolution|context_length|vocab_size)$"


class _Traced(Tensor):
    """A tensor that remembers the names of those that it was made from, whatever is done to it."""

    made_from: tuple[str, ...]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        names = tuple(dict.fromkeys(name for each in _traced((args, kwargs)) for name in each.made_from))
        for each in _traced(result):
            each.made_from = names
        return result


def _trace(name: str, tensor: Tensor) -> _Traced:
    traced = tensor.as_subclass(_Traced)
    traced.made_from = (name,)
    return traced


def _traced(content: Any) -> Iterator[_Traced]:
    """The traced tensors among a function's arguments or results, in order."""
    if isinstance(content, _Traced):
        if "made_from" not in vars(content):
            content.made_from = ()
        yield content
    elif isinstance(content, Mapping):
        yield from _traced(tuple(content.values()))
    elif isinstance(content, tuple | list):
        for each in content:
            yield from _traced(each)


class _ShapedAsTheFile:
    """A ViT to timm's reader, but for filters and positions: those are as the file's, so that none is interpolated.

    timm interpolates with antialiasing, which the fine-tuning of MAE, BEiT and DeiT does not
    (backbones/weights/loading.py), and takes patches of any size.
    """

    pos_embed = None

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        own = getattr(getattr(getattr(model, "patch_embed", None), "proj", None), "weight", None)
        filters = (tensor for name, tensor in tensors.items() if name.endswith(_FILTERS) and tensor.ndim == 4)
        self.patch_embed = SimpleNamespace(proj=SimpleNamespace(weight=next(filters, own)))
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def through_timm(weights: Weights, model: nn.Module) -> None:
    """Apply timm's reader for the model's family: DINOv2's and CLIP's names of a ViT, DeiT III's layer scale, …

    BEiT's is left out: it interpolates alone, as is done here in its own way. Names that are the model's own
    stay: a mask token would be taken for DINOv2's, and a masked autoencoder has one.
    Raises InputError if that reader cannot make sense of the file.
    """
    if isinstance(model, Beit) or weights.tensors.keys() <= model.state_dict().keys():
        return
    if isinstance(model, VisionTransformer):
        read_as_vit(weights, model)
        return
    modules = (sys.modules[kind.__module__] for kind in type(model).__mro__)
    reader = next((found for module in modules if (found := getattr(module, "checkpoint_filter_fn", None))), None)
    if reader is not None:
        _apply(reader, weights, model, type(model).__name__)


def read_as_vit(weights: Weights, model: nn.Module) -> None:
    """Apply timm's reader for ViTs, whose names it gives to the weights whatever the model; nothing is interpolated."""
    if {"class_embedding", "conv1.weight"} <= weights.tensors.keys():
        weights.rename("", "visual.")
    if weights.names(r"visual\."):
        weights.drop(weights.names(_OPENAIS_NUMBERS), "a number that describes CLIP")
        weights.drop(weights.names(r"(?!visual\.)"), "CLIP's text encoder")
    weights.rename(r"blocks\.\d+\.(\d+)\.", r"blocks.\1.")  # DINOv2's training keeps its blocks in chunks
    reader = partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True)
    _apply(_knowing_dinov2(reader), weights, _ShapedAsTheFile(model, weights.tensors), "VisionTransformer")


def is_openais(names: Iterable[str]) -> bool:
    """Whether a file of CLIP is OpenAI's own, by the numbers that it holds: its GELU is the quick one."""
    return any(re.match(_OPENAIS_NUMBERS, name) for name in names)


def _knowing_dinov2(reader: Reader) -> Reader:
    """Let timm's reader know DINOv2's files without their mask token, which it knows them by."""

    def read(tensors: dict[str, Tensor], model: Any) -> Mapping[str, Tensor]:
        if "register_tokens" in tensors or "blocks.0.mlp.w12.weight" in tensors:
            tensors.setdefault("mask_token", torch.empty(0))
        return reader(tensors, model)

    return read


def _apply(reader: Reader, weights: Weights, model: Any, family: str) -> None:
    """Let a reader of timm's rename the weights, and find out from which each of its tensors was made."""
    before = weights.tensors
    traced: dict[str, Tensor] = {name: _trace(name, tensor) for name, tensor in before.items()}
    unchanged = {id(tensor): name for name, tensor in traced.items()}
    try:
        after = reader(dict(traced), model)
    except Exception as error:  # timm's readers assume their own architecture and fail anywhere on another
        names = ", ".join(list(before)[:3])
        raise InputError(f"timm's reader for {family} makes no sense of its names ({names}).") from error
    tensors: dict[str, Tensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    converted: dict[str, str] = {}
    for name, tensor in after.items():
        old_name = unchanged.get(id(tensor))
        tensors[name] = before[old_name] if old_name else tensor.as_subclass(Tensor)
        made_from = tensor.made_from if isinstance(tensor, _Traced) else ()
        sources[name] = _keys(weights, made_from)
        if old_name is None:
            converted[name] = f"by timm's reader for {family}"
        elif old_name in weights.converted:
            converted[name] = weights.converted[old_name]
    used = {key for keys in sources.values() for key in keys}
    for name, keys in weights.sources.items():
        weights.dropped.update(dict.fromkeys((key for key in keys if key not in used), _reason(name, family)))
    weights.tensors, weights.sources, weights.converted = tensors, sources, converted


def _keys(weights: Weights, names: Iterable[str]) -> tuple[str, ...]:
    """The file's keys behind some current names."""
    return tuple(key for name in names for key in weights.sources[name])


def _reason(name: str, family: str) -> str:
    """Why a tensor that timm's reader leaves out is not needed."""
    if re.match(r"pre_logits\.", name):
        return "the head of the task that it was trained for"
    if name == "mask_token":
        return "stands for hidden patches, only in pre-training"
    return f"left out or merged by timm's reader for {family}"
