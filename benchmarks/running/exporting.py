"""Handing on what was trained: a run's network, or a backbone's file, in the names of other libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from backbones.errors import InputError
from backbones.exporting import huggingface, timm_folders
from backbones.exporting.encoders import export_encoder
from backbones.exporting.pretrained import pretrained_network
from backbones.exporting.products import About, NoHomeError, Product, Target, require_room, write_product
from backbones.images.normalisation import Normalisation
from backbones.images.views import View
from backbones.normalising import normalisation_of
from backbones.registry import create_backbone, find_backbone
from backbones.trained.file import Description
from backbones.training.settings import validate
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.origin import settle_origin
from backbones.weights.references import split_part
from backbones.weights.statements import read_statement
from benchmarks.planning.trained_runs import FoundNetwork, find_trained, require_class_names
from tasks.data_sets import pretraining_name
from tasks.registry import PRETRAINING, TASKS, interpret
from tasks.trained import TrainedNetwork

_FOLDERS = {"timm": timm_folders.FILES, "transformers": huggingface.FILES}
"""The files of the targets that write a folder."""

_ONE_FILE = ("",)


@dataclass(frozen=True)
class Exported:
    """What was written, and of which network."""

    paths: list[Path]
    product: Product
    about: About


def export(
    source: str,
    target: Target,
    out: Path,
    *,
    backbone: str | None = None,
    image_size: int | None = None,
    decoder: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a finished run's network, or a backbone's file, as `target` reads it.

    Raises InputError for a run that has not finished or whose record is another's, a file that is no network's, a
    network that the target does not have, and where `out` is there already.
    """
    require_room(out, target in _FOLDERS, dict.fromkeys(_FOLDERS.get(target, _ONE_FILE)), overwrite)
    pickled = target == "detectron2" and out.suffix == ".pkl"
    found = find_trained(Path(source))
    try:
        if found.known:
            require_class_names(found.known, Path(source))
            about, product = _of_run(found.known, found, target, backbone, image_size, decoder, pickled)
        else:
            about, product = _of_backbone(source, target, backbone, image_size, decoder, pickled)
    except NoHomeError as error:
        raise InputError(f"{source}: {error}") from error
    return Exported(write_product(product, out, overwrite), product, about)


def _of_run(
    description: Description,
    found: FoundNetwork,
    target: Target,
    backbone: str | None,
    image_size: int | None,
    decoder: bool,
    pickled: bool,
) -> tuple[About, Product]:
    run, file = description.run, found.file
    if backbone not in (None, run["backbone"]):
        raise InputError(f"--backbone {backbone}: {file} is a run's, of {run['backbone']}. Leave --backbone out")
    if image_size is not None:
        raise InputError(f"--image-size {image_size}: {file} is a run's, which has a size. Leave --image-size out")
    kind, settings = interpret(description.task, description.recipe)
    recipe: Any = validate(kind, settings, f"{file}, recipe")
    about = _about(description, recipe)
    checkpoint = read_checkpoint(file, part=found.part)
    if description.task == PRETRAINING:
        network = pretrained_network(recipe, checkpoint)
        return about, export_encoder(network, about, target, decoder=decoder, pickled=pickled)
    if decoder:
        raise InputError(f"--decoder: {file} is of {description.task}, which has none")
    trained = TrainedNetwork(run["backbone"], checkpoint, description)
    return about, TASKS[description.task].module("exporting").export(recipe, trained, about, target, pickled=pickled)


def _about(description: Description, recipe: Any) -> About:
    return About(
        method=description.method,
        pretrain_data=description.pretrain_data,
        model=description.model,
        normalisation=Normalisation(**description.normalisation),
        classes=tuple(description.classes),
        view=View(recipe.model.image_size),
        deviations=description.deviations,
    )


def _of_backbone(
    source: str, target: Target, backbone: str | None, image_size: int | None, decoder: bool, pickled: bool
) -> tuple[About, Product]:
    """An encoder, in a file of any code base."""
    path, _ = split_part(source)
    if backbone is None:
        raise InputError(
            f"{path}: no weights.safetensors of a finished run. Of a backbone's file say which model it is: "
            "--backbone mae_vit_base"
        )
    if decoder:
        raise InputError("--decoder: a backbone's file is taken without one. Give the run that trained it")
    entry = find_backbone(backbone, with_checkpoint=True)
    checkpoint = read_checkpoint(source)
    network: nn.Module = create_backbone(backbone, checkpoint, image_size)
    origin = settle_origin(entry, checkpoint, spell=pretraining_name)
    about = About(
        method=origin.method,
        pretrain_data=origin.pretrain_data,
        model=origin.model,
        normalisation=normalisation_of(entry, checkpoint, spell=pretraining_name),
        view=View(image_size) if image_size else None,
        deviations=read_statement(checkpoint).deviations,
    )
    return about, export_encoder(network.eval(), about, target, pickled=pickled)
