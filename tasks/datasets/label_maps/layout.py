"""Images with a label map each: ADE20K as it is distributed (ADEChallengeData2016), and any other pair of folders.

    ROOT/images/training/*.jpg     ROOT/annotations/training/*.png     ROOT/objectInfo150.txt
    ROOT/images/validation/*.jpg   ROOT/annotations/validation/*.png

An image's annotation has the same path below its folder, with the suffix .png.
"""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from backbones.cache import Finding, kept
from backbones.errors import DataError
from backbones.images.folders import describe, fingerprint, image_names
from backbones.images.in_threads import each_in_threads
from backbones.images.observing import looking_at
from backbones.images.packed import Paths
from backbones.images.reading import UnreadableImage
from backbones.images.sizes import in_words
from backbones.images.upright import Orientation, read_upright_size
from backbones.training.agreement import first_decides
from backbones.training.progress_line import with_progress
from backbones.training.same_lists import Listing
from backbones.training.settings import Settings
from results.code import code_digest
from tasks.datasets.identity import Contents, draw_sample, evaluation_contents, join_fingerprints
from tasks.datasets.label_maps.class_lists import find_class_list, read_class_list
from tasks.datasets.label_maps.images import AnnotatedImage, AnnotatedImages, annotation_of, pack_images
from tasks.datasets.label_maps.maps import IGNORED, WrongLabels, read_label_map
from tasks.datasets.orientations import describe_orientations
from tasks.datasets.places import Split, explain_absence
from tasks.datasets.shared_images import shared_images
from tasks.datasets.wording import counted, name_some

KIND = "segmentation data set"


class SegmentationDataSettings(Settings):
    """Where the parts of a data set are: paths below the data folder, or absolute ones.

    classes: the list of classes, as objectInfo150.txt or with one name a line; the folder's only objectInfo*.txt if
    none is given. reduce_zero_label: 0 in an annotation is unlabelled and k the k-th class, as in ADE20K; if false, k
    is class k, counted from 0. 255 is unlabelled in both.
    """

    train_images: str = "images/training"
    train_annotations: str = "annotations/training"
    val_images: str = "images/validation"
    val_annotations: str = "annotations/validation"
    classes: str | None = None
    reduce_zero_label: bool = True

    @property
    def folders(self) -> dict[str, str]:
        """The folders, by their settings' names."""
        return self.model_dump(exclude={"classes", "reduce_zero_label"})


