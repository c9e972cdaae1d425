"""A trained network that is to be judged: its file, and what is known of how it came about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.trained.file import Description
from backbones.trained.loading import Step
from backbones.weights.checkpoints import Checkpoint
from results.measurements import simplified


@dataclass(frozen=True)
class PublishedNetwork:
    """What a file is that others have made: trunk and head in their names.

    kind:          what it is read as, in words: "facebookresearch/mae's fine-tuned classifiers"
    backbone:      the trunk's name, of `backbones.registry`
    steps:         what leads from the file's names to those of the task's network
    normalisation: of the pixels that it was trained on
    settings:      what the network and its own evaluation have otherwise than the recipe: {"model.pool": "token"}
    of_another_size: what becomes of them where the call says how large images are: {"inference.resized": None}
    classes:       their names in the order of its outputs; empty where the file does not tell
    method, pretrain_data, model: its row and column in the tables
    expected:      the published numbers of this very file, by metric
    source:        where those are published
    remark:        what its record has to note besides
    build:         (recipe, number of classes) -> the network, where it is none that the task builds itself
    """

    kind: str
    backbone: str
    steps: tuple[Step, ...]
    normalisation: Normalisation
    settings: Mapping[str, object] = field(default_factory=dict)
    of_another_size: Mapping[str, object] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    method: str = "custom"
    pretrain_data: str = "unstated"
    model: str = ""
    expected: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    remark: str = ""
    build: Callable[[Any, int], nn.Module] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class TrainedNetwork:
    """Weights of trunk and head together.

    backbone:   the trunk's name, of `backbones.registry`
    checkpoint: the file
    known:      what the file says of its network, if a run of ours has written it, or what it is recognised as
    """

    backbone: str
    checkpoint: Checkpoint
    known: Description | PublishedNetwork

    @property
    def steps(self) -> tuple[Step, ...]:
        """What leads from the file's names to the network's; none in a file of ours."""
        return self.known.steps if isinstance(self.known, PublishedNetwork) else ()

    @property
    def kind(self) -> str:
        """What it is read as, in words."""
        return self.known.kind if isinstance(self.known, PublishedNetwork) else "a run's weights"


def chosen_images(images: int, limit: int | None) -> Sequence[int]:
    """The numbers of the images to look at: of all, or of `limit` of so many, at equal distances and from 0."""
    if limit is None or limit >= images:
        return range(images)
    return [images * index // limit for index in range(limit)]


def require_classes(trained: TrainedNetwork, classes: Sequence[str]) -> None:
    """Raise InputError unless the data have the classes, in their order, that the network was trained for.

    Of a file that does not tell its classes their number is all that can be checked, when it is loaded. Others may
    spell their names with other capitals and punctuation.
    """
    known = list(trained.known.classes)
    if not known or known == list(classes):
        return
    if isinstance(trained.known, PublishedNetwork) and [*map(simplified, known)] == [*map(simplified, classes)]:
        return
    name, numbers = trained.checkpoint.name, f"{len(known):,} and {len(classes):,}"
    if {*known} == {*classes}:
        raise InputError(f"{name}: was trained with its {len(known):,} classes in another order than the data have")
    lacking = [f"it knows {each}, which they lack" for each in known if each not in {*classes}]
    new = [f"they have {each}, which it does not know" for each in classes if each not in {*known}]
    raise InputError(
        f"{name}: was trained for other classes than the data have ({numbers}): "
        f"{'; '.join([*lacking[:1], *new[:1]])}. Give data of the same classes"
    )
