"""Updates on a GPU that is only claimed, as the self-test tries them on a real one."""

import pytest
import torch

from benchmarks.selftest.full_size import FITS, build_update, recipe_on_one_device
from benchmarks.selftest.random_batches import random_batch
from benchmarks.selftest.updates import CASES, Case, compare_updates
from tests.support.rehearsal import ENLARGING, rehearsal


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_an_update_in_full_size(name: str) -> None:
    """With two images: how many there are decides no device and no precision."""
    recipe = recipe_on_one_device(name)
    with rehearsal() as gpu, gpu.leaving_out(ENLARGING):
        batch = random_batch(recipe, 2, "cuda")
        model, optimizer = build_update(recipe, "cuda")
        losses = model.train_step(batch, optimizer)
    assert {(each.device.type, each.dtype) for each in losses.values()} == {("cuda", torch.float32)}
    assert gpu.trained == {torch.bfloat16}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recipe)
def test_updates_of_the_optimizer(case: Case) -> None:
    with rehearsal():
        assert compare_updates(case, "cuda") == 0  # the host reads no other numbers
