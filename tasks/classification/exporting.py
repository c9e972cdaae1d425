"""A trained classifier in the names of other libraries."""

from dataclasses import replace

from backbones.exporting.encoders import export_classifier
from backbones.exporting.products import About, Product, Target, no_home
from backbones.trained.loading import load_trained
from tasks.classification.pooled import PooledClassifier
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.samples import view_of
from tasks.classification.task import create_classifier
from tasks.trained import TrainedNetwork


def export(
    recipe: ClassificationRecipe, trained: TrainedNetwork, about: About, target: Target, *, pickled: bool = False
) -> Product:
    """Its files. Raises InputError for weights that do not fit, and for a classifier that the target does not have."""
    step, _, _ = create_classifier(
        recipe, trained.backbone, None, len(about.classes), 0, about.normalisation, empty=True
    )
    network = step.network
    load_trained(network, trained.checkpoint, trained.steps, trained.kind)
    if isinstance(network, PooledClassifier):
        what = f"a classifier on {type(network.backbone).__name__}"
        others = "Its own package builds it: hand on that, and weights.safetensors as it is"
        raise no_home(what, target, "it is not made as timm's models are", others)
    return export_classifier(network.eval(), replace(about, view=view_of(recipe)), target)