@dataclass(frozen=True, eq=False)
class SegmentationSet:
    """One split of a segmentation data set, opened with `open_segmentation`.

    Attributes:
        split: "train" or "val".
        images: sorted by name.
        classes: names; a class's position is its number in what `labels` returns.
        reduce_zero_label: how the files count their labels, see `SegmentationDataSettings`.
        folders: of the images, and of their annotations.
        notes: what a reader of the numbers should know about this split.
    """

    split: str
    images: Sequence[AnnotatedImage]
    classes: list[str]
    reduce_zero_label: bool
    folders: tuple[Path, Path]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the name or size of an image or annotation, and with how labels count.

        With the classes and `reduce_zero_label`, that is, and not with the place on disk. Computed when it is first
        asked for, at the cost of a stat call for each file. Raises DataError if one has gone.
        """
        images, annotations = self.folders
        identity = (
            fingerprint((image.image for image in self.images), images),
            fingerprint((image.annotation for image in self.images), annotations),
            self.classes,
            self.reduce_zero_label,
        )
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]

    @property
    def files(self) -> list[Path]:
        """Each image and its annotation."""
        return [path for image in self.images for path in (image.image, image.annotation)]

    @property
    def listing(self) -> Listing:
        """What other processes of a job have to find too."""
        names = [image.name for image in self.images]
        decided = ["\0".join(names), json.dumps([self.classes, self.reduce_zero_label])]
        encoded = [part.encode(errors="surrogateescape") for part in decided]
        return Listing(f"{self.split} images", len(names), encoded, lambda: names)

    def labels(self, image: AnnotatedImage) -> np.ndarray:
        """The class of each pixel, uint8 (H, W), `IGNORED` where there is none. Raises what `read_label_map` does."""
        return read_label_map(image.annotation, len(self.classes), reduce_zero_label=self.reduce_zero_label)


def open_segmentation(root: Path, settings: SegmentationDataSettings) -> tuple[SegmentationSet, SegmentationSet]:
    """List the training and the evaluation split below `root`, or what was found before in the same folders.

    No image is opened, but those that seem to be in both splits.
    Raises DataError for a missing folder or class list, an empty split, an image without annotation and the reverse.
    """
    if absent := explain_absence(root, settings.folders, KIND):
        raise DataError(absent)
    train, val = _open(root, settings, ("train", "val"))
    return train, val


def open_segmentation_to_evaluate(
    root: Path, settings: SegmentationDataSettings
) -> tuple[SegmentationSet | None, SegmentationSet]:
    """What `open_segmentation` opens; where the training images or their label maps are not there, the evaluation split
    alone.

    Raises DataError where `open_segmentation` does.
    """
    if has_training_split(root, settings):
        return open_segmentation(root, settings)
    places = {name: place for name, place in settings.folders.items() if name.startswith("val_")}
    if absent := explain_absence(root, places, KIND):
        raise DataError(absent)
    return None, _open(root, settings, ("val",))[0]


def has_training_split(root: Path, settings: SegmentationDataSettings) -> bool:
    """Whether training images lie there with their label maps, right or wrong."""
    return all(folder.is_dir() for folder in split_folders(root, settings, "train"))


def _open(root: Path, settings: SegmentationDataSettings, splits: Sequence[Split]) -> list[SegmentationSet]:
    """The splits, listed or found before."""

    def find() -> Finding:
        classes = read_class_list(find_class_list(root, settings.classes))
        listed = {split: _list_split(root, settings, split) for split in splits}
        shared = images_in_both(root, settings, *listed.values()) if len(listed) == 2 else []
        arrays = {f"{split} {name}": part for split in listed for name, part in listed[split].paths.arrays.items()}
        return Finding({"classes": classes, "notes": {"train": [], "val": shared}}, arrays)

    question = {"places": settings.model_dump(), "splits": [*splits], "code": code_digest()}
    finding = kept("label maps", root, question, find)

    def opened(split: Split) -> SegmentationSet:
        images, annotations = folders = split_folders(root, settings, split)
        paths = Paths(images, finding.arrays[f"{split} content"], finding.arrays[f"{split} ends"])
        pairs, notes = AnnotatedImages(paths, annotations), [*finding.facts["notes"][split]]
        return SegmentationSet(split, pairs, finding.facts["classes"], settings.reduce_zero_label, folders, notes)

    return [opened(split) for split in splits]


def check_annotations(*sets: SegmentationSet) -> list[str]:
    """Decode every annotation of the `sets`, about 2 ms each, before hours go into training.

    Returns notes on the images that are turned by their EXIF orientation: to hold sizes against each other, their
    headers are read anyway.
    Raises DataError that names the first few in colour, with a label of no class, or of another size than their
    image, and for a split without a labelled pixel. Unreadable files are passed over: training replaces them
    and evaluation names them.
    """
    pairs = [(dataset, image) for dataset in sets for image in dataset.images]
    wrong: list[WrongLabels] = []
    orientations: dict[str, list[Orientation]] = {dataset.split: [] for dataset in sets}
    unlabelled = set(sets)
    examined = with_progress(each_in_threads(_examine, pairs), "checking annotations", len(pairs), "annotations")
    for (dataset, _), found in examined:
        if isinstance(found, WrongLabels):
            wrong.append(found)
            continue
        if isinstance(found, UnreadableImage):
            unlabelled.discard(dataset)  # it is refused for what it is
            continue
        orientation, labelled = found
        orientations[dataset.split].append(orientation)
        if labelled:
            unlabelled.discard(dataset)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        few = " ".join(str(error) for error in wrong[:3])
        more = f" And {len(wrong) - 3:,} more; `backbench data check ade20k` lists all." if len(wrong) > 3 else ""
        raise DataError(f"{counted(len(wrong), 'annotation')} cannot be used. {few}{more}")
    for dataset in sets:
        if dataset in unlabelled:
            raise DataError(describe_unlabelled(dataset.images, dataset.split, dataset.reduce_zero_label))
    return [note for split, found in orientations.items() for note in describe_orientations(split, found)]


def require_annotations(data: Path, *sets: SegmentationSet) -> list[str]:
    """`check_annotations` by the first process for all, or its notes where these files below `data` have passed before.

    Sets are told apart by their names and by how labels count; of each file it is known whether it has changed.
    """

    def find() -> Finding:
        for path in (path for dataset in sets for image in dataset.images for path in (image.image, image.annotation)):
            looking_at(path)
        return Finding({"notes": check_annotations(*sets)})

    def notes() -> list[str]:
        question = {"code": code_digest(), "sets": [(dataset.split, dataset.listing.digest) for dataset in sets]}
        return list(kept("annotations that fit", data, question, find).facts["notes"])

    return first_decides(notes)


def require_size(image: AnnotatedImage, labels: np.ndarray, height: int, width: int) -> None:
    """Raise WrongLabels unless `labels` (H, W) have the size of their image."""
    if labels.shape != (height, width):
        raise WrongLabels(
            image.annotation,
            f"{in_words(*labels.shape)} pixels, but its image {image.image} has {in_words(height, width)}. "
            "Labels would lie elsewhere; correct whichever is wrong",
        )


def describe_unlabelled(images: Sequence[AnnotatedImage], split: str, reduce_zero_label: bool) -> str:
    """That the `images` of a split leave nothing to learn from, or to score, and what to do."""
    name = {"train": "training", "val": "evaluation"}[split]
    zero = " (0 is a class with --set data.reduce_zero_label=false)" if reduce_zero_label else ""
    return (
        f"no pixel of the {counted(len(images), f'{name} annotation')} has a class{zero}, {images[0].annotation} "
        f"among them. Are they the right files? --set data.{split}_annotations=FOLDER sets others."
    )


def images_in_both(
    root: Path, settings: SegmentationDataSettings, train: Sequence[AnnotatedImage], val: Sequence[AnnotatedImage]
) -> list[str]:
    """A note if the same images are trained and evaluated on; no or one text."""
    return shared_images(
        (root / settings.train_images, [image.name for image in train]),
        (root / settings.val_images, [image.name for image in val]),
    )


def _examine(
    pair: tuple[SegmentationSet, AnnotatedImage],
) -> tuple[Orientation, bool] | WrongLabels | UnreadableImage:
    """How the image is turned and whether its annotation has a labelled pixel, or why they cannot be used."""
    dataset, image = pair
    try:
        labels = dataset.labels(image)
        size, orientation = read_upright_size(image.image, labels.shape)
        require_size(image, labels, *size)
    except (WrongLabels, UnreadableImage) as error:
        return error
    return orientation, bool((labels != IGNORED).any())


def contents_of(train: SegmentationSet | None, val: SegmentationSet) -> Contents:
    """What tells which data set the splits are."""
    if train is None:
        return evaluation_contents(len(val.images), len(val.classes), val.fingerprint, val.files)
    fingerprint = join_fingerprints(train.fingerprint, val.fingerprint)
    files = (train.files, val.files)
    return Contents(
        len(train.images), len(val.images), len(train.classes), fingerprint, draw_sample(fingerprint, *files)
    )


def split_folders(root: Path, settings: SegmentationDataSettings, split: Split) -> tuple[Path, Path]:
    """The folders of a split's images and annotations."""
    if split == "train":
        return root / settings.train_images, root / settings.train_annotations
    return root / settings.val_images, root / settings.val_annotations


