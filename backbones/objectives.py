"""Objectives of pre-training: modules that give a loss from images, by a name or as `package.module:function`.

An objective is an nn.Module in single precision.

- `forward(images)` takes normalised images (B, 3, H, W) and gives the loss, a scalar, or a mapping that has it as
  "loss". In training mode that is all that is called.
- What it leaves behind for the tasks is `encoder_state_dict()`, or else the state dict of its attribute `encoder`.
- `set_grad_checkpointing(True)`, if there is one, makes it compute activations twice; `no_weight_decay()` names the
  parameters that do not decay, beside those of one dimension, none of which does.

What an author can rely on, and must keep to, so that a resumed run gives the same numbers, bit for bit: before every
step Python's, NumPy's and torch's generators, on all devices, are seeded from the run's seed, the step and the
process, and before the function is called from the run's seed. Noise is drawn from those, in `forward`, and from no
generator that is kept. All that outlives a step is a parameter or a buffer of the state dict: a teacher's parameters
with `requires_grad=False`, moved in `forward`. Several processes draw differently and their gradients are averaged;
buffers are kept of the first one, so what is to be the same in all has to be made the same by the module.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET, Normalisation
from backbones.mae.model import list_mae_models
from backbones.plugins import describe_error, import_function, load_plugins, note_registration, require_words

BuildObjective = Callable[..., nn.Module]
"""(image_size, **settings) -> the objective, its weights random."""


@dataclass(frozen=True)
class Objective:
    """What is known of an objective before it is built.

    name:          as in a recipe's `model.arch`
    method:        as the tables print it
    arch:          the encoder's: a name that `backbench run --backbone` takes; empty if its author does not say
    build:         see BuildObjective
    normalisation: of its images, unless a recipe insists on another
    registered_by: the module of the plug-in that registered it, "" where it is none's
    """

    name: str
    method: str
    arch: str
    build: BuildObjective
    normalisation: Normalisation = IMAGENET
    registered_by: str = ""


_objectives: dict[str, Objective] = {}


def register_pretraining(
    name: str,
    *,
    method: str,
    arch: str = "",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Callable[[BuildObjective], BuildObjective]:
    """Register, as a decorator, a function (image_size, **settings) -> nn.Module as the objective of that name.

    `backbench pretrain --set model.arch=NAME` trains it; what else stands in the recipe's `model` is passed to the
    function. method is the row of the tables that its encoder comes to stand in, arch the backbone that the encoder is,
    as `backbench run` takes it. mean and std are those of its pixels, of red, green and blue; ImageNet's by default.

    Raises InputError if the name is taken, or mean and std cannot be meant.
    """
    require_words(f"pre-training {name}", name=name, method=method, **({"arch": arch} if arch != "" else {}))
    if ":" in name:
        raise InputError(f"pre-training {name}: expected a name without :, which a module and its function have.")
    if name in _objectives or name in list_mae_models():
        raise InputError(f"pre-training {name}: the name is taken. Register it under another.")
    try:
        normalisation = Normalisation.of(mean, std) or IMAGENET
    except InputError as error:
        raise InputError(f"pre-training {name}: {error}") from None

    def register(build: BuildObjective) -> BuildObjective:
        by = note_registration(name)
        _objectives[name] = Objective(name, method, arch, build, normalisation, by)
        return build

    return register


def is_objective(name: str) -> bool:
    """Whether `model.arch` names an objective from code: registered, or `package.module:function`."""
    if name in list_mae_models():
        return False
    if ":" not in name and name not in _objectives:
        load_plugins()
    return ":" in name or name in _objectives


def find_objective(name: str) -> Objective:
    """What is known of an objective. One that is not registered is a method by the name of its function.

    Raises InputError for an unknown name, with the nearest known ones and the plug-ins that could not be loaded, and
    for code that cannot be imported.
    """
    if name in _objectives:
        return _objectives[name]
    if ":" in name:
        return Objective(name, name.partition(":")[2], "", import_function(name, "pre-training"))
    failures = load_plugins()
    if name in _objectives:
        return _objectives[name]
    known = [*list_mae_models(), *_objectives]
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    unknown = f'key "model.arch": nothing to pre-train is called {name!r}. Nearest: {", ".join(nearest)}'
    raise InputError("\n".join([f"{unknown}; or code, as package.module:function", *failures]))


def build_objective(objective: Objective, image_size: int, settings: Mapping[str, Any]) -> nn.Module:
    """Build an objective under a recipe's settings.

    Raises InputError for settings that its function does not take, or lacks, if the function fails, and if what it
    gives is no module or leaves no encoder.
    """
    _require_fitting(objective, image_size, settings)
    try:
        network = objective.build(image_size, **settings)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # another author's function can fail in any way
        given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        under = f", under model settings {given}" if given else ""
        raise InputError(
            f"pre-training {objective.name}: building it failed with {describe_error(error)}{under}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"pre-training {objective.name}: its function gives {type(network).__name__}, expected a torch.nn.Module"
        )
    if hasattr(network, "_orig_mod"):
        raise InputError(
            f"pre-training {objective.name}: its function gives a module that is compiled. Give the module itself, and "
            "set runtime.compile=true"
        )
    if lazy := [name for name, weight in network.named_parameters() if is_lazy(weight)]:
        raise InputError(
            f"pre-training {objective.name}: {lazy[0]} has no numbers before a first pass. Build it of layers that are "
            "told their widths"
        )
    encoder_weights(network, objective.name)
    return network


def encoder_weights(network: nn.Module, name: str) -> dict[str, Tensor]:
    """What an objective leaves behind for the tasks. Raises InputError if that is nothing."""
    encoder, state_dict = getattr(network, "encoder", None), getattr(network, "encoder_state_dict", None)
    if callable(state_dict):
        try:
            weights = state_dict()
        except Exception as error:  # another author's method can fail in any way
            raise InputError(
                f"pre-training {name}: its encoder_state_dict() failed with {describe_error(error)}"
            ) from error
    elif isinstance(encoder, nn.Module):
        weights = encoder.state_dict()
    else:
        raise InputError(
            f"pre-training {name}: {type(network).__name__} leaves no encoder behind. Give it an attribute `encoder`, "
            "or a method encoder_state_dict() that returns the weights by their names"
        )
    is_mapping = isinstance(weights, Mapping) and all(isinstance(each, Tensor) for each in weights.values())
    if not is_mapping or not weights:
        raise InputError(
            f"pre-training {name}: the encoder of {type(network).__name__} is not a mapping of names to tensors, of "
            "which there has to be one at least"
        )
    return dict(weights)


def parameters_of(objective: Objective) -> set[str]:
    """The names of what an objective's function takes beside the image size."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(objective.build).parameters.values())[1:]
    return {each.name for each in parameters if each.kind in kinds}


def _require_fitting(objective: Objective, image_size: int, settings: Mapping[str, Any]) -> None:
    try:
        inspect.signature(objective.build).bind(image_size, **settings)
    except TypeError as error:
        taken = ", ".join(sorted(parameters_of(objective))) or "nothing"
        raise InputError(
            f'key "model": {objective.name} does not fit these settings ({error}). Its function is called with the '
            f"image size, by its place, and takes {taken} beside it"
        ) from None
