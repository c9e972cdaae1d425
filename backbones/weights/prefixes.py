"""Which part of a file holds the trunk: the one under which all parameters of a model fit.

Training code wraps the network to be used (`module.`, `backbone.`, `online_network.`) and saves others beside it: a
teacher, a momentum encoder, averaged weights. A part is an entry of the file and what the names of its tensors begin
with, up to a dot. Whatever it is called, it is the trunk if it fits; where several do that are not the same, the file
is not read until one is chosen.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.checkpoints import Checkpoint, numbers
from backbones.weights.conversion import MisfitError, ReaderError, Weights
from backbones.weights.recognition import Recognised, recognise
from backbones.weights.references import SEPARATOR, part_name

Attempt = Callable[[Checkpoint], Weights]
"""Brings a checkpoint's weights under the model's names; raises InputError where they do not fit."""

_LISTED = 12

# What a part of a training is, by a word in the first of its names; the first that is found.
_WORDS = (
    (r"ema", "the averaged twin (EMA)"),
    (r"momentum|encoder_k|key_encoder", "the momentum encoder"),
    (r"teacher", "the teacher"),
    (r"target", "the target network"),
    (r"student", "the student"),
    (r"online|encoder_q|query_encoder", "the online network"),
    (r"prediction|predictor", "the predictor"),
    (r"projection|projector|proj_head", "the projector"),
    (r"prototypes", "the prototypes"),
    (r"queue", "the queue of negatives"),
    (r"decoder", "the decoder"),
    (r"neck", "the neck"),
    (r"logit_scale|temperature", "the temperature"),
    (r"criterion|loss(?:es)?", "the loss"),
    (r"head|linear|classifier", "the head"),
    (r"preprocessor", "the preprocessor of its data"),
)
_KNOWN = [(re.compile(rf"(?:^|_)(?:{words})s?(?:_|\d|$)"), what) for words, what in _WORDS]


@dataclass(frozen=True)
class _Rule:
    """Which of two parts is used downstream, as the released code has it that saves both.

    taken, beside: what their names hold
    sign:          what else the file's names hold, so that it cannot be another code's
    methods:       whose files need no sign, because the backbone's name says that they are theirs
    why:           the reason, for the report
    """

    taken: str
    beside: str
    sign: str
    methods: tuple[str, ...]
    why: str


_RULES = (
    _Rule(
        r"teacher\b",
        r"student\b",
        r"head\.last_layer|dino_head|ibot_head",
        ("DINO", "iBOT", "DINOv2"),
        "the teacher, which the evaluation of DINO and iBOT takes (facebookresearch/dino, eval_linear.py)",
    ),
    _Rule(
        r"model\b",
        r"model_ema\b",
        r"(?!)",
        ("data2vec",),
        "the model, which data2vec's fine-tuning takes (facebookresearch/data2vec_vision, "
        "beit/run_class_finetuning.py:144)",
    ),
    _Rule(
        r"target_encoder\b",
        r"(?:^|\.)encoder\b",
        "",
        (),
        "the target encoder, which the evaluation of I-JEPA and MSN takes (facebookresearch/msn, linear_eval.py)",
    ),
    _Rule(
        r"base_encoder\b",
        r"momentum_encoder\b",
        "",
        (),
        "the base encoder, which MoCo v3's evaluation takes (facebookresearch/moco-v3, main_lincls.py)",
    ),
    _Rule(
        r"encoder_q\b",
        r"encoder_k\b",
        "",
        (),
        "the query encoder, which MoCo's evaluation takes (facebookresearch/moco, main_lincls.py)",
    ),
    _Rule(
        r"(?:^|\.)backbone\b",
        r"(?:^|\.)(?:momentum_encoder|momentum_backbone|encoder_k|target_net|target_generator)\b",
        "",
        (),
        "the backbone, which the evaluations of OpenMMLab and solo-learn take (mmpretrain, "
        "tools/model_converters/extract_backbone_weights.py; solo-learn, main_linear.py)",
    ),
)

_UNRULED = {("iBOT", "IN22K")}
"""Method and data of files that no rule is for: iBOT's authors release the student of ImageNet-22K (bytedance/ibot,
README.md:235 and 249), and the teacher of ImageNet-1K."""


@dataclass(frozen=True)
class Trunk:
    """The part that fits, its weights under the model's names, and why it was taken where others fit as well."""

    checkpoint: Checkpoint
    weights: Weights
    why: str = ""


