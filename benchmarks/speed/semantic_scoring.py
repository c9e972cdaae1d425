"""How fast is a segmentor scored as we do it, with hotcoco, beside mmsegmentation's IoUMetric?

    python benchmarks/speed/semantic_scoring.py [--repeats 5] [--images 200] [--json FILE]

Both take in the same label maps, image by image, and report mIoU, mAcc and aAcc: 512 × 683 pixels, a usual size in
ADE20K, 150 classes, the most frequent one with nearly a fifth of the pixels, about 20 in an image. Both keep every
image's pixels by class; these have to be equal, and the three scores to the two decimals that IoUMetric gives. They
take turns in one process.
Then, ours alone: an interval of mIoU from those pixels.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric
from torch import Tensor

from benchmarks.speed.comparing.arguments import make_parser, parse_arguments
from benchmarks.speed.comparing.figures import compare, write_figures
from benchmarks.speed.comparing.turns import Turns
from results import statistic_interval
from tasks.datasets.label_maps.layout import AnnotatedImage, SegmentationSet
from tasks.datasets.label_maps.maps import IGNORED
from tasks.segmentation.areas import Areas
from tasks.segmentation.metric import SegmentationMetric

_HEIGHT, _WIDTH = 512, 683
_CLASSES = [f"class {number}" for number in range(150)]
_CELL = 24
_RESAMPLES = 1_000
_ROUNDING = 0.0051
"""IoUMetric rounds percentages to two decimals, in float32."""

Scores = dict[str, float]
Side = Callable[[], tuple[Scores, np.ndarray]]
"""One evaluation: the scores, and each image's pixels in the intersection, annotated, predicted (N, 3, C)."""


def draw_maps(images: int) -> list[tuple[Tensor, Tensor]]:
    """Labels and predictions, uint8 (H, W): patches of the image's own few classes, of which a fifth is mistaken."""
    generator = np.random.default_rng(0)
    frequency = 1 / np.arange(1, len(_CLASSES) + 1)
    rows, columns = -(-_HEIGHT // _CELL), -(-_WIDTH // _CELL)
    maps = []
    for _ in range(images):
        present = generator.choice(len(_CLASSES), 30, p=frequency / frequency.sum())
        cells = generator.choice(present, (rows, columns)).astype(np.uint8)
        found = np.where(generator.random(cells.shape) < 0.2, generator.choice(present, cells.shape), cells)
        labels = _enlarged(np.where(generator.random(cells.shape) < 0.05, IGNORED, cells))
        maps.append((labels, _enlarged(found).roll(2, dims=1)))
    return maps


def _enlarged(cells: np.ndarray) -> Tensor:
    pixels = cells.astype(np.uint8).repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return torch.from_numpy(np.ascontiguousarray(pixels[:_HEIGHT, :_WIDTH]))


def make_sides(maps: list[tuple[Tensor, Tensor]]) -> dict[str, Side]:
    """Both metrics, each with its own batches made beforehand, of one image, as they come from the loader."""
    names = [f"{number:05d}.jpg" for number in range(len(maps))]
    pairs = [AnnotatedImage(name, Path(name), Path(name).with_suffix(".png")) for name in names]
    dataset = SegmentationSet("val", pairs, _CLASSES, reduce_zero_label=True, fingerprint="")
    batches = [
        {"numbers": torch.tensor([number]), "labels": labels[None], "readable": torch.tensor([True]), "corrupt": {}}
        for number, (labels, _) in enumerate(maps)
    ]
    predictions = [[{"predictions": found[None]}] for _, found in maps]
    samples = [[{"gt_sem_seg": {"data": labels}, "pred_sem_seg": {"data": found}}] for labels, found in maps]

    def ours() -> tuple[Scores, np.ndarray]:
        metric = SegmentationMetric(dataset, allow_unreadable=False)
        for batch, found in zip(batches, predictions, strict=True):
            metric.process(batch, found)
        scores = metric.evaluate(len(maps))
        areas = metric.areas
        assert areas is not None
        return scores, np.stack([areas.intersection, areas.annotated, areas.predicted], axis=1)

    def peer() -> tuple[Scores, np.ndarray]:
        metric = IoUMetric()
        metric.dataset_meta = {"classes": _CLASSES}
        for sample in samples:
            metric.process({}, sample)
        scores = metric.compute_metrics(metric.results)
        areas = [torch.stack([both, annotated, found]) for both, _, found, annotated in metric.results]
        return scores, torch.stack(areas).long().numpy()

    return {"mmsegmentation": peer, "ours": ours}


def take_turns(sides: dict[str, Side], repeats: int) -> tuple[dict[str, list[float]], Scores, np.ndarray]:
    """Seconds of each turn of each side, after one to warm up, and what both of them found."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        found = {}
        for name, evaluate in sides.items():
            start = time.perf_counter()
            found[name] = evaluate()
            if turn:
                seconds[name].append(time.perf_counter() - start)
        (peer, peer_areas), (ours, areas) = found["mmsegmentation"], found["ours"]
        apart = max(abs(value - peer[name]) for name, value in ours.items())
        if not np.array_equal(areas, peer_areas) or apart > _ROUNDING:
            raise SystemExit(f"not equal: {peer} and {ours}")
    return seconds, ours, areas


def measure_interval(areas: np.ndarray, value: float) -> None:
    """Print how long the interval of mIoU takes."""
    kept = Areas([str(number) for number in range(len(areas))], areas[:, 0], areas[:, 1], areas[:, 2])
    start = time.perf_counter()
    low, high = statistic_interval(kept.mean_iou, len(areas), resamples=_RESAMPLES, bounds=(0, 100))
    seconds = time.perf_counter() - start
    print(f"mIoU {value:.2f}, interval {low:.2f} to {high:.2f}, {_RESAMPLES:,} resamples: {seconds:.2f} s")


def main() -> None:
    """Measure and print."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--images", type=int, default=200, help="images in the set (default 200; ADE20K has 2000)")
    arguments = parse_arguments(parser)
    MMLogger.get_current_instance().setLevel("ERROR")  # IoUMetric's table of classes
    maps = draw_maps(arguments.images)
    seconds, scores, areas = take_turns(make_sides(maps), arguments.repeats)
    ratios = [peer / ours for peer, ours in zip(seconds["mmsegmentation"], seconds["ours"], strict=True)]
    peer, ours = median(seconds["mmsegmentation"]), median(seconds["ours"])
    print(
        f"{arguments.images:,} images of {_WIDTH} × {_HEIGHT}, {len(_CLASSES)} classes, {arguments.repeats} turns: "
        f"mmsegmentation {peer:.2f} s, ours {ours:.2f} s, {peer / ours:.1f} × "
        f"(turns {min(ratios):.1f} to {max(ratios):.1f}), all pixels and scores equal"
    )
    measure_interval(areas, scores["mIoU"])
    what = f"scoring {arguments.images:,} label maps of {_WIDTH} × {_HEIGHT} px, {len(_CLASSES)} classes"
    sides = Turns(seconds["ours"]), Turns(seconds["mmsegmentation"])
    write_figures(arguments.json, [compare(what, sides[0], "mmsegmentation's IoUMetric", sides[1])])


if __name__ == "__main__":
    main()
