"""A whole network's tensors into the network: name by name, shape by shape, or not at all."""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from backbones.errors import InputError
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.conversion import Weights
from backbones.weights.loading import LoadReport, is_finite
from backbones.weights.prefixes import prefixes_in

Step = Callable[[Weights, nn.Module], None]
"""Part of the way from a file's names to the network's. Raises InputError where the file is not of its kind."""

_SHOWN = 6


def load_trained(network: nn.Module, checkpoint: Checkpoint, steps: Iterable[Step] = (), kind: str = "") -> LoadReport:
    """Load a checkpoint into a whole network, trunk and head, and report what landed where.

    steps: what leads from the file's names to the network's; none for a file of our own
    kind:  what the file is read as, in words, "a run's weights" by default

    Raises InputError, and leaves the network as it was, unless every key of the file is used or dropped for a reason,
    every tensor of the network found or initialised for a reason, in its shape, and every number finite.
    """
    steps = tuple(steps)
    try:
        weights = _named(network, checkpoint, steps)
    except InputError as error:
        raise InputError(f"{checkpoint.name}: {error}") from error
    own = network.state_dict()
    if misfits := _misfits(weights, own):
        told = kind or "a run's weights"
        first = f"{checkpoint.name}: does not fit the network, read as {told}; nothing was loaded."
        raise InputError("\n".join([first, *misfits, *_advice(network, checkpoint, steps)]))
    _require_finite(weights, checkpoint)
    network.load_state_dict(own | weights.tensors, strict=True)
    used = {key for keys in weights.sources.values() for key in keys}
    return LoadReport(
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        method=kind,
        used=dict(weights.sources),
        dropped={key: reason for key, reason in weights.dropped.items() if key not in used},
        initialised=dict(weights.initialised),
        converted=dict(weights.converted),
        part=checkpoint.part,
    )


def _named(network: nn.Module, checkpoint: Checkpoint, steps: tuple[Step, ...]) -> Weights:
    """Its tensors under the network's names, as far as the steps lead there."""
    weights = Weights.from_file(checkpoint.state_dict, checkpoint.grid, checkpoint.prefix)
    for step in steps:
        step(weights, network)
    return weights


def _misfits(weights: Weights, own: Mapping[str, Tensor]) -> list[str]:
    """Lines on tensors that are missing, too many or of another shape."""
    tensors = weights.tensors
    missing = [name for name in own if name not in tensors and name not in weights.initialised]
    surplus = ["+".join(weights.sources[name] or (name,)) for name in tensors if name not in own]
    shapes = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    ]
    lines = []
    if missing:
        lines.append(f"  {len(missing)} of the network's {len(own)} tensors are not in the file: {_listed(missing)}")
    if surplus:
        lines.append(f"  {len(surplus)} of the file's keys have no place in the network: {_listed(surplus)}")
    if shapes:
        lines.append(f"  {len(shapes)} have another shape: {_listed(shapes)}")
    return lines


def _advice(network: nn.Module, checkpoint: Checkpoint, steps: tuple[Step, ...]) -> list[str]:
    """Which parts of a file that does not fit do."""
    own, found = network.state_dict(), list[Checkpoint]()
    for container, tensors in checkpoint.containers.items():
        for prefix, (_, count) in prefixes_in(tensors).items():
            part = checkpoint.take(container, prefix)
            is_inner = any(part.container == each.container and part.prefix.startswith(each.prefix) for each in found)
            if 2 * count < len(own) or is_inner or (container == checkpoint.container and not prefix):
                continue
            try:
                fits = not _misfits(_named(network, part, steps), own)
            except (InputError, LookupError, ValueError, RuntimeError):  # a step makes nothing of this part's names
                continue
            if fits:
                found.append(part)
    if len(found) > 1:
        return [f"  Several of its parts fit. Say which is meant: {' or '.join(part.name for part in found)}"]
    return [
        f"  A part of it fits{f', without {_listed([*part.beside])}' if part.beside else ''}: give {part.name}"
        for part in found
    ]


def _require_finite(weights: Weights, checkpoint: Checkpoint) -> None:
    floating = ((name, tensor) for name, tensor in weights.tensors.items() if tensor.is_floating_point())
    if broken := [name for name, tensor in floating if not is_finite(tensor)]:
        raise InputError(
            f"{checkpoint.name}: infinite or undefined numbers in {_listed(broken)}. The training that wrote it "
            "diverged, or the file is damaged"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
