"""What the configuration beside a segmentor of OpenMMLab's says of it, that its tensors do not tell.

It is read by `backbones.weights.openmmlab.stated_configuration`. What it does not say has no part in what comes back.
"""

from collections.abc import Mapping
from typing import Any

from backbones.errors import InputError
from backbones.images.normalisation import Normalisation
from backbones.weights.openmmlab import looked_up

_BUILT: dict[tuple[str, ...], object] = {
    ("backbone", "act_cfg", "type"): "GELU",
    ("decode_head", "align_corners"): False,
    ("decode_head", "pool_scales"): [1, 2, 3, 6],
    ("decode_head", "in_index"): [0, 1, 2, 3],
    ("data_preprocessor", "bgr_to_rgb"): True,
}
"""What a network may have otherwise with tensors of the same names and shapes, as it is built here."""

_EPSILON = 1e-5
"""Of a norm whose configuration gives none (mmcv, cnn/bricks/norm.py, `build_norm_layer`)."""


def require_as_built(configuration: Mapping[str, Any]) -> None:
    """Raise InputError for a network that computes otherwise than the one that is built here."""
    for place, built in _BUILT.items():
        stated = looked_up(configuration, "model", *place)
        if stated is not None and stated != built:
            raise InputError(
                f"model.{'.'.join(place)} is {stated}, and the network here has {built}: with the same weights it "
                "would label otherwise"
            )


def stated_taps(configuration: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The blocks whose outputs become maps."""
    stated = looked_up(configuration, "model", "backbone", "out_indices")
    if isinstance(stated, list) and len(stated) == 4 and all(type(block) is int for block in stated):
        return tuple(stated)
    return None


def stated_epsilon(configuration: Mapping[str, Any]) -> float | None:
    """Of the backbone's norms."""
    norms = looked_up(configuration, "model", "backbone", "norm_cfg")
    if not isinstance(norms, Mapping):
        return None
    epsilon = norms.get("eps", _EPSILON)
    return float(epsilon) if _is_number(epsilon) else None


def stated_inference(configuration: Mapping[str, Any]) -> dict[str, object]:
    """The settings of a recipe's `inference` that it is tested under: whole or in windows, the size of images."""
    found: dict[str, object] = {}
    test: Any = looked_up(configuration, "model", "test_cfg") or {}
    stride = _pair(looked_up(test, "stride"))
    if looked_up(test, "mode") == "whole":
        found |= {"inference.mode": "whole", "inference.stride": None}
    elif looked_up(test, "mode") == "slide" and stride and stride[0] == stride[1]:
        found |= {"inference.mode": "slide", "inference.stride": stride[0]}
    if resize := _test_resize(configuration):
        found["inference.resize"] = (max(resize), min(resize))
    return found


def stated_normalisation(configuration: Mapping[str, Any]) -> Normalisation | None:
    """Of pixels between 0 and 1; the configuration has it of bytes. Raises InputError as `Normalisation` does."""
    places = (looked_up(configuration, "model", "data_preprocessor"), looked_up(configuration, "img_norm_cfg"))
    stated: Any = next((each for each in places if isinstance(each, Mapping) and {"mean", "std"} <= each.keys()), {})
    mean, std = (stated.get(name) for name in ("mean", "std"))
    if not all(isinstance(values, list) and all(map(_is_number, values)) for values in (mean, std)):
        return None
    return Normalisation.of(*([round(value / 255, 6) for value in values] for values in (mean, std)))


def _test_resize(configuration: Mapping[str, Any]) -> tuple[int, int] | None:
    """Of the pipeline that images are tested with: mmsegmentation's `Resize`, before 1.0 `MultiScaleFlipAug`."""
    pipelines = (
        looked_up(configuration, "test_dataloader", "dataset", "pipeline"),
        looked_up(configuration, "data", "test", "pipeline"),
        looked_up(configuration, "test_pipeline"),
    )
    steps = next((each for each in pipelines if isinstance(each, list)), [])
    stated = (_pair(looked_up(step, name)) for step in steps for name in ("scale", "img_scale"))
    return next(filter(None, stated), None)


def _pair(value: object) -> tuple[int, int] | None:
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int and each > 0 for each in value):
        return value[0], value[1]
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
