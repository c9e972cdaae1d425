"""A trained classifier in the names of other libraries."""

from backbones.exporting.encoders import export_classifier
from backbones.exporting.products import About, Product, Target
from backbones.trained.loading import load_trained
from tasks.classification.recipe import ClassificationRecipe
from tasks.classification.task import create_classifier
from tasks.trained import TrainedNetwork


def export(
    recipe: ClassificationRecipe, trained: TrainedNetwork, about: About, target: Target, *, pickled: bool = False
) -> Product:
    """Its files. Raises InputError for weights that do not fit, and for a classifier that the target does not have."""
    step, _, _ = create_classifier(
        recipe, trained.backbone, None, len(about.classes), 0, about.normalisation, empty=True
    )
    load_trained(step.network, trained.checkpoint, trained.steps, trained.kind)
    return export_classifier(step.network.eval(), about, target)
