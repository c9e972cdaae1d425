"""Random numbers as a function of where we are, so that a resumed run draws what an uninterrupted one would have."""

import hashlib
import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner


def mix(*keys: int | str) -> int:
    """A 63-bit seed from any number of keys; a change in one of them gives unrelated numbers."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(*keys: int | str) -> None:
    """Seed Python's, NumPy's and torch's global generators (all devices) from the keys."""
    seed = mix(*keys)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed)


class RandomnessHook(Hook):
    """Seeds everything before an iteration from (seed, iteration, process).

    What happens inside an iteration (masks, drop path, mixup) then never depends on how often the run was stopped.
    """

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        seed_generators(self.seed, "iteration", batch_idx, get_rank())
