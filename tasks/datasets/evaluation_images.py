"""Evaluation images that cannot be read: looked for before hours go into training, and refused after it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from backbones.cache import Finding, kept
from backbones.errors import DataError
from backbones.images.observing import looking_at
from backbones.images.reading import quick_check
from backbones.training.agreement import first_decides
from backbones.training.progress_line import ProgressLine, progress_line
from results.code import code_digest

_READERS, _CHUNK = 16, 256
"""Threads that look at files, which mostly wait for the disk, and how many files each takes at a time."""


class _BrokenError(Exception):
    """Images that are visibly broken, by path."""


def require_evaluation_images(data: Path, paths: Sequence[Path]) -> None:
    """Raise DataError that names the images which are visibly broken, unless these below `data` have passed before.

    The first process looks for all.
    """
    require_evaluation_images_of({data: paths})


def require_evaluation_images_of(parts: Mapping[Path, Sequence[Path]]) -> None:
    """`require_evaluation_images` for several folders, of which each that has passed is not looked at again.

    What is broken in any of them is told at once.
    """
    first_decides(lambda: _look_at(parts))


def _look_at(parts: Mapping[Path, Sequence[Path]]) -> None:
    broken: dict[str, str] = {}
    total, before = sum(map(len, parts.values())), 0
    with ExitStack() as shown:
        line: ProgressLine | None = None

        def find() -> Finding:
            nonlocal line
            if line is None:  # nobody needs to see that all has passed before
                line = shown.enter_context(progress_line("checking evaluation images", total, "images"))
                line.start_at(before)
            if found := _find_broken(paths, line, before):
                raise _BrokenError(found)
            return Finding({})

        for folder, paths in parts.items():
            try:
                kept("evaluation images", folder, {"code": code_digest(), "paths": digest_of(paths)}, find)
            except _BrokenError as error:
                broken |= error.args[0]
            before += len(paths)
    if broken:
        listed = "; ".join(f"{path}: {why}" for path, why in [*broken.items()][:3])
        more = f" (and {len(broken) - 3} more)" if len(broken) > 3 else ""
        raise DataError(
            f"{len(broken)} unreadable evaluation image(s): {listed}{more}. Replace them, or leave them "
            "out with --set evaluation.allow_unreadable=true; the record will say so"
        )


def _find_broken(paths: Sequence[Path], line: ProgressLine, before: int) -> dict[str, str]:
    """The visibly broken ones among these, in their order, and why."""
    broken: dict[str, str] = {}
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for done, found in enumerate(pool.map(_broken_of, chunks), start=1):
                broken |= found
                line.update(before + min(done * _CHUNK, len(paths)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return broken


def _broken_of(paths: Sequence[Path]) -> dict[str, str]:
    broken = {}
    for path in paths:
        looking_at(path)
        if why := quick_check(path):
            broken[str(path)] = why
    return broken


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
