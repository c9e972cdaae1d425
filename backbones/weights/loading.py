"""Strict loading: every key of the file and every tensor of the model is accounted for, or nothing is loaded."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import timm
import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.arithmetic import require_same_arithmetic
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.conversion import Message, MisfitError, ReaderError, Weights
from backbones.weights.methods import Method
from backbones.weights.patches import FILTERS, has_pyramids_patches, hold_filters_of, require_own_patches
from backbones.weights.positions import may_have_grid
from backbones.weights.prefixes import drop_beside, find_trunk, known_parts, looks_of, reason_beside
from backbones.weights.readers import is_reader
from backbones.weights.unreadable import unfinished

_SHOWN = 8  # names in each list of an error message
_FEWEST = 0.25
"""The share of a model's parameters that a file has tensors for at least: several are made of one, or begin anew."""


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's keys and of a model's tensors (parameters and stored buffers).

    Every key of the file is among the values of `used` or in `dropped`; every tensor of the model is in `used` or in
    `initialised`.

    path, sha256: the file
    method:       whose reading was applied
    used:         the file's keys that a tensor was made from, by the model's name
    dropped:      the reason, by the file's key
    initialised:  the reason, by the model's name
    converted:    what was done to the values or the shape, by the model's name
    part:         the part of the file that was taken; "" where it is read as its code base's files are
    why:          the reason, where other parts would have fitted
    """

    path: Path
    sha256: str
    method: str
    used: dict[str, tuple[str, ...]]
    dropped: dict[str, str]
    initialised: dict[str, str]
    converted: dict[str, str]
    part: str = ""
    why: str = ""

    def summary(self) -> str:
        """Say it in one line: "150 of 150 tensors loaded, 90 dropped (the decoder, only for pre-training), …"."""
        total = len(self.used) + len(self.initialised)
        taken = "".join(f"; {said}" for said in (self.part and f"of {self.part}", self.why) if said)
        return (
            f"{len(self.used)} of {total} tensors loaded, "
            f"{len(self.dropped)} dropped{_reasons(self.dropped)}, "
            f"{len(self.initialised)} initialised{_reasons(self.initialised)}, "
            f"{len(self.converted)} converted{_reasons(self.converted)}{taken}"
        )


def _reasons(account: dict[str, str]) -> str:
    reasons = Counter(account.values())
    return f" ({'; '.join(reason for reason, _ in reasons.most_common())})" if reasons else ""


def load_weights(model: nn.Module, checkpoint: Checkpoint, method: Method, for_pyramid: bool = False) -> LoadReport:
    """Load a checkpoint into a model, reading it as the method's files are read, and report what landed where.

    A model that is going to be a feature pyramid takes a file whose patch filters have the size that it needs there,
    such as 16 pixels for a ViT-H of 14, and has patches of that size from then on.

    Raises InputError, and leaves the model as it was, if a key of the file or a tensor of the model stays unexplained,
    if shapes differ, or if a weight is not a finite number.
    """
    held = prepare_for_pyramid(model, checkpoint, method) if for_pyramid else None
    weights, report = match_weights(model, checkpoint, method)
    if held:
        report.converted[FILTERS] = held
    broken = [name for name, tensor in weights.tensors.items() if not is_finite(tensor)]
    if broken:
        raise InputError(
            f"{checkpoint.path}: infinite or undefined numbers in {_listed(broken)}. "
            "The training that wrote it diverged, or the file is damaged."
        )
    state = model.state_dict()
    model.load_state_dict(state | weights.tensors, strict=True)
    return report


def is_finite(tensor: Tensor) -> bool:
    """Whether no number in it is infinite or undefined; one on the meta device has none."""
    if tensor.is_meta:
        return True
    numbers = tensor if tensor.element_size() > 1 else tensor.float()  # which not every type of 8 bits can be asked
    return bool(torch.isfinite(numbers).all())


def match_weights(model: nn.Module, checkpoint: Checkpoint, method: Method) -> tuple[Weights, LoadReport]:
    """Bring a checkpoint's weights under the model's names and shapes, without touching the model.

    The model may live on the meta device. Raises InputError as `load_weights` does.
    """
    fewest = 0 if any(is_reader(step) for step in method.steps) else _FEWEST * len([*model.parameters()])
    trunk = find_trunk(
        model, checkpoint, method.name, method.pretrain_data, lambda part: _bring(model, part, method), fewest
    )
    require_same_arithmetic(model, trunk.checkpoint)
    weights = trunk.weights
    for name, tensor in model.state_dict().items():
        if name in weights.tensors and weights.tensors[name].dtype != tensor.dtype:
            change = f"{_dtype(weights.tensors[name].dtype)} → {_dtype(tensor.dtype)}"
            weights.converted[name] = ", ".join(filter(None, (weights.converted.get(name), change)))
    used_keys = {key for keys in weights.sources.values() for key in keys}
    dropped = {key: reason for key, reason in weights.dropped.items() if key not in used_keys}
    report = LoadReport(
        checkpoint.path,
        checkpoint.sha256,
        method.name,
        dict(weights.sources),
        dropped,
        dict(weights.initialised),
        dict(weights.converted),
        trunk.checkpoint.part,
        trunk.why,
    )
    return weights, report


def _bring(model: nn.Module, checkpoint: Checkpoint, method: Method) -> Weights:
    """Do all that leads from the file's names to the model's. Raises InputError where the two do not fit."""
    weights = Weights.from_file(checkpoint.state_dict, checkpoint.grid, checkpoint.prefix)
    for name in checkpoint.beside:
        weights.dropped[name] = reason_beside(name, checkpoint.prefix)
    try:
        for step in (*method.steps, drop_beside, *_FITTING):
            step(weights, model)
    except InputError as error:
        kind = ReaderError if isinstance(error, ReaderError) else InputError
        why = str(error)
        raise kind(Message(lambda: f"{checkpoint.path}: {why} {_seems(checkpoint)}")) from error
    _require_match(weights, model, checkpoint, method)
    return weights


def prepare_for_pyramid(model: nn.Module, checkpoint: Checkpoint, method: Method) -> str | None:
    """Give a model the patches of a feature pyramid if the checkpoint's filters are for those; what was done."""
    if has_pyramids_patches(model):
        return None
    for part in chain([checkpoint], (part for part, _ in known_parts(checkpoint))):
        weights = Weights.from_file(part.state_dict, prefix=part.prefix)
        try:
            for step in method.steps:
                step(weights, model)
        except InputError:
            return None  # which `match_weights` is going to tell
        if FILTERS in weights.tensors:
            return hold_filters_of(model, weights)
    return None


