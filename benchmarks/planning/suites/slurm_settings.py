"""The section `slurm` of site files: what a cluster is asked for, for every cell or for those of one recipe."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from backbones.training.settings import Settings

OURS = {
    "array": "array_parallelism",
    "time": "time",
    "signal": "signal_seconds",
    "nodes": "nodes",
    "ntasks": "gpus_per_node",
    "ntasks-per-node": "gpus_per_node",
    "cpus-per-task": "cpus_per_task",
    "dependency": "",
    "error": "",
    "open-mode": "",
    "output": "",
    "parsable": "",
    "requeue": "",
    "no-requeue": "",
    "wait": "",
}
"""Options of sbatch that the cells depend on, and the settings for them; empty where there is none."""


def _spelled(pattern: str, expected: str) -> BeforeValidator:
    def require(given: Any) -> Any:
        if given is not None and not (isinstance(given, str) and re.fullmatch(pattern, given)):
            raise ValueError(f"expected {expected}")
        return given

    return BeforeValidator(require)


def _without_ours(extra: Any) -> Any:
    """Raises ValueError for an option that the cells depend on, and for a value that no option has."""
    for name, value in extra.items() if isinstance(extra, dict) else ():
        if not isinstance(value, str | int | bool):
            raise ValueError(f"--{name}: expected a text, a number, or true for an option without a value")
        if name.replace("_", "-") in OURS:
            setting = OURS[name.replace("_", "-")]
            hint = f"set slurm.{setting} instead" if setting else "it is set for every cell"
            raise ValueError(f"--{name.replace('_', '-')} is not for `extra`: {hint}")
    return extra


class SlurmRequest(Settings):
    """What Slurm is asked for, for a cell: one task a GPU, or one a node where there are none.

    cpus_per_task:     of one process
    array_parallelism: cells at work at the same time
    signal_seconds:    between the warning and the end of its time, in which a cell saves
    max_requeues:      of a cell whose time was over
    setup:             lines of shell before the command
    extra:             other options of sbatch: {mail-type: FAIL, exclusive: true}
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: Annotated[str | None, _spelled(r"(\d+-)?\d{1,2}:\d{2}:\d{2}", "HH:MM:SS or D-HH:MM:SS")] = None
    nodes: Annotated[int, Field(ge=1)] = 1
    gpus_per_node: Annotated[int, Field(ge=0)] = 0
    cpus_per_task: Annotated[int, Field(ge=1)] = 1
    memory: Annotated[str | None, _spelled(r"\d+[KMGT]?", "such as 128G, of a node")] = None
    constraint: str | None = None
    exclude: str | None = None
    array_parallelism: Annotated[int, Field(ge=1)] = 256
    signal_seconds: Annotated[int, Field(ge=1)] = 120
    max_requeues: Annotated[int, Field(ge=0)] = 20
    setup: Annotated[tuple[str, ...], Field(strict=False)] = ()
    extra: Annotated[dict[str, Any], BeforeValidator(_without_ours)] = Field(default_factory=dict)

    @property
    def tasks_per_node(self) -> int:
        return max(1, self.gpus_per_node)


class SlurmSettings(SlurmRequest):
    """For each cell; `recipes` has by a recipe, as in `runtime`, what is otherwise for its cells."""

    recipes: dict[str, SlurmRequest] = Field(default_factory=dict)

    def of_recipe(self, recipe: str) -> SlurmRequest:
        """What is asked for for a cell of this recipe; one of a file goes by the file's name."""
        own = self.recipes.get(Path(recipe).name, SlurmRequest())
        over = {name: getattr(own, name) for name in own.model_fields_set}
        both = {name: getattr(self, name) for name in SlurmRequest.model_fields} | over
        return SlurmRequest.model_construct(**both)