@dataclass(frozen=True)
class _Fit:
    """A part that fits. `weights` may be without numbers, on the meta device."""

    checkpoint: Checkpoint
    weights: Weights

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Entry and name of every tensor that it uses."""
        return {(self.checkpoint.container, key) for keys in self.weights.sources.values() for key in keys}

    @property
    def location(self) -> str:
        """The longest name that its tensors share: "state_dict.module.base_encoder"; "." where they share none."""
        shared = ""
        for pieces in zip(*(key.split(".")[:-1] for _, key in self.keys), strict=False):
            if len({*pieces}) > 1:
                break
            shared += f"{pieces[0]}."
        return part_name(self.checkpoint.container, shared) or "."


def find_trunk(
    model: nn.Module, checkpoint: Checkpoint, method: str, data: str, attempt: Attempt, fewest: float = 0
) -> Trunk:
    """Find the part that the model's parameters fit, as the file is first looked at or anywhere else in it.

    A file with room for one network only is not searched if that fits, nor is a part of fewer tensors than `fewest`.
    `method` and `data` are the backbone's. Raises InputError: as `attempt` does if nothing fits, or with all parts that
    do.
    """
    straight: _Fit | InputError
    try:
        straight = _Fit(checkpoint, attempt(checkpoint))
    except InputError as error:
        straight = error
    least = sum(parameter.numel() for parameter in model.parameters()) // 2
    if isinstance(straight, _Fit) and not _has_room_for_another(straight, least):
        return Trunk(checkpoint, straight.weights)
    tried = [straight, *_search(checkpoint, least, fewest, attempt)]
    fits = _distinct(each for each in tried if isinstance(each, _Fit))
    if not fits:
        raise _nearest([each for each in tried if isinstance(each, InputError)])
    fit, why = _choose(checkpoint, method, data, straight, fits)
    return Trunk(fit.checkpoint, fit.weights if fit is straight else attempt(fit.checkpoint), why)


def _nearest(refusals: list[InputError]) -> InputError:
    """The reason why the file is not read: the first, unless another part has more of the model's tensors.

    Of those that have as many it is the one that differs in the fewest. A part that has none of them says nothing.
    """
    misfits = [each for each in refusals if isinstance(each, MisfitError) and each.found]
    nearest = min(misfits, key=lambda each: (-each.found, each.tensors), default=refusals[0])
    return nearest if isinstance(refusals[0], MisfitError) else refusals[0]


def describe_beside(name: str, prefix: str = "") -> str | None:
    """What a tensor beside the trunk belongs to, as far as its name tells: "the projector"; None if it does not.

    prefix: what the trunk's names begin with
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _set_apart(name, prefix)).lower()
    if words == "fc":
        return "the head"
    return next((what for pattern, what in _KNOWN if pattern.search(words)), None)


def reason_beside(name: str, prefix: str) -> str:
    """Why a tensor is left out whose name does not begin as the trunk's do."""
    return f"beside the trunk: {describe_beside(name, prefix) or _set_apart(name, prefix)}"


def _set_apart(name: str, prefix: str) -> str:
    """The first word of a name that the trunk's do not begin with."""
    pieces, trunk = name.split("."), prefix.split(".")
    while len(pieces) > 1 and pieces[0] == trunk[0]:
        pieces, trunk = pieces[1:], trunk[1:] or [""]
    return pieces[0]


