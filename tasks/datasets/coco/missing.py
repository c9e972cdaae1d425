"""The images that an annotation file names and that are not there, and where they may be."""

import os
from pathlib import Path

from backbones.images.observing import looking_at
from tasks.datasets.coco.annotation_json import CocoJson
from tasks.datasets.json_lists import is_path_below
from tasks.datasets.places import Split
from tasks.datasets.wording import counted, name_some


def missing_files(file: CocoJson, images: Path, split: Split) -> list[str]:
    """Say which of the file's images are not below the folder `images`, and what to do.

    A name that is no path below it, of which the rules tell already, is told again only where its file is there.
    """
    names = [entry["file_name"] for entry in file.images if type(entry.get("file_name")) is str]
    sound = [name for name in names if is_path_below(name)]
    folders = _Folders(images)
    foreign = [name for name in names if not is_path_below(name)]
    missing = [name for name in sound if not folders.hold(name)]
    near = {name: found for name in [*missing, *foreign] if (found := folders.nearest(name))}
    problems = []
    if missing:
        hint = _find_above(sound[0], images, split) if len(missing) == len(sound) else None
        if hint is None and near:
            hint = _describe_near(near)
        elif hint is None and len(missing) == len(sound):
            hint = f"Is it the right folder? --set data.{split}_images=FOLDER sets another."
        problems.append(
            f"{counted(len(missing), 'image')} of {len(names):,} not found in {images}: "
            f"{name_some(missing, len(missing))}. {hint or 'Add them, or remove them from the file.'}"
        )
    elif near:
        problems.append(
            f"{counted(len(near), 'image')} of {len(names):,} not named from {images} on. {_describe_near(near)}"
        )
    return problems


def _describe_near(near: dict[str, str]) -> str:
    name, found = next(iter(near.items()))
    return (
        f"{len(near):,} would be found under another name, such as {found} for {name}: write "
        '"file_name" as the path below that folder, with / between folders and capitals as on the disk.'
    )


def _find_above(name: str, images: Path, split: Split) -> str | None:
    above = [folder for folder in images.parents[:3] if _Folders(folder).hold(name)]
    return f"They are named from {above[0]} on: --set data.{split}_images={above[0].resolve()}." if above else None


class _Folders:
    """What lies below a folder. Lists each folder once: a stat call for each image takes minutes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listed: dict[str, set[str]] = {}
        self.folded: dict[str, dict[str, str]] = {}

    def hold(self, name: str) -> bool:
        """Whether there is such a file."""
        parent, _, last = name.rpartition("/")
        return last in self._list(parent)

    def nearest(self, name: str) -> str | None:
        """The file that another system may have called `name`: by backslashes, below other folders, in other case."""
        parts = name.replace("\\", "/").split("/")
        last = parts[-1]
        for start in range(len(parts)):
            parent = "/".join(parts[start:-1])
            if not is_path_below("/".join(parts[start:])):
                continue
            found = last if last in self._list(parent) else self._fold(parent).get(last.casefold())
            if found:
                return f"{parent}/{found}" if parent else found
        return None

    def _list(self, parent: str) -> set[str]:
        if parent not in self.listed:
            looking_at(self.root / parent)
            try:
                with os.scandir(self.root / parent) as entries:
                    self.listed[parent] = {entry.name for entry in entries}
            except OSError:
                self.listed[parent] = set()
        return self.listed[parent]

    def _fold(self, parent: str) -> dict[str, str]:
        if parent not in self.folded:
            self.folded[parent] = {name.casefold(): name for name in sorted(self._list(parent))}
        return self.folded[parent]
