"""`backbench doctor`: versions, devices, what works here and what doesn't."""

import importlib
import importlib.metadata
import platform
import warnings
from collections.abc import Callable

from rich.text import Text

from benchmarks.commands.console import plain_console

LIBRARIES = (
    *("torch", "torchvision", "timm", "onedl-mmengine", "onedl-mmcv", "onedl-mmsegmentation", "sal-detectron2"),
    *("hotcoco", "simplejpeg", "numpy", "pandas", "pydantic"),
)


def examine() -> bool:
    """Print the state of the installation; False if something that the tasks need does not work."""
    console = plain_console()
    console.print(f"backbench {_version('backbench')} on Python {platform.python_version()}, {platform.platform()}")
    for library in LIBRARIES:
        console.print(f"  {library} {_version(library)}")
    console.print(_devices())
    failures = 0
    for what, trial in TRIALS.items():
        try:
            with warnings.catch_warnings(action="ignore"):
                trial()
            console.print(Text.assemble("  ", ("works", "green"), f"  {what}"))
        except Exception as error:  # whatever an installation can do wrong is the answer here
            failures += 1
            why = f"  {what}: {type(error).__name__}: {error}"
            console.print(Text.assemble("  ", ("fails", "red"), why), soft_wrap=True)
    if failures:
        console.print("Reinstall with `make setup`; the README's section on installation says what each part is for")
    return not failures


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    import torch

    from backbones.training.machine import device_name, device_type
    from backbones.training.precision import bf16_is_fast, resolve_precision

    count = torch.cuda.device_count()
    speed = "fast" if bf16_is_fast(device_type()) else "slow"
    gpus = f"{count} GPU(s), {device_name()}" if count else f"no GPU; {device_name()}"
    precision = resolve_precision("auto", device_type())
    return f"  device: {gpus}; bfloat16 is {speed} here, so precision auto means {precision}"


def _train_a_step() -> None:
    import torch

    from backbones import create_mae

    loss, _, _ = create_mae("mae_vit_mini_patch8")(torch.randn(2, 3, 48, 48))
    loss.backward()


def _decode() -> None:
    import numpy as np
    import simplejpeg

    black = np.zeros((16, 16, 3), dtype=np.uint8)
    simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(black))


def _imports(*modules: str) -> Callable[[], None]:
    def trial() -> None:
        for module in modules:
            importlib.import_module(module)

    return trial


TRIALS: dict[str, Callable[[], None]] = {
    "pre-training and classification (timm, mmengine)": _train_a_step,
    "fast JPEG decoding (simplejpeg)": _decode,
    "detection (detectron2, pycocotools)": _imports("detectron2.modeling", "pycocotools.mask"),
    "segmentation (mmseg, mmcv, detectron2)": _imports("tasks.segmentation.task"),
    "scoring (hotcoco)": _imports("hotcoco"),
}
