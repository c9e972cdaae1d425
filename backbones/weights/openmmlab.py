"""What a checkpoint of OpenMMLab's says of itself: its classes, and the configuration that its network was built from.

mmcv (up to 1.x) and mmengine keep both beside the weights, under `meta`. The configuration is a text in Python, of
which nothing is run: what is no literal there has no value here.
"""

import ast
from collections.abc import Mapping
from typing import Any

_UNKNOWN = None
"""What stands for a value that is no literal."""


def stated_classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the classes, in the order of the network's outputs; empty where the file has none."""
    of_data = meta.get("dataset_meta")
    found = of_data.get("classes") if isinstance(of_data, Mapping) else meta.get("CLASSES")
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        return ()
    return tuple(" ".join(name.split()) for name in found)


def stated_configuration(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as dictionaries, lists and literals; empty where the file has none that can be read."""
    text = next((meta[name] for name in ("cfg", "config") if isinstance(meta.get(name), str)), "")
    try:
        lines = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values: dict[str, Any] = {}
    for line in lines:
        if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
            values[line.targets[0].id] = _value(line.value, values)
    return values


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return known.get(node.id, _UNKNOWN)
        case ast.List() | ast.Tuple():
            return [_value(each, known) for each in node.elts]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Dict():
            pairs = zip(node.keys, node.values, strict=True)
            return {key.value: _value(value, known) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.Call(func=ast.Name(id="dict"), args=[]):
            return {each.arg: _value(each.value, known) for each in node.keywords if each.arg}
    return _UNKNOWN


def looked_up(configuration: Any, *names: str) -> Any:
    """What stands under one name within the other; None where there is nothing."""
    for name in names:
        if not isinstance(configuration, Mapping):
            return None
        configuration = configuration.get(name)
    return configuration