def drop_beside(weights: Weights, model: nn.Module) -> None:
    """Leave out what lies beside the trunk under names that tell what it is, and that no module of the model has."""
    own = {name.partition(".")[0] for name in model.state_dict()}
    for name in list(weights.tensors):
        if name.partition(".")[0] not in own and (what := describe_beside(name)):
            weights.drop([name], f"beside the trunk: {what}")


def looks_of(checkpoint: Checkpoint) -> Recognised:
    """What a checkpoint seems to be: as it is first looked at, else the first of its parts that is known."""
    if checkpoint not in _looks:
        _looks[checkpoint] = _look(checkpoint)
    return _looks[checkpoint]


_looks: WeakKeyDictionary[Checkpoint, Recognised] = WeakKeyDictionary()
_parts: WeakKeyDictionary[Checkpoint, tuple[tuple[Checkpoint, Recognised], ...]] = WeakKeyDictionary()


def _look(checkpoint: Checkpoint) -> Recognised:
    found = recognise(checkpoint.state_dict, checkpoint.grid)
    if checkpoint.prefix:
        whole = dict(checkpoint.beside) | {checkpoint.prefix + n: t for n, t in checkpoint.state_dict.items()}
        return replace(found, method=found.method or recognise(whole, checkpoint.grid).method)
    if found.family is None:
        return next((looks for _, looks in known_parts(checkpoint)), found)
    return found


def known_parts(checkpoint: Checkpoint) -> tuple[tuple[Checkpoint, Recognised], ...]:
    """The parts that are known architectures, and what they seem to be: each the innermost, in the file's order."""
    if checkpoint not in _parts:
        _parts[checkpoint] = tuple(_find_known_parts(checkpoint))
    return _parts[checkpoint]


