"""Every probe on features from command to record on a GPU that is only claimed: see `tests.support.rehearsal`."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tests.support.commands import read_record, run_arguments
from tests.support.in_process import success
from tests.support.rehearsal import rehearsal

SETTINGS: dict[str, dict[str, Any]] = {
    "mini_knn": {},
    "mini_linear_grid": {"grid__iterations": 4, "grid__views": 2},
    "mini_logistic_regression": {"regression__steps": 2},
    "mini_few_labels": {"few_labels__per_class": "[1,2]", "few_labels__draws": 2},
}


@pytest.mark.parametrize("recipe", SETTINGS)
def test_features_and_what_is_learnt_from_them(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    """Features come out without content: that they are all the same is overlooked, and they are not kept for others.

    The products of single pairs are left out, for no neighbour is known: see the next test.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = run_arguments(mini, tmp_path / "out", recipe=recipe, precision="bf16", **SETTINGS[recipe])
    looked_at = ("_require_different", "_require_directions")
    with rehearsal() as gpu, mock.patch.multiple("tasks.probing.task", **dict.fromkeys(looked_at, mock.DEFAULT)):
        success(*arguments, "--set", "runtime.workers=0")
    assert torch.bfloat16 in gpu.evaluated
    assert read_record(tmp_path / "out")["device"] == "a claimed GPU"


def test_products_of_single_pairs_have_a_kernel() -> None:
    """As far as PyTorch was built with kernels for GPUs."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    if not has_kernel("aten::mm", "CUDA"):
        pytest.skip("PyTorch without kernels for GPUs")
    assert has_kernel("aten::sparse_sampled_addmm", "SparseCsrCUDA")