def _fit_position_embeddings(weights: Weights, model: nn.Module) -> None:
    """Interpolate a ViT's position embeddings to the model's grid, if the file's is another one.

    Bicubic without antialiasing, as in the fine-tuning of MAE, BEiT and DeiT; timm's default differs. Beside register
    tokens with, as in DINOv2's code for these (facebookresearch/dinov2, hub/backbones.py). The class token keeps its
    own. The code of DINO, of iBOT and, without registers, of DINOv2 adds 0.1 to the rows and columns that it
    interpolates to, which is not done here (facebookresearch/dino, vision_transformer.py:186; bytedance/ibot,
    models/vision_transformer.py:195; facebookresearch/dinov2, hub/backbones.py:28, models/vision_transformer.py:195). A
    file that does not say its grid is taken to have the model's if the number of patches is the same, else a square
    one, as every published file has. Raises InputError if its embeddings speak against that.
    """
    own, antialias = model.state_dict().get("pos_embed"), "reg_token" in model.state_dict()
    position = weights.tensors.get("pos_embed")
    if not isinstance(model, VisionTransformer | Beit) or position is None or own is None:
        return
    height, width = model.patch_embed.grid_size
    prefix = own.shape[1] - height * width
    if position.ndim != 3 or position.shape[2] != own.shape[2]:
        return
    grid = _grid_of_positions(position, position.shape[1] - prefix, weights.grid, (height, width))
    if grid and grid != (height, width):
        weights.tensors["pos_embed"] = resample_abs_pos_embed(
            position, [height, width], old_size=list(grid), num_prefix_tokens=prefix, antialias=antialias
        )
        weights.converted["pos_embed"] = f"{grid[0]}×{grid[1]} → {height}×{width}"


def _grid_of_positions(
    position: Tensor, count: int, stated: tuple[int, int] | None, models: tuple[int, int]
) -> tuple[int, int] | None:
    """Return the rows and columns of `count` patches, None if nobody knows."""
    if stated and stated[0] * stated[1] == count:
        return stated
    side = _square_root(count)
    grid = models if count == models[0] * models[1] else (side, side) if side else None
    if grid and not may_have_grid(position, grid):
        raise InputError(
            f"its position embeddings do not look like those of {grid[0]}×{grid[1]} patches, and the file does not say "
            "which grid they are for. Save it again with its rows and columns beside the weights: "
            'torch.save({"model": weights, "grid": "4×9"}, FILE).'
        )
    return grid


