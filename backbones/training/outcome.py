"""What comes out of a job, for its record."""

from dataclasses import dataclass

from backbones.training.step_images import StepImages


@dataclass(frozen=True)
class Outcome:
    """What a finished training says of itself, for the record; of an evaluation alone there is no training's.

    seconds and evaluation_seconds are those of all parts of the run, peak_memory_mb of the largest process.

    device, cuda, driver, processes: those of the last part that trained; what only evaluates leaves them alone
    earlier_seconds: what the parts before this one took, with all around training and evaluation
    step_images:     of each part in which steps differed from those before it; none if all training was an earlier
                     version's
    """

    train_loss: float | None
    images_per_second: float | None
    peak_memory_mb: float
    seconds: float | None
    evaluation_seconds: float
    earlier_seconds: float
    corrupt: dict[str, str]
    precision: str
    device: str
    cuda: str
    driver: str
    processes: int
    step_images: tuple[StepImages, ...]
    metrics: dict[str, float]