def pair_files(images: Path, annotations: Path, split: Split) -> tuple[list[AnnotatedImage], list[str]]:
    """The images below the folder `images` that have an annotation, sorted by name, and what is wrong with the rest.

    Each problem names the folder and the files, and says what to do.
    """
    places = f"Other places: --set data.{split}_images=FOLDER --set data.{split}_annotations=FOLDER"
    names: dict[Path, list[str]] = {}
    problems = []
    for folder, expected in ((images, "images"), (annotations, "annotations, one PNG an image")):
        try:
            names[folder] = image_names(folder)
        except DataError as error:
            problems.append(f"{error} Expected a folder of {expected}. {places}")
            continue
        if not names[folder]:
            problems.append(
                f"{folder}: no images found, the {split} split is empty. Expected {expected}; found "
                f"{describe(folder)}. {places}"
            )
    if problems:
        return [], problems
    partners = {name: annotation_of(name) for name in names[images]}
    present = set(names[annotations])
    pairs = [
        AnnotatedImage(name, images / name, annotations / partner)
        for name, partner in partners.items()
        if partner in present
    ]
    return pairs, _find_unpaired(images, annotations, partners, names[annotations])


def _find_unpaired(images: Path, annotations: Path, partners: dict[str, str], present: Sequence[str]) -> list[str]:
    known = set(present)
    problems = []
    lonely = [name for name, partner in partners.items() if partner not in known]
    if lonely:
        problems.append(
            f"{images}: {counted(len(lonely), 'image')} of {len(partners):,} without an annotation: "
            f"{name_some(lonely, len(lonely))}. Expected {annotations / partners[lonely[0]]}; add it or remove the "
            "image."
        )
    stray = sorted(known - set(partners.values()))
    if stray:
        problems.append(
            f"{annotations}: {counted(len(stray), 'annotation')} of {len(known):,} without an image: "
            f"{name_some(stray, len(stray))}. Expected an image of the same name in {images}; add it or remove the "
            "annotation."
        )
    times = Counter(partners.values())
    shared = [name for name, partner in partners.items() if times[partner] > 1]
    if shared:
        problems.append(
            f"{images}: {len(shared):,} images that differ in nothing but the suffix, and would share an annotation: "
            f"{name_some(shared, len(shared))}. Rename or remove them."
        )
    return problems


def _list_split(root: Path, settings: SegmentationDataSettings, split: Split) -> AnnotatedImages:
    images, annotations = split_folders(root, settings, split)
    pairs, problems = pair_files(images, annotations, split)
    if problems:
        check = f"backbench data check ade20k --data {shlex.quote(str(root))}"
        more = f" Other mistakes in this split: {len(problems) - 1}; `{check}` lists all."
        raise DataError(f"{problems[0]}{more if len(problems) > 1 else ''}")
    return pack_images(images, annotations, (pair.name for pair in pairs))
