"""The line about whole jobs: the packaged mini recipes to their ends, beside what they come to on a CPU."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.selftest.jobs import Call, metrics_of, run_all, run_directory
from benchmarks.selftest.lines import Bench, Found, Line


@dataclass(frozen=True)
class Known:
    """A metric as `backbench demo`, in fp32 and in bf16, and of top-1 more seeds had it on a CPU.

    seen:  the least and the most
    least: what a device has to come to
    """

    seen: tuple[float, float]
    least: float


KNOWN: dict[str, dict[str, Known]] = {
    "mini_classification": {"top1": Known((75.6, 87.5), 57.4)},
    "mini_detection": {"AP_box": Known((11.1, 12.4), 5.3), "AP_mask": Known((10.0, 11.8), 4.3)},
    "mini_segmentation": {"mIoU": Known((12.2, 12.5), 8.7)},
}
"""Seeds of the dense tasks are far apart after so few updates: all that is asked of them is to leave random weights
behind, of which `least` is the upper end of the interval (README: 4.6, 3.8 and 7.8, over 500 images). Top-1 of four
seeds in fp32 was 81.3, 84.7, 75.6 and 76.2, of three of them in bf16 87.5, 82.5 and 76.1: `least` is the lower end of
the one-sided 99 % prediction interval from the first four.
"""

LOSSES = (0.335, 0.363)
"""The autoencoder's loss as seeds had it in its last epoch. A device's is told, as top-1 follows it: 82 or more below
0.34, some 76 above 0.35."""

_FOLDERS = {"mini_classification": ".", "mini_detection": "coco", "mini_segmentation": "ade20k"}


def mini_jobs(bench: Bench) -> Found:
    """Pre-train, then fine-tune for every task, side by side on a GPU and in turn on a CPU."""
    from benchmarks.mini import write_mini

    data, runs = bench.scratch / "data", bench.scratch / "runs"
    write_mini(data, processes=8 if bench.device == "cuda" else 2)
    device = ("--set", f"runtime.device={bench.device}")
    pretraining = Call(
        ("pretrain", "--recipe", "mae_vit_mini", "--data", str(data / "unlabelled"), *device), runs / "pretraining"
    )
    run_all([pretraining], None)
    encoder = run_directory(pretraining.out) / "checkpoints/encoder.pth"
    calls = [_call(recipe, data / _FOLDERS[recipe], encoder, runs / recipe, device) for recipe in KNOWN]
    for group in [calls] if bench.device == "cuda" else [[call] for call in calls]:
        run_all(group, None)
    loss = metrics_of(pretraining.out)["reconstruction_loss"]
    return judged({call.out.name: metrics_of(call.out) for call in calls}, loss)


def _call(recipe: str, data: Path, encoder: Path, out: Path, device: tuple[str, ...]) -> Call:
    backbone = f"mae_vit_mini={encoder}"
    return Call(("run", "--recipe", recipe, "--data", str(data), "--backbone", backbone, *device), out)


def judged(metrics: dict[str, dict[str, float]], loss: float) -> Found:
    """The metrics of each recipe beside the known ones, and the autoencoder's loss."""
    pairs = [(name, metrics[recipe][name], known) for recipe, of in KNOWN.items() for name, known in of.items()]
    return Found(
        all(value >= known.least for _, value, known in pairs),
        ", ".join(f"{name} {value:.1f}" for name, value, _ in pairs) + f"; the autoencoder's loss {loss:.3f}",
        "at least "
        + ", ".join(f"{known.least:g}" for _, _, known in pairs)
        + "; on a CPU "
        + ", ".join("{:g} to {:g}".format(*known.seen) for _, _, known in pairs)
        + "; loss {:g} to {:g}".format(*LOSSES),
        {name: value for name, value, _ in pairs} | {"reconstruction_loss": loss},
    )


MINI_JOBS = (
    Line(
        "mini-jobs",
        "pre-training, classification, detection and segmentation on generated images, to their ends",
        {"cuda": 180, "cpu": 900},
        mini_jobs,
    ),
)
