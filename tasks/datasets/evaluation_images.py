"""Evaluation images that cannot be read: looked for before hours go into training, and refused after it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from backbones.cache import Finding, kept
from backbones.errors import DataError
from backbones.images.observing import looking_at
from backbones.images.reading import quick_check
from backbones.training.agreement import first_decides
from backbones.training.progress_line import with_progress
from results.code import code_digest


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


def require_evaluation_images(data: Path, paths: Sequence[Path]) -> None:
    """`check_evaluation_images` by the first process for all, unless these files below `data` have passed before."""

    def find() -> Finding:
        for path in paths:
            looking_at(path)
        check_evaluation_images(paths)
        return Finding({})

    question = {"code": code_digest(), "paths": digest_of(paths)}
    first_decides(lambda: kept("evaluation images", data, question, find).facts)


def digest_of(paths: Iterable[Path]) -> str:
    """Of the names, to tell one list of files from another."""
    return hashlib.sha256("\0".join(map(str, paths)).encode(errors="surrogateescape")).hexdigest()


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
