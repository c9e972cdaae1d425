"""Whether a trained segmentor labels the classes that the data have."""

from collections.abc import Sequence

from tasks.trained import PublishedNetwork, TrainedNetwork, require_classes

_SPELLED_OTHERWISE = 0.1
"""The largest share of names that may be spelled otherwise: among ADE20K's 150, mmsegmentation has "television
receiver", and some lists of them "television"."""


def require_known_classes(trained: TrainedNetwork, classes: Sequence[str]) -> list[str]:
    """Notes on how the network's classes are known to be the data's.

    Raises InputError as `require_classes` does. Names in a file of others may be spelled otherwise here and there, if
    none of them stands at another place.
    """
    known = trained.known
    if isinstance(known, PublishedNetwork):
        if not known.classes:
            return ["the file does not say which classes it labels: they are taken to be the data's, in their order"]
        if _are_same(known.classes, classes):
            differing = [pair for pair in zip(known.classes, classes, strict=True) if _said(pair[0]) != _said(pair[1])]
            spelled = ", ".join(f"{theirs} for {ours}" for theirs, ours in differing)
            return [f"the file spells classes otherwise than the data: {spelled}"] if spelled else []
    require_classes(trained, classes)
    return []


def _are_same(known: Sequence[str], classes: Sequence[str]) -> bool:
    theirs, ours = ([_said(name) for name in names] for names in (known, classes))
    if len(theirs) != len(ours):
        return False
    differing = [pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1]]
    moved = any(one in ours or other in theirs for one, other in differing)
    return not moved and len(differing) <= _SPELLED_OTHERWISE * len(ours)


def _said(name: str) -> str:
    return " ".join(name.split()).casefold()
