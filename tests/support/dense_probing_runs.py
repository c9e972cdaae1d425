"""Dense probes of a second or two."""

from pathlib import Path
from typing import Any

from tests.support.commands import run_arguments

TINY: dict[str, Any] = {
    "schedule__iterations": 4,
    "schedule__warmup_iterations": 1,
    "optimizer__batch_size": 2,
    "model__image_size": 32,
    "augment__resize": "[128, 32]",
    "inference__resize": "[128, 32]",
    "inference__stride": 24,
    "runtime__workers": 0,
    "runtime__log_every": 1,
    "runtime__checkpoint_every": 2,
}


def dense_probe(
    data: Path, out: Path, backbone: str = "random_vit_mini", seed: int = 0, **changes: object
) -> list[str]:
    """The arguments of a run with `TINY` settings on the scenes of `tests.support.segmentation_runs`."""
    return run_arguments(data, out, backbone, seed, "mini_dense_probing", **TINY | changes)
