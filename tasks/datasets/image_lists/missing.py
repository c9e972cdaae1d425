"""What to do about images that are listed and missing: where others lie that may be they."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tasks.datasets.wording import counted, name_some, unlike_spelling


def spelled_otherwise(missing: Sequence[str], unlisted: Sequence[str]) -> str:
    """Which of the missing images are there in other capitals or with other accents, in a sentence; or nothing."""
    there = {_folded(name): name for name in unlisted}
    pairs = [(name, there[_folded(name)]) for name in missing if _folded(name) in there]
    if not pairs:
        return ""
    name, other = pairs[0]
    return (
        f"{counted(len(pairs), 'of them is', 'of them are')} there {unlike_spelling(name, other)}: {other} for {name}. "
        "Rename the files as they are listed."
    )


def lies_elsewhere(folder: Path, missing: Sequence[str], unlisted: Sequence[str]) -> str:
    """Where all that is missing below `folder` lies instead, and what to do, in a sentence; or nothing.

    `unlisted` are the images below it that nothing names.
    """
    there = set(unlisted)
    for start in range(1, missing[0].count("/") + 1):
        tails = ["/".join(name.split("/")[start:]) for name in missing]
        if there.issuperset(tails):
            return f"{tails[0]} is there: write the names from that folder on."
    if all((folder.parent / name).exists() for name in missing):
        return f"They are in {folder.parent}: move them to {folder}."
    above = _folders_above(missing, unlisted)
    if len(above) == 1:
        return f"They are in {folder / above[0]}: move them to {folder}."
    if above:
        some = name_some([f"{name}/" for name in above], len(above))
        return f"They are in {len(above):,} folders in it, {some}: move them from there to {folder}."
    return ""


def _folders_above(missing: Sequence[str], unlisted: Sequence[str]) -> list[str]:
    """The folders that all the missing names lie in, sorted; none if one lies in no folder."""
    left, above = set(missing), set()
    for name in unlisted:
        parts = name.split("/")
        for start in range(1, len(parts)):
            if (tail := "/".join(parts[start:])) in left:
                left.discard(tail)
                above.add("/".join(parts[:start]))
                break
    return [] if left else sorted(above)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
