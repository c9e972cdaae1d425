"""How many images were turned by their EXIF orientation, in words."""

from collections.abc import Iterable

from backbones.images.upright import Orientation
from tasks.datasets.wording import counted


def describe_orientations(split: str, found: Iterable[Orientation]) -> list[str]:
    """A note on the images of the split whose files ask to be turned; none where no file does."""
    tagged = [orientation for orientation in found if orientation.tagged]
    if not tagged:
        return []
    kept = sum(orientation.kept for orientation in tagged)
    whose = "all" if kept == len(tagged) else f"{kept:,} of them"
    unturned = f"; not so {whose}, which only unturned have the size of their annotations" if kept else ""
    return [
        f"{counted(len(tagged), f'{split} image')} with an EXIF orientation, turned by it as detectron2 and mmcv do"
        f"{unturned}."
    ]
