"""How findings about a data set are put into words."""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice

_FIRST_FEW = 5


def name_some(items: Iterable[object], count: int) -> str:
    """The first few of `count` items, separated by commas, and how many more there are."""
    few = ", ".join(str(item) for item in islice(items, _FIRST_FEW))
    return f"{few} and {count - _FIRST_FEW:,} more" if count > _FIRST_FEW else few


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def plural(section: str) -> str:
    """`categories` for `category`."""
    return "categories" if section == "category" else f"{section}s"


def unlike_spelling(one: str, other: str) -> str | None:
    """In what two names differ that mean the same: how accents are encoded, or capitals; None if in more."""
    composed = [unicodedata.normalize("NFC", name) for name in (one, other)]
    if composed[0] == composed[1]:
        return "with accents encoded in another way"
    return "in other capitals" if composed[0].casefold() == composed[1].casefold() else None


def describe_shared(names: Sequence[str], of: str = "") -> str:
    """That the images `names` are in both splits, in words `of` how many, and what it means."""
    return (
        f"{counted(len(names), 'image')}{of} in both splits: {name_some(names, len(names))}. Scores on images that "
        "were trained on say little."
    )
