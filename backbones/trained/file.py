"""`weights.safetensors`: a trained network's tensors, without the optimizer, and all that is needed to use them.

The description lies in the file's header, each field under its own name: words as they are, all else as JSON. `method`,
`pretrain_data` and `model` say whose weights they are, for whoever takes the file for a backbone's; what the run was
recorded under stands in `run`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from backbones.errors import DataError, not_written
from backbones.trained import WEIGHTS
from backbones.training.tensors import write_tensors
from backbones.training.writing import check_before_writing, written_whole
from backbones.weights.deviating import in_short, stating


class Description(BaseModel):
    """What a trained network is.

    task:           what it was trained for: "classification", …, or "pretraining"
    method, pretrain_data, model: of these weights, which have seen the labels of the task's data as well
    recipe:         all settings of the recipe
    classes:        their names, in the order of the network's outputs; empty in pre-training
    class_ids:      the number of each in the data, where those are others than their positions: COCO's category ids
    normalisation:  "mean" and "std" of pixels between 0 and 1
    metrics:        what the run measured, by the metric's name
    run:            how its record calls it: backbone, dataset, seed, key, method, pretrain_data, model, …
    """

    model_config = ConfigDict(frozen=True)

    task: str
    method: str
    pretrain_data: str
    model: str
    recipe: dict[str, Any]
    classes: list[str]
    class_ids: list[int] = []
    normalisation: dict[str, tuple[float, float, float]]
    metrics: dict[str, float]
    run: dict[str, Any]

    @property
    def deviations(self) -> str:
        """In short, where the training departed from the literature's; empty where it did not."""
        return in_short(self.run.get("deviations", ()))

    def header(self) -> dict[str, str]:
        """As strings, for the file's header; mean, std and deviations by themselves too, as other files have them."""
        own = {name: value if name in _WORDS else json.dumps(value) for name, value in self.model_dump().items()}
        normalisation = {name: json.dumps(values) for name, values in self.normalisation.items()}
        return own | normalisation | stating(self.deviations)


_WORDS = ("task", "method", "pretrain_data", "model")


def write_weights(directory: Path, network: nn.Module, description: Description) -> Path:
    """Write `directory/weights.safetensors`, whole or not at all; its path.

    What killed processes left of it goes before. Raises what `not_written` gives where it cannot be written.
    """
    path = directory / WEIGHTS
    try:
        check_before_writing()
        for left in directory.glob(f".{WEIGHTS}.*"):
            left.unlink(missing_ok=True)
        with written_whole(path) as file:
            write_tensors(file, _tensors_of(network), {"format": "pt", **description.header()})
    except OSError as error:
        reason = error.strerror or error
        raise not_written(
            f"{path}: cannot be written ({reason}). Make room and repeat the command: nothing is trained again",
            error.errno,
        ) from error
    return path


def _tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """On the CPU, each with memory of its own, as the format wants it."""
    held: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        held[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return held


def read_description(path: Path) -> Description | None:
    """What a file of ours says of its network; None of any other file.

    Raises DataError for one of ours whose header is not as `write_weights` writes it.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
    except (OSError, safetensors.SafetensorError):
        return None
    if not {"task", "run", "recipe"} <= header.keys():
        return None
    try:
        return Description(
            **{
                name: value if name in _WORDS else json.loads(value)
                for name, value in header.items()
                if name in Description.model_fields
            }
        )
    except (ValueError, ValidationError) as error:
        reason = "; ".join(str(error).splitlines()[:3])
        raise DataError(
            f"{path}: its header does not describe a trained network ({reason}). Take the file as the run wrote it"
        ) from error
