"""Trying an objective on a few images, so that a bad one is refused before anything trains."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.features import in_half_if_need_be
from backbones.plugins import describe_error
from backbones.training.machine import device_type
from backbones.training.randomness import seed_generators

_IMAGES = 2
_SAME_ON_A_GPU = 1e-4
"""What two losses of a GPU may differ by and be the same: some kernels add in no fixed order."""


def loss_in(given: object, who: str) -> Tensor:
    """The loss in what an objective's forward gives, in single precision.

    who: how the message begins of the InputError that is raised if there is none
    """
    loss = given.get("loss") if isinstance(given, Mapping) else given
    if not isinstance(loss, Tensor):
        keys = f" of {', '.join(map(str, given)) or 'nothing'}" if isinstance(given, Mapping) else ""
        raise InputError(
            f"{who}: its forward gives a {type(given).__name__}{keys}, expected the loss, or a mapping that has it as "
            '"loss"'
        )
    if loss.is_complex():
        raise InputError(f"{who}: its loss is a complex number, expected a real one")
    return loss.float()


def try_objective(build: Callable[[], nn.Module], name: str, image_size: int, seed: int) -> None:
    """Have an objective built twice, take losses of both and gradients, as its training would.

    Raises InputError if it fails, if the loss is no finite scalar or has no gradient, if a parameter that is trained
    has none, and if the same seed gives other weights or another loss: then it draws from a generator of its own, or
    keeps outside of its state dict what decides the loss.
    """
    who = f"pre-training {name}"
    seed_generators(seed, "weights")
    network = build()
    _require_precision(network, who)
    weights = _digests(network)
    loss = _loss(network, who, image_size, seed, gradients=True)
    network.zero_grad()
    seed_generators(seed, "weights")
    other = build()
    reason = "so it draws from a generator of its own, and a resumed run would give other numbers. Draw from torch's"
    if weights != _digests(other):
        raise InputError(f"{who}: built twice after the same seed it has other weights, {reason}")
    _load_back(network, other, who)
    resumed = _loss(network, who, image_size, seed)
    if _differ(loss, _loss(other, who, image_size, seed)):
        raise InputError(f"{who}: the same images, weights and seed give another loss, {reason}")
    if _differ(loss, resumed):
        raise InputError(
            f"{who}: its loss depends on what an earlier step left outside of its state dict, and a resumed run would "
            "give other numbers. Keep that as a parameter or a buffer (register_buffer)"
        )


def _load_back(network: nn.Module, fresh: nn.Module, who: str) -> None:
    """Bring a module that has made a step back to the state of one that has been built; resuming does the reverse."""
    try:
        network.load_state_dict(fresh.state_dict())
    except Exception as error:  # another author's state can fail in any way
        raise InputError(
            f"{who}: the state dict of one that has been built does not load into one that has made a step, so no run "
            f"could be resumed: {' '.join(str(error).split())}"
        ) from error


def _digests(network: nn.Module) -> list[float]:
    return [
        each.double().sum().nan_to_num().item() for each in network.state_dict().values() if isinstance(each, Tensor)
    ]


def _differ(loss: float, other: float) -> bool:
    return abs(loss - other) > (_SAME_ON_A_GPU * abs(loss) if device_type() == "cuda" else 0.0)


def _require_precision(network: nn.Module, who: str) -> None:
    halves = (torch.float16, torch.bfloat16)
    if half := next((name for name, weight in network.named_parameters() if weight.dtype in halves), ""):
        raise InputError(
            f"{who}: its parameter {half} is in half precision. Build it in single precision: the recipe's `precision` "
            "says in which it computes"
        )


def _loss(network: nn.Module, who: str, image_size: int, seed: int, gradients: bool = False) -> float:
    """The loss of the same random images, every time."""
    network.to(device_type()).train()
    seed_generators(seed, "trial")
    images = torch.randn(_IMAGES, 3, image_size, image_size).to(device_type())
    try:
        given = in_half_if_need_be(lambda: network(images), device_type())
    except (Exception, SystemExit) as error:  # another author's module can fail in any way
        raise InputError(
            f"{who}: its forward, called with {_IMAGES} images of {image_size} pixels alone, failed with "
            f"{describe_error(error)}"
        ) from error
    loss = loss_in(given, who)
    if loss.ndim:
        raise InputError(f"{who}: its loss has the shape {tuple(loss.shape)}, expected a scalar: a mean, for example")
    if not loss.isfinite():
        raise InputError(f"{who}: its loss of {_IMAGES} images of random numbers is {loss.item()}, expected a number")
    if gradients:
        _require_gradients(network, loss, who)
    return loss.item()


def _require_gradients(network: nn.Module, loss: Tensor, who: str) -> None:
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    if not loss.requires_grad or not trained:
        raise InputError(
            f"{who}: its loss has no gradient: it is detached, or taken without gradients, or depends on no parameter "
            "with requires_grad=True"
        )
    try:
        loss.backward()
    except RuntimeError as error:
        raise InputError(
            f"{who}: the gradients of its loss cannot be taken ({str(error).partition('. ')[0]}). Its forward gives "
            "the loss alone; backward and the optimizer's step are the run's"
        ) from error
    without = [name for name, weight in trained.items() if weight.grad is None]
    if without:
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise InputError(
            f"{who}: its loss does not depend on {', '.join(without[:3])}{more}, which several processes cannot train. "
            "Leave out what is not used, or set requires_grad=False"
        )
    broken = [name for name, weight in trained.items() if not weight.grad.isfinite().all()]  # type: ignore[union-attr]
    if broken:
        raise InputError(f"{who}: the gradient of {broken[0]} is no finite number, as of {len(broken) - 1} more")
