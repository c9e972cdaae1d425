"""Which images an iteration sees."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from backbones.training.randomness import mix

Draw = tuple[int, int]
"""(index of the image, epoch): all that an image's random augmentation depends on, beside the run's seed."""


class EpochBatchSampler(Sampler[list[Draw]]):
    """Endless batches: every epoch a new permutation, cut into batches, the incomplete last one dropped.

    An update's images are a function of (seed, update), whatever the number of processes and of accumulation steps
    that share them. `start` is the iteration to begin with. Raises ValueError where a batch cannot be cut into equal
    parts, and where there are fewer images than it takes.
    """

    def __init__(
        self, images: int, batch_size: int, *, seed: int, accumulation: int = 1, rank: int = 0, processes: int = 1
    ) -> None:
        if batch_size % (processes * accumulation):
            raise ValueError(f"a batch of {batch_size} cannot be cut into {processes} × {accumulation} equal parts")
        if batch_size > images:
            raise ValueError(f"a batch takes {batch_size} images, and there are {images}")
        self.images, self.batch_size, self.seed = images, batch_size, seed
        self.rank, self.processes = rank, processes
        self.iterations_per_epoch = images // batch_size * accumulation
        self.start = 0

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self.images // self.batch_size * self.batch_size // self.iterations_per_epoch
        share = step // self.processes
        epoch, skip = divmod(self.start, self.iterations_per_epoch)
        while True:
            order = np.random.default_rng(mix(self.seed, "epoch", epoch)).permutation(self.images)
            for iteration in range(skip, self.iterations_per_epoch):
                first = iteration * step + self.rank * share
                yield [(int(index), epoch) for index in order[first : first + share]]
            epoch, skip = epoch + 1, 0
