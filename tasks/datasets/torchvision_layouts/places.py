"""Where a set's own folder lies, and what to do about one in another place or of another name."""

from pathlib import Path, PurePath

from backbones.errors import DataError
from backbones.images.folders import folder_names
from backbones.images.observing import looking_at
from tasks.datasets.torchvision_layouts.sets import TorchvisionSet


def torchvision_root(spec: TorchvisionSet, root: Path) -> Path:
    """The folder above, if it is the set's own that was passed.

    Raises DataError for the set's files in a folder of another name.
    """
    own, above = root / spec.folder, root.absolute().parent
    is_own = root.absolute().name == spec.folder
    for lies in (lambda folder: _exists(folder / spec.files[0]), lambda folder: _is_shallow(spec, folder)):
        if lies(own):
            return root
        if is_own and lies(root):
            return above
    if _exists(own) or not root.is_dir():
        return root
    folders = folder_names(root)
    for folder in (root, *(root / name for name in folders if "train" not in folders)):
        if all(_exists(folder / name) for name in spec.files):
            raise DataError(
                f"{folder}: looks like {spec.name}. Rename it to {spec.folder}, and pass it or the folder that it is "
                f"in; a link of that name does too."
            )
    return root


def find_misplaced(spec: TorchvisionSet, base: Path) -> str | None:
    """What to do about files that lie a folder too deep or not deep enough in `base`; None if they lie where they are
    looked for, or nowhere.
    """
    first = spec.files[0]
    if _exists(base / first):
        return None
    inner = base / spec.folder
    if _exists(inner / first):
        return f"{inner}: one folder too many. Pass {base}, or move what is in it up."
    if _is_shallow(spec, base):
        folder = PurePath(first).parts[0]
        names = " and ".join(f"{name}/" for name in dict.fromkeys(PurePath(file).parts[1] for file in spec.files))
        return (
            f"{base}: {names} belong one folder deeper, where torchvision.datasets.{spec.kind} unpacks them. Make "
            f"{base / folder} and move them there."
        )
    return None


def _is_shallow(spec: TorchvisionSet, base: Path) -> bool:
    """Whether the files lie in `base` that belong in one folder of it: DTD's archive does not have the outer one."""
    parts = [PurePath(name).parts for name in spec.files]
    return len({part[0] for part in parts}) == 1 and all(
        len(part) > 1 and _exists(base.joinpath(*part[1:])) for part in parts
    )


def _exists(path: Path) -> bool:
    looking_at(path)
    return path.exists()
