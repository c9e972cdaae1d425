"""Trained classifiers in the files of others: what each is, and how its names become ours."""

from backbones.errors import InputError
from backbones.weights.checkpoints import Checkpoint
from tasks.classification.recipe import ClassificationRecipe
from tasks.trained import PublishedNetwork


def recognise(checkpoint: Checkpoint, recipe: ClassificationRecipe, backbone: str | None = None) -> PublishedNetwork:
    """What a file of a whole classifier is, by the names of its tensors; `backbone` says which model its trunk is.

    Raises InputError for a file that is none of those that are known here.
    """
    raise InputError(f"{checkpoint.name}: no classifier that is known here")
