"""Showing images to a trained network, and keeping what it says of them."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from PIL import Image

from backbones.errors import InputError, not_written
from backbones.images.normalisation import Normalisation
from backbones.images.reading import UnreadableImage
from backbones.trained.file import WEIGHTS, Description
from backbones.trained.prediction import Prediction, Predictor
from backbones.training.machine import choose_device
from backbones.training.progress_line import progress_line
from backbones.training.settings import Recipe, validate
from backbones.training.writing import written_whole
from backbones.weights.checkpoints import read_checkpoint
from benchmarks.planning.evaluations import evaluation_settings
from benchmarks.planning.trained_runs import FoundNetwork, find_trained, require_class_names
from benchmarks.running.drawn import is_document, is_drawn, save_picture
from benchmarks.running.image_files import ImageFile, find_image_files
from tasks.registry import LEAVE_NETWORKS, PRETRAINING, interpret
from tasks.trained import TrainedNetwork

PREDICTIONS, PICTURES, LABELS = "predictions.json", "pictures", "labels"
"""What lies in the folder: the document, a picture of each image, and label maps where there are any."""

_WITH_LABELS = "segmentation"
"""The task whose predictions have label maps."""

OPTIONS = {"top": "classification", "score": "detection", "mask_ratio": PRETRAINING, "seed": PRETRAINING}
"""What can be asked for, and of the networks of which task."""

_READERS, _AHEAD = 3, 4
"""Threads that read images, and how many images they may be ahead by: large ones are hundreds of megabytes."""


@dataclass
class Predicted:
    """What was made of the images: how many were predicted, and why others could not be read, by path."""

    directory: Path
    images: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def predict_images(
    run: Path,
    given: Sequence[Path],
    out: Path,
    *,
    asked: Mapping[str, Any],
    overrides: Sequence[str] = (),
    stream: TextIO | None = None,
) -> Predicted:
    """Show images to a run's network, and write a picture of each and a document below `out`.

    asked:  of `OPTIONS`, those that were given
    stream: where the document goes as well, image by image; without, each image gets a line in words

    What an earlier call left there under the same names is replaced. Raises InputError for a wrong call, for a network
    that cannot be had, and where a file of others would be replaced. An image that cannot be read is left out and told
    in what is returned.
    """
    found = find_trained(run)
    file, description = found.file, _described(run, found)
    _require_options(description, run, asked)
    files = find_image_files(given, [out / PICTURES, out / LABELS], is_drawn)
    _require_room(files, out, description.task)
    predictor, recipe = load_predictor(file, description, overrides, asked, found.part)
    done = Predicted(out)
    about = {"weights": str(file), "task": description.task, **description.run}
    head = {"run": about, "inference": recipe.model_dump(mode="json").get("inference", {}), **predictor.about}
    with _written(out / PREDICTIONS) as whole, progress_line("predicting", len(files), "images") as line:
        document = _Document(whole, stream)
        document.begin(head)
        for image, prediction in _predictions(predictor, files, done.unreadable):
            document.add({"image": str(image.path), **prediction.said, **_save(image, prediction, out)})
            done.images += 1
            if stream is None:
                print(f"{image.path}\t{prediction.words}")
            line.update(done.images + len(done.unreadable))
        document.end(done.unreadable)
    return done


def load_predictor(
    file: Path, description: Description, overrides: Sequence[str], asked: Mapping[str, Any], part: str = ""
) -> tuple[Predictor, Recipe]:
    """The network in a run's file, or in a part of it, on the device, and the settings that it is used under.

    Raises InputError for settings that do not fit it or this machine, and for weights that do not fit.
    """
    kind, settings = interpret(description.task, description.recipe)
    trained = validate(kind, settings, f"{file}, recipe")
    if trained.precision == "fp16":  # which a GPU alone has
        trained = trained.model_copy(update={"precision": "auto"})
    recipe: Any = evaluation_settings(trained, None, list(overrides), file)
    choose_device(recipe.runtime.device)
    normalisation = Normalisation(**description.normalisation)
    checkpoint = read_checkpoint(file, part=part)
    if description.task == PRETRAINING:
        from backbones.pretraining.predicting import load_predictor as load_autoencoder

        return load_autoencoder(recipe, checkpoint, normalisation, **asked), recipe
    network = TrainedNetwork(str(description.run["backbone"]), checkpoint, description)
    module = LEAVE_NETWORKS[description.task].module("predicting")
    return module.load_predictor(recipe, network, normalisation, **asked), recipe


def _described(run: Path, found: FoundNetwork) -> Description:
    """What is known of a run's network. Raises InputError for what is none, or none of which enough is known."""
    known = found.known
    if known is None:
        raise InputError(f"{run}: not written by a run. Expected a finished run's folder, or the {WEIGHTS} in it")
    if known.task not in {PRETRAINING, *LEAVE_NETWORKS}:
        raise InputError(f"{run}: is for the task {known.task}, which is not known here")
    require_class_names(known, run)
    return known


