"""Finished runs that `backbench compare` can read, made without any training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.running.writing import write_record
from results import Metric
from tasks.classification.paired import MEANS
from tasks.detection.matches import save_matches
from tasks.detection.scoring import score
from tasks.segmentation.areas import Areas, save_areas
from tests.support.in_process import call
from tests.support.results_examples import make_record
from tests.support.scoring_examples import draw_detections, draw_truth, image_ids, write_truth

IMAGES = 200
GOOD, BAD = 0.9, 0.6
NAMES = [f"val/{index:03d}.png" for index in range(IMAGES)]


def answers(accuracy: float, seed: int = 0) -> pd.DataFrame:
    """What a classifier said of each image: right, about so often, or wrong."""
    generator = np.random.default_rng(seed)
    right = generator.random(IMAGES) < accuracy
    loss = np.where(right, 0.2, 2.0) + 0.1 * generator.random(IMAGES)
    return pd.DataFrame({"image": NAMES, "labels": 1, "top1": 100.0 * right, "top5": 100.0, "loss": loss})


def write_classification(directory: Path, frame: pd.DataFrame, **fields: Any) -> Path:
    """A finished run as classification leaves it."""
    metrics = [Metric(name=name, value=frame[name].mean(), split="val", n_eval=len(frame)) for name in MEANS]
    settings: dict[str, Any] = {"dataset": "mini", "data_fingerprint": "f" * 64, "protocol": {"drop_path": "0.1"}}
    write_record(directory, make_record(**settings | {"metrics": metrics} | fields))
    frame.to_csv(directory / "per_image.csv", index=False)
    return directory


def write_cell(store: Path, backbone: str, accuracy: float, seeds: tuple[int, ...] = (0,), **fields: Any) -> None:
    """Finished classifications in a store, a run of each seed."""
    for seed in seeds:
        frame = answers(accuracy, seed=seed)
        directory = store / "classification/mini" / backbone / f"seed{seed}-{fields.get('recipe', 'abc')}"
        write_classification(directory, frame, backbone=backbone, seed=seed, **fields)


def write_detection(directory: Path, jitter: float, images: int = 40, **fields: Any) -> Path:
    """A finished run as detection leaves it; the annotations are gone afterwards."""
    truth = draw_truth(0, images=images)
    directory.parent.mkdir(parents=True, exist_ok=True)
    file = write_truth(directory.parent / "truth.json", truth)
    scores = score(file, draw_detections(truth, 0, jitter=jitter, ties=False), image_ids(truth))
    file.unlink()
    metrics = [Metric(name=name, value=value, split="val", n_eval=images) for name, value in scores.metrics.items()]
    write_record(directory, make_record(metrics=metrics, task="detection", dataset="coco2017", table="coco", **fields))
    for name, matches in scores.matches.items():
        save_matches(directory / f"matches_{name}.npz", matches)
    return directory


def draw_areas(share: float, images: int = 80) -> Areas:
    """The same annotations each time, of which about `share` is found."""
    generator = np.random.default_rng(0)
    annotated = generator.integers(1_000, 5_000, (images, 6)) * (generator.random((images, 6)) < 0.4)
    annotated[:, 0] += 1_000
    found = (annotated * np.clip(share + generator.normal(0, 0.1, annotated.shape), 0, 1)).astype(np.int64)
    return Areas(NAMES[:images], found, annotated, found + np.roll(annotated - found, 1, axis=1))


def write_segmentation(directory: Path, areas: Areas, **fields: Any) -> Path:
    """A finished run as segmentation leaves it."""
    ones = np.ones((1, len(areas.image_names)), dtype=int)
    metrics = [
        Metric(name=name, value=metric(ones)[0], split="val", n_eval=len(areas.image_names))
        for name, metric in areas.weighted.items()
    ]
    settings = {"task": "segmentation", "dataset": "ade20k", "table": "", **fields}
    write_record(directory, make_record(metrics=metrics, **settings))
    save_areas(directory / "areas.npz", areas)
    return directory


def of_a_later_zip(content: bytes) -> bytes:
    """An .npz file whose first entry says that it needs version 9.9 of the format, as a flipped bit may."""
    place = content.index(b"PK\1\2") + 6
    return content[:place] + bytes([99]) + content[place + 1 :]


def compare(*arguments: object) -> tuple[int, str]:
    """Exit status and output of `backbench compare`."""
    result = call("compare", *arguments)
    return result.exit_code, result.output
