"""A recipe's section "runtime": how the machine goes about a job."""

from typing import Annotated, Literal

from pydantic import Field

from backbones.training.machine import Device
from backbones.training.sections import PositiveInt, Settings


class RuntimeSettings(Settings):
    """How the machine goes about it. Nothing here belongs to the protocol, nothing here is part of a run's key."""

    batch_per_device: Annotated[
        PositiveInt | None,
        Field(
            description="images per step and process; gradients accumulate up to batch_size, but batch norm and mixup "
            "see these images only"
        ),
    ] = None
    device: Annotated[
        Device, Field(description="auto: cuda where there is a GPU; several processes on a CPU have to be asked for")
    ] = "auto"
    workers: Annotated[
        int | None, Field(ge=0, description="loader processes; by default one a processor, 10 at most")
    ] = None
    activation_checkpointing: Annotated[
        bool, Field(description="compute the blocks' activations twice, to hold them in less memory")
    ] = False
    allow_changed_steps: Annotated[
        bool, Field(description="go on with a run although batch norm or mixup would see another number of images")
    ] = False
    compile: Annotated[
        bool, Field(description="compile the network, which takes a minute for each size and number of images")
    ] = False
    deterministic: Annotated[
        bool, Field(description="let a GPU add in a fixed order only, for numbers that are the same to the last digit")
    ] = False
    profile: Annotated[
        bool, Field(description="leave a trace of a few steps in profile/, for chrome://tracing or ui.perfetto.dev")
    ] = False
    shared_directory_seconds: Annotated[
        float, Field(gt=0, description="within which all machines have to see the run's directory")
    ] = 30.0
    log_every: Annotated[PositiveInt, Field(description="iterations between two lines of log.jsonl")] = 50
    checkpoint_every: Annotated[PositiveInt | None, Field(description="iterations; by default once an epoch")] = None
    keep_checkpoints: Annotated[
        int, Field(ge=0, description="how many; 0: one as long as the run is at work, then none, the weights stay")
    ] = 2
    pictures_every: Annotated[
        PositiveInt | None, Field(description="epochs between pictures; by default ten times")
    ] = None
    trackers: Annotated[
        tuple[Literal["wandb", "mlflow"], ...],
        Field(
            strict=False,
            description="where TensorBoard's figures are shown too; each is a package of the extra backbench[trackers]",
            examples=[("wandb", "mlflow")],
        ),
    ] = ()
