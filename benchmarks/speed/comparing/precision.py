"""In which precision training steps are compared."""

from backbones.training.precision import Precision, resolve_precision


def precision_on(device: str) -> Precision:
    """That of jobs on a GPU: bf16, or fp16 where it lacks that; single on a CPU."""
    return "fp32" if device == "cpu" else resolve_precision("auto", device)


def named(precision: Precision) -> str:
    """As tables have it."""
    return precision if precision == "fp32" else f"{precision} autocast"
