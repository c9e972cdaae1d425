"""Gradients without PyTorch's engine for them, which needs a driver; the operators behind it do not."""

import itertools
from typing import Any
from unittest import mock

import torch
from torch import Tensor

_numbers = itertools.count()
"""Of backward passes: activation checkpointing computes once in each what it has not kept."""


def leave_gradients(loss: Tensor) -> None:
    """Do as `Tensor.backward`: each parameter behind the loss has a gradient, of its own shape, type and device.

    Raises TypeError for a loss that is not in single precision.
    """
    number = next(_numbers)
    if loss.dtype is not torch.float32:
        raise TypeError(f"a loss in {loss.dtype}: expected single precision")
    root: Any = loss.grad_fn
    waiting: dict[Any, dict[int, Tensor]] = {root: {0: torch.ones_like(loss)}}
    with torch.no_grad(), mock.patch("torch._C._current_graph_task_id", lambda: number):
        for node in _in_order(root):
            gradients = waiting.pop(node, None)
            if gradients is None:
                continue
            if hasattr(node, "variable"):
                _accumulate(node.variable, gradients[0])
                continue
            run = getattr(node, "apply", node)  # the former where an operator is written in Python
            found = run(*(gradients.get(slot) for slot in range(len(node._input_metadata))))
            parts = found if isinstance(found, tuple) else (found,)
            for (into, slot), gradient in zip(node.next_functions, parts, strict=False):
                if into is not None and gradient is not None:
                    _add(waiting.setdefault(into, {}), slot, _fitted(gradient, into._input_metadata[slot]))


def _in_order(root: Any) -> list[Any]:
    """All nodes of a graph, each before those that it hands gradients on to."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((each, False) for each, _ in node.next_functions if each is not None)]
    return order[::-1]


def _fitted(gradient: Tensor, expected: Any) -> Tensor:
    """A gradient in the shape and type of what it is of, which broadcasting and autocast have changed."""
    if gradient.device != expected.device:
        raise RuntimeError(f"a gradient on {gradient.device} of a tensor on {expected.device}")
    summed = gradient if gradient.shape == tuple(expected.shape) else gradient.sum_to_size(expected.shape)
    return summed if summed.dtype == expected.dtype else summed.to(expected.dtype)


def _add(sums: dict[int, Tensor], slot: int, gradient: Tensor) -> None:
    sums[slot] = sums[slot] + gradient if slot in sums else gradient


def _accumulate(variable: Tensor, gradient: Tensor) -> None:
    variable.grad = gradient.detach() if variable.grad is None else variable.grad + gradient