def _fit_position_biases(weights: Weights, model: nn.Module) -> None:
    """Interpolate BEiT's relative position biases to the model's grid, if the file's is another one.

    The distances are spaced geometrically, as in BEiT's own fine-tuning (timm's `resize_rel_pos_bias_table`); the
    last three rows, which concern the class token, are kept.
    """
    if not isinstance(model, Beit):
        return
    height, width = model.patch_embed.grid_size
    own, stated = model.state_dict(), weights.grid
    for name in [name for name in weights.tensors if name.endswith("relative_position_bias_table") and name in own]:
        table = weights.tensors[name]
        extra = own[name].shape[0] - (2 * height - 1) * (2 * width - 1)
        offsets = table.shape[0] - extra
        grid = stated if stated and (2 * stated[0] - 1) * (2 * stated[1] - 1) == offsets else None
        if grid is None and table.shape[0] != own[name].shape[0] and (side := _square_root(offsets)) and side % 2:
            grid = ((side + 1) // 2, (side + 1) // 2)
        if grid and grid != (height, width) and table.shape[1:] == own[name].shape[1:]:
            weights.tensors[name] = resize_rel_pos_bias_table(table, (height, width), own[name].shape, grid)
            weights.converted[name] = f"{grid[0]}×{grid[1]} → {height}×{width}"


def _square_root(number: int) -> int | None:
    """Return the positive whole square root, or None if there is none."""
    root = round(max(number, 0) ** 0.5)
    return root if root > 0 and root * root == number else None


def _allow_missing_counters(weights: Weights, model: nn.Module) -> None:
    """Let BatchNorm's step counters start at zero: files from before PyTorch 0.4.1 have none."""
    for name in model.state_dict():
        if name.endswith("num_batches_tracked") and name not in weights.tensors:
            weights.initialised[name] = "a counter of steps; starts at zero"


_FITTING = (require_own_patches, _fit_position_embeddings, _fit_position_biases, _allow_missing_counters)
"""What is done to weights under the model's names before they have to match."""


def _require_match(weights: Weights, model: nn.Module, checkpoint: Checkpoint, method: Method) -> None:
    """Raise InputError, with the names on both sides, unless weights and model fit exactly."""
    own = model.state_dict()
    missing = [name for name in own if name not in weights.tensors and name not in weights.initialised]
    unplaced = [weights.sources[name] or (name,) for name in weights.tensors if name not in own]
    surplus = ["+".join(keys) for keys in unplaced]
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in weights.tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if not (missing or surplus or shapes):
        _require_numbers(weights, own, checkpoint)
        return

    def tell() -> str:
        lines = [
            f"{checkpoint.name}: does not fit {_described(model)}, read as {method.name} weights; nothing was loaded. "
            f"{_seems(checkpoint)}"
        ]
        if missing:
            lines.append(f"  {len(missing)} of the model's {len(own)} tensors are not in the file: {_listed(missing)}")
        if surplus:
            lines.append(f"  {len(surplus)} of the file's keys have no place in the model: {_listed(surplus)}")
        if shapes:
            lines.append(f"  {len(shapes)} have another shape: {_listed(shapes)}")
        return "\n".join([*lines, _advice(model, checkpoint, chain.from_iterable(unplaced))])

    found = len([name for name in own if name in weights.tensors and own[name].shape == weights.tensors[name].shape])
    raise MisfitError(Message(tell), len({*missing, *surplus}) + len(shapes), found)


def _advice(model: nn.Module, checkpoint: Checkpoint, unplaced: Iterable[str]) -> str:
    """What to do with a file that does not fit; `unplaced` are those of its keys that have no place in the model."""
    name = looks_of(checkpoint).timm_name
    known = f", timm's {name} by its looks" if name and timm.is_model(name) and name != _described(model) else ""
    fitting = f"`backbench inspect {checkpoint.path}` lists those that fit"
    own = (
        ""
        if known
        else ", or give a function that builds it, with timm.create_model(…, in_chans=4) or the like: docs/backbones.md"
    )
    return f"{unfinished(unplaced)}Choose the backbone that it was trained as{known}; {fitting}{own}."


def _require_numbers(weights: Weights, own: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Raise InputError where the model has real numbers and the file integers, truth values or complex numbers."""
    odd = [
        f"{name} ({_dtype(tensor.dtype)})"
        for name, tensor in weights.tensors.items()
        if own[name].is_floating_point() and not tensor.is_floating_point()
    ]
    if odd:
        raise InputError(
            f"{checkpoint.name}: {len(odd)} of its tensors do not hold floating-point numbers, as the model's do: "
            f"{_listed(odd)}. Integers are quantised weights, which mean nothing without their scales: save them "
            "dequantised, or as real numbers, as float32, float16 or bfloat16."
        )


def _seems(checkpoint: Checkpoint) -> str:
    return f"The file looks like: {looks_of(checkpoint)}."


def _described(model: nn.Module) -> str:
    """Name a model by timm's architecture name where it has one."""
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _dtype(dtype: torch.dtype) -> str:
    return re.sub(r"^torch\.", "", str(dtype))
