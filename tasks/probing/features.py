"""One pass over training and evaluation images, whose features all probes share.   N images, C channels"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import gather_object
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor
from torch.utils.data import Dataset, Subset

from backbones.errors import InputError, TryAgainError
from backbones.frozen import FrozenBackbone
from backbones.images.in_threads import each_in_threads
from backbones.images.normalisation import Normalisation
from backbones.images.observing import state_of
from backbones.images.pixels import normalise
from backbones.images.views import View
from backbones.kept_features import Features, KeptFeatures, remove_features
from backbones.training.agreement import first_decides
from backbones.training.evaluating import EvaluationJob, EvaluationSeries
from backbones.training.machine import device_type, process_rank
from backbones.training.outcome import Outcome
from backbones.training.plan import Evaluation
from backbones.training.precision import Precision, autocast, resolve_precision
from results.code import code_digest
from results.record import deciding_versions
from tasks.probing.recipe import ProbingRecipe
from tasks.probing.samples import ShownImages

BLOCK = 32_768
"""Images whose features are written at once, and lost at most when a call is ended."""

MOST_IMAGES = 128
"""Of a step, over which nothing is computed but the features of each."""

_PATIENCE = 15.0
"""Seconds after which it is said that one waits for another process."""

_DECIDING = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
"""Of the libraries, on whose versions features depend."""


@dataclass(frozen=True)
class Shown:
    """Images whose features are wanted: `paths`, in which `view`, and with the names that they have below `root`."""

    paths: Sequence[Path]
    view: View
    root: Path
    draw: tuple[int, int] | None = None

    def digest(self, files: str) -> str:
        """Changes with the `files_digest` and with what is seen of each image."""
        return hashlib.sha256(json.dumps([asdict(self.view), self.draw, files]).encode()).hexdigest()[:16]

    def files_digest(self) -> str:
        """Changes with an image's name, size and time of modification."""
        digest = hashlib.sha256()
        for path, state in each_in_threads(state_of, self.paths):
            name = Path(path).relative_to(self.root).as_posix()
            digest.update(f"{name}\0{state[:2]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


class FeatureStep(BaseModel):
    """The backbone as mmengine's loop wants it: a batch of bytes in, features by name out."""

    def __init__(self, network: FrozenBackbone, normalisation: Normalisation, precision: Precision) -> None:
        super().__init__(BaseDataPreprocessor(non_blocking=True))
        self.network, self.normalisation, self.precision = network, normalisation, precision

    def init_weights(self) -> None:
        """Leave the weights as they are."""

    def forward(self, images: Tensor, mode: str, **about: object) -> list[dict[str, Tensor]]:
        """images: uint8 (B, 3, H, W). Gives [features by name, float32 (B, C) each]."""
        with autocast(self.precision, images.device.type):
            features = self.network(normalise(images, self.normalisation))
        return [{name: each.float() for name, each in features.items()}]


class _Writing(BaseMetric):
    """Collects features from all processes by the image's number; the first process writes them."""

    default_prefix = ""

    def __init__(self, kept: KeptFeatures, start: int, paths: Sequence[Path]) -> None:
        super().__init__()
        self.kept, self.start, self.paths = kept, start, paths
        self.faults: dict[str, str] = {}

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Tensor]]) -> None:
        (features,) = data_samples
        self.faults |= data_batch["corrupt"]
        values = {name: each.cpu().numpy() for name, each in features.items()}
        self.results.append((data_batch["numbers"].numpy(), data_batch["readable"].numpy(), values))

    def evaluate(self, size: int) -> dict[str, float]:
        """Write those of all processes. `size`: images of this block."""
        parts, faults = gather_object(self.results), gather_object(self.faults)
        if process_rank() == 0:
            assert parts is not None and faults is not None
            rows = [row for part in parts for row in part]
            numbers, readable = (np.concatenate([row[place] for row in rows]) for place in (0, 1))
            order = np.argsort(numbers)
            if not np.array_equal(numbers[order], np.arange(self.start, self.start + size)):
                raise RuntimeError(f"features of {len(numbers)} of {size} images")
            values = {name: np.concatenate([row[2][name] for row in rows])[order] for name in rows[0][2]}
            self._require_finite(values, readable[order])
            self.kept.write(
                self.start, values, readable[order], {path: why for each in faults for path, why in each.items()}
            )
        self.results.clear()
        self.faults.clear()
        return {}

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Nothing is measured."""
        return {}

    def _require_finite(self, values: Mapping[str, np.ndarray], readable: np.ndarray) -> None:
        for name, each in values.items():
            wrong = np.flatnonzero(~np.isfinite(each).all(1) & readable)
            if len(wrong):
                raise InputError(
                    f"{self.paths[self.start + wrong[0]]}: its features ({name}) are not finite, nor are those of "
                    f"{len(wrong) - 1} more image(s). The weights may be damaged (`backbench inspect FILE`), or too "
                    "large for the precision: --set precision=fp32"
                )


def take_features(
    recipe: ProbingRecipe,
    network: FrozenBackbone,
    shown: Mapping[str, Shown],
    about: Mapping[str, Any],
    directory: Path,
    *,
    kinds: Sequence[str],
    backbone: str,
    seed: int,
    normalisation: Normalisation,
) -> tuple[dict[str, Features], list[Outcome]]:
    """The features of each list of images, kept or computed now, and how the passes went that were needed.

    about: what changes them beside weights, code, normalisation, precision and images
    kinds: which are given; all are computed

    The first process alone is given features. Raises InputError for some that are not finite, and where they cannot be
    kept.
    """
    step = FeatureStep(network, normalisation, resolve_precision(recipe.precision, device_type()))
    common = {
        **about,
        "normalisation": normalisation.as_dict(),
        "precision": step.precision,
        "size": recipe.model.image_size,
    }
    kept = first_decides(lambda: _places(shown, common, network, backbone))
    outcomes: list[Outcome] = []
    for name, each in shown.items():
        with _alone(kept[name]):
            if first_decides(lambda place=kept[name], each=each: _are_missing(place, each)):  # type: ignore[misc]
                outcomes += _compute(recipe, step, kept[name], each, directory, f"{backbone}, {name} images", seed)
    if process_rank() != 0:
        return {}, outcomes
    found = {}
    for name, place in kept.items():
        features = place.find(kinds)
        if features is None:
            raise TryAgainError(f"{place.folder}: features were removed meanwhile. Repeat the command")
        found[name] = features
    return found, outcomes


def _places(
    shown: Mapping[str, Shown], common: Mapping[str, Any], network: FrozenBackbone, backbone: str
) -> dict[str, KeptFeatures]:
    code = {
        "weights": _digest_of_weights(network),
        "code": code_digest(),
        "versions": {name: version for name, version in deciding_versions().items() if name in _DECIDING},
    }
    lists = {id(each.paths): each for each in shown.values()}  # views are of the same files, which are a million
    files = {key: each.files_digest() for key, each in lists.items()}
    places = {
        name: KeptFeatures(
            {**common, **code, "shown": each.digest(files[id(each.paths)])},
            f"{each.root}: {name}, by {backbone}",
            len(each.paths),
        )
        for name, each in shown.items()
    }
    for place in places.values():
        place.spared = [each.folder for each in places.values()]
    return places


def _are_missing(kept: KeptFeatures, shown: Shown) -> bool:
    """Whether features are to be computed: there are none, or images that they are without can be read by now."""
    found = kept.find(())
    if found is None:
        return True
    images = ShownImages(shown.paths, shown.view, shown.draw)
    left_out = np.flatnonzero(~found.readable).tolist()
    again = next((number for number in left_out if images[number]["readable"]), None)
    if again is None:
        return False
    try:
        remove_features(kept.folder)
    except OSError as error:
        raise InputError(
            f"{kept.folder}: features that lack an image cannot be removed: {error.strerror}. Set XDG_CACHE_HOME to "
            "another folder, or have its owner remove them"
        ) from None
    print(f"backbench: {shown.paths[again]} can be read by now: features are computed anew", file=sys.stderr)
    return True


@contextmanager
def _alone(kept: KeptFeatures) -> Iterator[None]:
    """Within the block no other job computes the same; who comes second waits, and finds them."""
    with ExitStack() as held:
        is_told = False
        while not first_decides(lambda: held.enter_context(kept.alone(_PATIENCE))):
            if not is_told and process_rank() == 0:
                print(
                    f"backbench: another process computes the features of {kept.subject}: waiting for it",
                    file=sys.stderr,
                )
            is_told = True
        yield


def _compute(
    recipe: ProbingRecipe,
    step: FeatureStep,
    kept: KeptFeatures,
    shown: Shown,
    directory: Path,
    title: str,
    seed: int,
) -> list[Outcome]:
    """Compute what an earlier call has not, block by block, each process its share; how each block went."""
    done, total = first_decides(kept.done), len(shown.paths)
    blocks = [range(begin, min(begin + BLOCK, total)) for begin in range(done, total, BLOCK)]
    images: Dataset[dict[str, Any]] = ShownImages(shown.paths, shown.view, shown.draw)
    series = EvaluationSeries(len(blocks))
    with series.listening():
        outcomes = [
            series.run(
                EvaluationJob(
                    model=step,
                    evaluation=Evaluation(
                        Subset(images, block),
                        _Writing(kept, block.start, shown.paths),
                        batch_size=recipe.runtime.batch_per_device or MOST_IMAGES,
                    ),
                    recipe=recipe,
                    directory=directory,
                    seed=seed,
                    title=f"features of {title}",
                )
            )
            for block in blocks
        ]
        first_decides(kept.finish)
        series.interrupt.stop_if_requested()
    return outcomes


def _digest_of_weights(network: FrozenBackbone) -> str:
    """Of all numbers and of the structure that holds them: a file's digest says nothing of random weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
