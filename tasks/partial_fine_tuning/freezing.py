"""Which parameters of a classifier train where only its last blocks do."""

from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.training.precision import Precision
from tasks.classification.augmentation import BatchAugmentation
from tasks.classification.classifier import ClassificationStep
from tasks.classification.pooled import PooledClassifier

_BLOCKS = "blocks"


def freeze_but_last(classifier: nn.Module, trained_blocks: int) -> list[nn.Module]:
    """Freeze what stands before the last `trained_blocks` blocks; the modules of that, to be left in evaluation.

    Blocks are those of a ViT as timm has it, in a list called `blocks`; what is registered before the list stands
    before all of them, position embeddings and class token as well. If all blocks train, nothing is frozen. Raises
    InputError for fewer blocks than are to train, and for a backbone without such a list.
    """
    backbone: Any = classifier.backbone if isinstance(classifier, PooledClassifier) else classifier
    name, key = type(backbone).__name__, 'key "model.trained_blocks"'
    children = dict(backbone.named_children())
    blocks = children.get(_BLOCKS)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        raise InputError(
            f"{key}: {name} has no list of blocks of which the last could train. Expected a ViT, or a module that "
            f"holds them in an nn.ModuleList or nn.Sequential called {_BLOCKS}"
        )
    if trained_blocks > len(blocks):
        raise InputError(f"{key}: expected at most {len(blocks)}, as many as {name} has blocks; found {trained_blocks}")
    if trained_blocks == len(blocks):
        return []
    before = [children[each] for each in [*children][: [*children].index(_BLOCKS)]]
    frozen = [*before, *blocks[: len(blocks) - trained_blocks]]
    for module in frozen:
        module.requires_grad_(False)
    for parameter in backbone.parameters(recurse=False):
        parameter.requires_grad_(False)
    return frozen


class PartialStep(ClassificationStep):
    """A classifier as mmengine's loops want it, of which some modules are in evaluation always: without drop path or
    dropout, and with the statistics that they have."""

    def __init__(
        self, network: nn.Module, augmentation: BatchAugmentation, precision: Precision, frozen: list[nn.Module]
    ) -> None:
        super().__init__(network, augmentation, precision)
        self._frozen = tuple(frozen)

    def train(self, mode: bool = True) -> "PartialStep":
        """Put into training mode what is not frozen."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self
