"""Where in a file of others its classifier is: what to say of one whose head lies elsewhere, or is of another kind."""

import re
from collections.abc import Sequence

from backbones.errors import InputError
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.prefixes import looks_of
from backbones.weights.references import SEPARATOR
from tasks.classification.others.naming import bare, listed

HEADS = ("head", "head.fc", "fc", "classifier", "heads.head", "head.layers.head", "cls_classifier", "classifier.2")
"""What the layer that gives the classes is called in the files of others."""

_HEAD = r"(?:heads?|fc|classifier)\."
_ENTRY = re.compile(r"(?:^|[._])(?:heads?|neck|fc|classifier|linear)(?:$|[._])")
_QUANTISED = "_packed_params"


def require_one_entry(checkpoint: Checkpoint) -> None:
    """Raise InputError for a file that keeps a head or a neck in an entry of its own: it would go unused."""
    taken = f"{checkpoint.container}."
    apart = [name for name in checkpoint.containers if _ENTRY.search(name) and not f"{name}.".startswith(taken)]
    if apart and not checkpoint.part:
        raise InputError(
            f"{checkpoint.name}: keeps {listed(apart)} apart from {checkpoint.container}. Save the whole "
            f"network's state_dict() as one; or, if {checkpoint.container} has the head already, give "
            f"{checkpoint.path}{SEPARATOR}{checkpoint.container}"
        )


def no_classifier(checkpoint: Checkpoint, backbone: str, heads: Sequence[str], tensors: int) -> InputError:
    """Why a file has no classifier where one was looked for, and what to do.

    backbone: the registry's name of its trunk
    heads:    what the layer that gives the classes may be called
    tensors:  how many the network has
    """
    looks = looks_of(checkpoint)
    if parts := _with_head(checkpoint, heads, tensors):
        which = "Give that" if len(parts) == 1 else "Say which is meant"
        beside = listed(parts[0].beside) if len(parts) == 1 else ""
        return InputError(
            f"{checkpoint.name}: its classifier ({looks}) is a part of it{beside and f', without {beside}'}. {which}: "
            + " or ".join(part.name for part in parts)
        )
    quantised = [name for name in (*checkpoint.state_dict, *checkpoint.extras) if _QUANTISED in name]
    if quantised:
        return InputError(
            f"{checkpoint.name}: its head is quantised ({quantised[0]}). Give the weights of the network before it was"
        )
    pattern = rf"(?:.*\.)?{_HEAD}" if looks.classes else _HEAD
    if head := [name for name in checkpoint.state_dict if re.match(pattern, bare(name))]:
        return InputError(
            f"{checkpoint.name}: {looks}, with a head that is none of those known here, which are one linear layer "
            f"called {', '.join(dict.fromkeys(heads))}: {listed(head)}"
        )
    return InputError(
        f"{checkpoint.name}: has no classifier ({looks}): it is a trunk alone. Fine-tune it: `backbench run --backbone "
        f"{backbone}={checkpoint.path}`"
    )


def _with_head(checkpoint: Checkpoint, heads: Sequence[str], tensors: int) -> list[Checkpoint]:
    """The parts that hold such a layer, and about as many tensors as the network."""
    endings = [f"{head}.weight" for head in sorted(heads, key=len, reverse=True)]
    found = []
    for container, held in checkpoint.containers.items():
        for name, tensor in held.items():
            ending = next((each for each in endings if name.endswith(f".{each}")), "")
            inner = name.removesuffix(ending)
            if ending and tensor.ndim > 1 and 2 * sum(each.startswith(inner) for each in held) >= tensors:
                found.append(checkpoint.take(container, inner))
    return found
