"""Numbers that are the same to the last digit in every run on one kind of GPU: all sums in a fixed order."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from backbones.errors import InputError
from backbones.training.machine import CUBLAS_WORKSPACE, CUBLAS_WORKSPACES, device_type

_UNORDERED = re.compile(r"(\w+) does not have a deterministic implementation")
"""In the message of the RuntimeError that PyTorch raises for an operator which can only add as it comes."""


@contextmanager
def in_fixed_order(wanted: bool) -> Iterator[None]:
    """Within the block, if it is wanted, PyTorch adds in a fixed order; after it, as before.

    Operators that cannot are refused, not warned of: where a warning would do, PyTorch's attention keeps to kernels
    that add as it comes (attention_backward.cu). Raises InputError for the first of them, and for a workspace of cuBLAS
    under which its results depend on the order of work.
    """
    if not wanted:
        yield
        return
    _require_workspace()
    cudnn = torch.backends.cudnn
    former = cudnn.deterministic, cudnn.benchmark
    enabled, only_warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    except RuntimeError as error:
        if found := _UNORDERED.search(str(error)):
            raise InputError(
                f'key "runtime.deterministic": PyTorch {torch.__version__} has no {found[1]} that adds in a fixed '
                f"order on this device ({device_type()}). Leave it at false, with which numbers differ in their last "
                "digits from run to run, or choose a backbone and settings that do without"
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=only_warns)
        cudnn.deterministic, cudnn.benchmark = former


def _require_workspace() -> None:
    if device_type() != "cuda":
        return
    found = os.environ.setdefault(CUBLAS_WORKSPACE, CUBLAS_WORKSPACES[0])
    if found not in CUBLAS_WORKSPACES:
        raise InputError(
            f'key "runtime.deterministic": the environment has {CUBLAS_WORKSPACE}={found}, with which cuBLAS does not '
            f"add in a fixed order. Take it out, or set it to {' or '.join(CUBLAS_WORKSPACES)}"
        )