def _find_known_parts(checkpoint: Checkpoint) -> Iterator[tuple[Checkpoint, Recognised]]:
    for container, tensors in checkpoint.containers.items():
        least = max(numbers(tensors) // 16, 1)
        sizes = {prefix: size for prefix, (size, _) in prefixes_in(tensors).items()}
        known: list[tuple[str, Checkpoint, Recognised]] = []
        for prefix in sorted((prefix for prefix, size in sizes.items() if size >= least), key=_depth, reverse=True):
            if any(inner.startswith(prefix) for inner, _, _ in known):
                continue
            part = checkpoint.take(container, prefix)
            if (looks := recognise(part.state_dict, checkpoint.grid)).family is not None:
                known.append((prefix, part, looks))
        order = {prefix: index for index, prefix in enumerate(sizes)}
        yield from ((part, looks) for _, part, looks in sorted(known, key=lambda each: order[each[0]]))


def _has_room_for_another(fit: _Fit, least: int) -> bool:
    """Whether so many numbers lie beside what is used that they could be a second network."""
    used = fit.keys
    left = sum(
        tensor.numel()
        for container, tensors in fit.checkpoint.containers.items()
        for name, tensor in tensors.items()
        if (container, (fit.checkpoint.prefix if container == fit.checkpoint.container else "") + name) not in used
    )
    return left >= max(least, 1)


def _search(checkpoint: Checkpoint, least: int, fewest: float, attempt: Attempt) -> Iterator[_Fit | InputError]:
    """All parts of so many numbers and tensors, the outermost first: each as it fits, or why it does not."""
    for container, tensors in checkpoint.containers.items():
        large = [
            prefix
            for prefix, (size, count) in prefixes_in(tensors).items()
            if size >= least and (count >= fewest or not prefix)
        ]
        for prefix in sorted(large, key=_depth):
            yield _outlined(checkpoint.take(container, prefix), attempt)


def _outlined(part: Checkpoint, attempt: Attempt) -> _Fit | InputError:
    """How a part fits as far as names and shapes go, which costs no copying."""
    outline = replace(part, state_dict={name: tensor.to("meta") for name, tensor in part.state_dict.items()})
    try:
        return _Fit(part, attempt(outline))
    except (
        LookupError,
        ValueError,
        RuntimeError,
    ) as failure:  # a step looked at the numbers, or makes nothing of the names
        if isinstance(failure, InputError) and not isinstance(failure, ReaderError):
            return failure
        try:
            return _Fit(part, attempt(part))
        except InputError as error:
            return error
        except (LookupError, ValueError, RuntimeError) as error:
            return InputError(f"{part.name}: {error}")


def prefixes_in(tensors: dict[str, Tensor]) -> dict[str, tuple[int, int]]:
    """What names begin with, up to each of their dots and not at all, and how many numbers and tensors lie under it."""
    sizes: dict[str, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        pieces = name.split(".")
        for count in range(len(pieces)):
            prefix = "".join(f"{piece}." for piece in pieces[:count])
            size, count = sizes.get(prefix, (0, 0))
            sizes[prefix] = (size + tensor.numel(), count + 1)
    return sizes


def _depth(prefix: str) -> int:
    return prefix.count(".")


def _distinct(fits: Iterable[_Fit]) -> list[_Fit]:
    """The first of all that share a tensor."""
    found: list[_Fit] = []
    for fit in fits:
        if not any(other.keys & fit.keys for other in found):
            found.append(fit)
    return found


def _choose(
    checkpoint: Checkpoint, method: str, data: str, straight: _Fit | InputError, fits: list[_Fit]
) -> tuple[_Fit, str]:
    """The only one, the one that was chosen, the one that a code is known to use, or the first of equals."""
    if checkpoint.part:
        chosen = part_name(checkpoint.container, checkpoint.prefix) or "."
        if exact := [fit for fit in fits if fit.location == chosen]:
            return exact[0], ""
    groups: list[list[_Fit]] = []
    for fit in fits:
        group = next((group for group in groups if _same_numbers(group[0], fit)), None)
        groups.append([fit]) if group is None else group.append(fit)
    if len(groups) == 1:
        twins = [fit.location for fit in groups[0][1:]]
        return groups[0][0], f"the same numbers as {', '.join(twins)}" if twins else ""
    if isinstance(straight, _Fit) and straight in fits and (method, data) not in _UNRULED:
        others = [fit.location for fit in fits if fit is not straight]
        names = " ".join(name for tensors in checkpoint.containers.values() for name in tensors)
        for rule in _RULES:
            is_taken = re.search(rule.taken, straight.location) and all(re.search(rule.beside, at) for at in others)
            if is_taken and (method in rule.methods or re.search(rule.sign, names)):
                return straight, f"{rule.why}, and not {', '.join(others)}"
    raise InputError(_ambiguous(checkpoint, groups))


def _same_numbers(one: _Fit, other: _Fit) -> bool:
    """Whether two parts give a model the same weights, to the last digit."""
    mine, yours = one.weights.sources, other.weights.sources
    if mine.keys() != yours.keys():
        return False
    return all(
        len(mine[name]) == len(yours[name])
        and all(
            a.dtype == b.dtype and torch.equal(a, b)
            for a, b in zip(_tensors(one, name), _tensors(other, name), strict=True)
        )
        for name in mine
    )


def _tensors(fit: _Fit, name: str) -> list[Tensor]:
    prefix = fit.checkpoint.prefix
    return [fit.checkpoint.state_dict[key.removeprefix(prefix)] for key in fit.weights.sources[name]]


def _ambiguous(checkpoint: Checkpoint, groups: list[list[_Fit]]) -> str:
    lines = [
        f"{checkpoint.path}: {len(groups)} of its parts fit the model, with different numbers; nothing was loaded."
    ]
    for group in groups[:_LISTED]:
        first = group[0]
        size = sum(tensor.numel() for key in first.weights.sources for tensor in _tensors(first, key))
        twins = f"; the same as {', '.join(fit.location for fit in group[1:])}" if group[1:] else ""
        lines.append(f"  {first.location}: {len(first.keys)} tensors, {size:,} numbers{twins}")
    if len(groups) > _LISTED:
        lines.append(f"  and {len(groups) - _LISTED} more")
    lines.append(f"Say which is meant: {checkpoint.path}{SEPARATOR}{groups[0][0].location}")
    return "\n".join(lines)
