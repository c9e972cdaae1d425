"""Trained classifiers in the files of others: what each is, and how its names become timm's."""

from dataclasses import dataclass, replace

from torch import nn

from backbones.errors import InputError
from backbones.names import SIZES
from backbones.normalising import normalisation_of
from backbones.registry import find_backbone
from backbones.weights.checkpoints import Checkpoint
from backbones.weights.contradictions import fine_tuning_data
from backbones.weights.methods import METHODS
from backbones.weights.origin import Declared, choose_names, find_known
from backbones.weights.prefixes import looks_of
from backbones.weights.recognition import Recognised
from backbones.weights.statements import read_statement
from tasks.classification.others.authors import of_authors
from tasks.classification.others.classes import IMAGENETS, imagenet_classes
from tasks.classification.others.classifier import Classifier, outputs_name
from tasks.classification.others.expected import Published, find_classifier
from tasks.classification.others.hub import described_by, of_timm, of_transformers
from tasks.classification.others.naming import STEPS, bare
from tasks.classification.others.whereabouts import HEADS, no_classifier, require_one_entry
from tasks.classification.recipe import ClassificationRecipe
from tasks.data_sets import pretraining_name
from tasks.trained import PublishedNetwork

_SIZES = ("inference.crop_ratio", "inference.resized")
"""The two ways to say how large an image becomes before it is cropped."""


def recognise(checkpoint: Checkpoint, recipe: ClassificationRecipe, backbone: str | None = None) -> PublishedNetwork:
    """What a file of a whole classifier is: by what lies beside it, by its bytes, by `backbone`, by its names.

    Pooling, head, size and pixels are the file's, and what of an image it sees is as it was published with, but where
    the recipe says how large images become. Raises InputError for a file that is none of those that are known here.
    """
    known = find_classifier(checkpoint)
    found = _find(checkpoint, known, backbone)
    count = _count_outputs(checkpoint, found)
    classes = found.classes
    if classes and len(classes) != count:
        raise InputError(f"{checkpoint.name}: gives {count:,} classes, and {len(classes):,} are named beside it")
    if not classes and count == IMAGENETS and (known or recipe.dataset.startswith("imagenet")):
        classes = imagenet_classes()
    entry = find_backbone(found.backbone, with_checkpoint=True)
    pixels = recipe.model.normalisation or found.normalisation
    statement, looks = read_statement(checkpoint), looks_of(checkpoint)
    names = choose_names(entry, Declared(), statement, find_known(checkpoint), looks, pretraining_name)
    method = found.method or names.method
    settings = found.sight.settings() | {"model.pool": found.pooling}
    if says := bool(recipe.inference.crop_ratio or recipe.inference.resized):
        settings = {key: value for key, value in settings.items() if key not in _SIZES}
    if find_backbone(recipe.model.arch).arch != entry.arch:
        settings["model.arch"] = entry.arch
    numbers, source = known.measured(recipe.dataset, as_theirs=not says) if known else ({}, "")
    return PublishedNetwork(
        kind=found.kind,
        backbone=found.backbone,
        steps=STEPS,
        normalisation=pixels or normalisation_of(entry, checkpoint, recipe.task),
        settings=settings,
        of_another_size={} if says else found.sight.of_another_size(),
        classes=classes,
        method=method,
        pretrain_data=_trained_on(method, names.pretrain_data, count),
        model=_column(found, looks) or names.model,
        expected=numbers,
        source=source,
        remark=". ".join(filter(None, (found.remark, known.remark if known else ""))),
        build=_Builder(checkpoint.name, found, count),
    )


def _column(found: Classifier, looks: Recognised) -> str:
    """The column of a network that has other sizes than the one of timm's that it is built as; else none."""
    if "embed_dim" not in found.options:
        return ""
    return SIZES["mae"].get(f"vit_{looks.size}", ("", f"{looks.family} {looks.width}×{looks.depth}"))[1]


def _trained_on(method: str, stated: str, count: int) -> str:
    """The data of a method's trunk, as stated or else as the method's are, and that labels were seen since."""
    unstated = METHODS["custom"].pretrain_data
    usual = METHODS[method].pretrain_data if method in METHODS else unstated
    if "labels" in usual:
        return usual if stated.startswith(unstated) and count == IMAGENETS else stated
    data = usual if stated.startswith(unstated) else stated
    return data if "labels" in data or data == unstated else f"{data}{fine_tuning_data(count)}"


def _find(checkpoint: Checkpoint, known: Published | None, backbone: str | None) -> Classifier:
    config = {} if known else described_by(checkpoint)
    entry = find_backbone(backbone, with_checkpoint=True) if backbone else None
    arch = entry.arch if entry else None
    if "architecture" in config:
        if backbone and backbone.partition(".")[0] != str(config["architecture"]).partition(".")[0]:
            raise InputError(
                f"--backbone {backbone}: {checkpoint.name} is {config['architecture']}, by its config.json"
            )
        return of_timm(checkpoint, config, backbone)
    if "model_type" in config:
        return of_transformers(checkpoint, config, arch)
    looks = looks_of(checkpoint)
    if looks.naming == "transformers":
        raise InputError(
            f"{checkpoint.name}: named as by transformers, and its config.json and preprocessor_config.json are not "
            "beside it. Download them into the same folder, and give the folder"
        )
    if backbone and arch and not known and looks.naming not in ("torchvision", "mmpretrain"):
        authors = looks.likely_method in ("MAE", "MoCo v3") or arch.startswith(("deit_", "beit_"))
        if "." in backbone or (backbone == arch and not authors):
            return of_timm(checkpoint, {}, backbone)
    found = of_authors(checkpoint, known, arch, entry.method if entry else None)
    return replace(found, backbone=backbone) if backbone else found


def _count_outputs(checkpoint: Checkpoint, found: Classifier) -> int:
    """How many classes a file tells apart. Raises InputError for one without a head."""
    require_one_entry(checkpoint)
    network = found.outline()
    heads = (outputs_name(network), *HEADS)
    sizes = {
        bare(name).removeprefix("backbone."): tensor.shape[0]
        for name, tensor in checkpoint.state_dict.items()
        if tensor.ndim > 1
    }
    if count := next((sizes[f"{head}.weight"] for head in heads if f"{head}.weight" in sizes), None):
        return count
    raise no_classifier(checkpoint, found.backbone, heads, len(network.state_dict()))


@dataclass(frozen=True)
class _Builder:
    """Builds the network of a file, `name`, that tells `count` classes apart."""

    name: str
    found: Classifier
    count: int

    def __call__(self, recipe: ClassificationRecipe, classes: int) -> nn.Module:
        """Raises InputError where data or recipe ask for another."""
        if classes != self.count:
            raise InputError(
                f"{self.name}: tells {self.count:,} classes apart, and the data have {classes:,}: it was trained for "
                "other data. Give data of the same classes"
            )
        if recipe.model.pool != (own := self.found.pooling):
            raise InputError(f'key "model.pool": {self.name} has {own}. Leave it out')
        return self.found.build(recipe.model.image_size, self.count)