def _require_options(description: Description, run: Path, asked: Mapping[str, Any]) -> None:
    for name in asked:
        if OPTIONS[name] != description.task:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} belongs to {OPTIONS[name]}, and {run} is of {description.task}. Leave it out")


def _require_room(files: Sequence[ImageFile], out: Path, task: str) -> None:
    """Raise InputError where something would replace one of the images, or what no prediction wrote."""
    document = out / PREDICTIONS
    if document.exists() and not is_document(document):
        raise InputError(f"{document}: is there already, and not written by a prediction. Give another --out")
    images = {each.path.resolve() for each in files}
    for each in files:
        for folder in (PICTURES, LABELS) if task == _WITH_LABELS else (PICTURES,):
            target = _target(out / folder, each)
            if target.exists() and (target.resolve() in images or not is_drawn(target)):
                whose = "one of the images" if target.resolve() in images else "which no prediction drew"
                raise InputError(f"{each.path}: its picture would replace {target}, {whose}. Give another --out")


def _target(folder: Path, image: ImageFile) -> Path:
    return folder / f"{image.name}.png"


def _predictions(
    predictor: Predictor, files: Iterable[ImageFile], unreadable: dict[str, str]
) -> Iterator[tuple[ImageFile, Prediction]]:
    """Each readable image with what is said of it, in the same order; into `unreadable` go the others."""
    waiting: list[tuple[ImageFile, Any]] = []
    for image, read in _read_ahead(predictor, files):
        try:
            waiting.append((image, read.result()))
        except UnreadableImage as error:
            unreadable[str(image.path)] = error.why
        if len(waiting) == predictor.images:
            yield from _answers(predictor, waiting)
            waiting.clear()
    yield from _answers(predictor, waiting)


def _answers(predictor: Predictor, waiting: list[tuple[ImageFile, Any]]) -> Iterator[tuple[ImageFile, Prediction]]:
    if waiting:
        yield from zip((image for image, _ in waiting), predictor.predict([seen for _, seen in waiting]), strict=True)


def _read_ahead(predictor: Predictor, files: Iterable[ImageFile]) -> Iterator[tuple[ImageFile, "Future[Any]"]]:
    begun: deque[tuple[ImageFile, Future[Any]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for number, image in enumerate(files, start=1):
            begun.append((image, pool.submit(predictor.read, image.path, number)))
            if len(begun) > _AHEAD:
                yield begun.popleft()
        yield from begun


def _save(image: ImageFile, prediction: Prediction, out: Path) -> dict[str, str]:
    """Write the pictures; where they lie below `out`."""
    pictures: dict[str, Image.Image] = {PICTURES: prediction.picture}
    if prediction.labels:
        pictures[LABELS] = prediction.labels
    placed = {}
    for folder, picture in pictures.items():
        path = _target(out / folder, image)
        with _written(path) as file:
            save_picture(picture, file)
        placed[folder.removesuffix("s") if folder == PICTURES else folder] = str(path.relative_to(out))
    return placed


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """`written_whole`, which says what could not be written."""
    try:
        with written_whole(path, safe_from_power_cuts=False) as file:
            yield file
    except BrokenPipeError:  # whoever read the document has gone
        raise
    except OSError as error:
        reason = f"{path}: cannot be written ({error.strerror})"
        raise not_written(f"{reason}. Make room, or give another --out, and repeat the command", error.errno) from error


class _Document:
    """One JSON document that grows image by image, an image a line, however many there are."""

    def __init__(self, file: BinaryIO, stream: TextIO | None) -> None:
        self.file, self.stream, self.entries = file, stream, 0

    def begin(self, head: Mapping[str, Any]) -> None:
        self._write(json.dumps(head, indent=2, ensure_ascii=False)[: -len("\n}")] + ',\n  "images": [')

    def add(self, entry: Mapping[str, Any]) -> None:
        separator = "," if self.entries else ""
        self._write(f"{separator}\n    {json.dumps(entry, ensure_ascii=False)}")
        self.entries += 1

    def end(self, unreadable: Mapping[str, str]) -> None:
        left_out = json.dumps(unreadable, ensure_ascii=False)
        self._write(f'\n  ],\n  "unreadable": {left_out}\n}}\n')

    def _write(self, text: str) -> None:
        # A file's name may be in no encoding; what then stands for its bytes is an escape of JSON's as well.
        data = text.encode(errors="backslashreplace")
        self.file.write(data)
        if self.stream:
            self.stream.write(data.decode())
            self.stream.flush()
