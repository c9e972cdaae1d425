"""Evaluation images that cannot be read: looked for before hours go into training, and refused after it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from backbones.errors import DataError
from backbones.images.reading import quick_check
from backbones.training.progress_line import with_progress


def check_evaluation_images(paths: Sequence[Path]) -> None:
    """Raise DataError that names the images which are visibly broken."""
    broken = []
    for path in with_progress(paths, "checking evaluation images", len(paths), "images"):
        if why := quick_check(path):
            broken.append(f"{path}: {why}")
    if broken:
        more = f" (and {len(broken) - 3} more)" if len(broken) > 3 else ""
        raise DataError(
            f"{len(broken)} unreadable evaluation image(s): {'; '.join(broken[:3])}{more}. Replace them, or leave them "
            "out with --set evaluation.allow_unreadable=true; the record will say so"
        )


def unreadable_image(path: str, why: str) -> DataError:
    """The refusal of an image that turned out unreadable while it was evaluated."""
    return DataError(
        f"{path}: unreadable evaluation image: {why}. Leave such images out with "
        "--set evaluation.allow_unreadable=true, and what is trained is kept; the record will say so. Or "
        "replace the file, which makes it another data set, to be trained on anew"
    )


def nothing_readable(unreadable: Mapping[str, str]) -> DataError:
    """The refusal to score a set of which no image could be read, given why each one could not."""
    first, why = next(iter(unreadable.items()))
    return DataError(f"no evaluation image could be read, the first is {first}: {why}. Is the folder complete?")
