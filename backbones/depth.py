"""Layers of a model whose author does not name them: by the numbers in its parameters' names."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from timm.models._manipulate import group_with_matcher
from torch import nn

from backbones.errors import InputError

Matcher = dict[str, Any] | Callable[[str], Any]
"""What timm's `group_with_matcher` takes: expressions, or a function from a parameter's name to its layer's place."""

_FIRST, _LAST = -1.0, float("inf")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_UNDECAYED = re.compile(
    r"(.*\.)?((cls|class|dist|distillation|reg|register|mask)_?tokens?|(abs(olute)?_)?pos(ition(al)?)?_?emb(ed|edding)?s?"
    r"|(cls|class)_embed(ding)?)(\.weight)?"
)


def layer_matcher(module: nn.Module) -> Matcher:
    """The module's own `group_matcher`, or layers by the depth of its parameters' names.

    The list of numbered modules that holds most numbers gives the layers (`blocks.0`, `encoder.layer.0`, `layer1`), and
    a list within each of its entries that holds most of that one's the layers within (`stages.0.blocks.0`). What stands
    before a list, in the order of the parameters, is one layer, and so is what stands behind it.
    """
    own = getattr(module, "group_matcher", None)
    if callable(own):
        matcher: Matcher = own()
        return matcher
    places = places_of(module)
    return lambda name: places.get(name, (_LAST,))


def layers_below(prefix: str, module: nn.Module) -> Callable[[str], tuple[float, ...]]:
    """The place in depth of a parameter by its name in a model that has `module` under `prefix`; all else is behind."""
    outside = ""  # a name that no matcher knows
    names = [name for name, _ in module.named_parameters()]
    layers = group_with_matcher(((name, None) for name in [*names, outside]), layer_matcher(module), reverse=True)
    last = layers.pop(outside)
    places = {f"{prefix}{name}": (float(layer),) for name, layer in layers.items() if layer < last}
    return lambda name: places.get(name, (_LAST,))


def places_of(module: nn.Module) -> dict[str, tuple[float, ...]]:
    """Where in the module's depth each of its parameters stands, by the numbers in their names.

    Two numbers for those of a list, that of its entry and of the one within; one alone for what is before or behind it.
    """
    return _places({name: parameter.numel() for name, parameter in module.named_parameters()})


def require_layers(module: nn.Module) -> None:
    """Raise InputError if `layer_matcher` cannot tell a module's layers from each other."""
    if callable(getattr(module, "group_matcher", None)):
        return
    if len({*places_of(module).values()}) > 1:
        return
    name, key = type(module).__name__, 'key "optimizer.layer_decay"'
    if again := _registered_again(module):
        raise InputError(
            f"{key}: {again[1]} of {name} is {again[0]} once more, and what is in several layers cannot learn at the "
            "rates of all. Use --set optimizer.layer_decay=null"
        )
    raise InputError(
        f"{key}: the parameters of {name} have no numbers that would tell its layers, such as blocks.0. Hold the "
        "blocks in an nn.ModuleList or nn.Sequential, give it group_matcher(coarse=False) as timm's models have it, or "
        "use --set optimizer.layer_decay=null"
    )


def _registered_again(module: nn.Module) -> tuple[str, str] | None:
    """The first two names of the first module with parameters that has several."""
    names: dict[nn.Module, str] = {}
    for name, inner in module.named_modules(remove_duplicate=False):
        if next(inner.parameters(), None) is not None and names.setdefault(inner, name) != name:
            return names[inner], name
    return None


def undecayed(module: nn.Module) -> set[str]:
    """Names of parameters that have no weight decay, whatever their shape: as the module says, or by their names."""
    own = getattr(module, "no_weight_decay", None)
    if callable(own):
        return set(own())
    return {name for name, _ in module.named_parameters() if _UNDECAYED.fullmatch(name)}


def _places(sizes: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
    """Where in the model's depth each parameter stands; all in one place if nothing is numbered."""
    main = _main_list(sizes)
    if main is None:
        return dict.fromkeys(sizes, (0.0,))
    members: dict[int, dict[str, int]] = defaultdict(dict)
    places: dict[str, tuple[float, ...]] = {}
    for name, size in sizes.items():
        if (number := _number_in(name, main)) is None:
            places[name] = (_LAST if members else _FIRST,)
        else:
            members[number][name] = size
    for number, inner in members.items():
        places |= {name: (float(number), place) for name, place in _places_within(inner, f"{main}{number}.").items()}
    return places


def _places_within(sizes: Mapping[str, int], prefix: str) -> dict[str, float]:
    """The same within an entry of the list: what is beside a list in it goes with that one's first or last entry."""
    nested = _main_list(sizes, prefix)
    if nested is None:
        return dict.fromkeys(sizes, 0.0)
    numbers = {name: _number_in(name, nested) for name in sizes}
    known = [number for number in numbers.values() if number is not None]
    places, begun = {}, False
    for name, number in numbers.items():
        begun = begun or number is not None
        places[name] = float(number if number is not None else max(known) if begun else min(known))
    return places


def _main_list(sizes: Mapping[str, int], within: str = "") -> str | None:
    """What stands before the numbers of the list that holds most; within another list's entry one that holds over half.

    Lists are `NAME.0.…`, `NAME.1.…`; outside another, modules that are numbered side by side as well (`layer1.…`).
    Within another the entries have to be made of modules: `mlp.0.weight` is a layer, and no block.
    """
    held: dict[str, int] = defaultdict(int)
    numbers: dict[str, set[int]] = defaultdict(set)
    for name, size in sizes.items():
        parts = name[len(within) :].split(".")
        for depth, part in enumerate(parts[:-1]):
            parted, deeper = _NUMBERED.fullmatch(part), depth + 2 < len(parts)
            if parted and (deeper if within else deeper or part.isdigit()) and (part.isdigit() or not within):
                before = within + "".join(f"{each}." for each in parts[:depth]) + parted[1]
                held[before] += size
                numbers[before].add(int(parted[2]))
                break
    least = sum(sizes.values()) / 2 if within else 0
    lists = [before for before in held if held[before] > least and (within or len(numbers[before]) > 1)]
    return max(lists, key=lambda before: held[before]) if lists else None


def _number_in(name: str, main: str) -> int | None:
    found = re.match(rf"{re.escape(main)}(\d+)\.", name)
    return int(found[1]) if found else None
