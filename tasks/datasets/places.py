"""Whether a data set lies where its settings say, and where else it may lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from backbones.images.folders import folder_names

Split = Literal["train", "val"]


def explain_absence(root: Path, places: Mapping[str, str], what: str) -> str | None:
    """Say why there is no `what` below `root`, and where it may lie; None if at least one of its `places` is there.

    `places` are paths below `root`, by the name of their setting in the section `data`.
    """
    if not root.is_dir():
        return f"{root}: {'a file, not a folder' if root.exists() else 'no such folder'}."
    if any((root / place).exists() for place in places.values()):
        return None
    *most, last = places.values()
    text = f"{root}: no {what} found. Expected {', '.join(most)} and {last} in it."
    for below in (root / name for name in folder_names(root)):
        if all((below / place).exists() for place in places.values()):
            return f"{text} {below} has them: pass that folder."
    kinds = {key: "FILE" if key.endswith("json") else "FOLDER" for key in places}
    return f"{text} Other places: {' '.join(f'--set data.{key}={kind}' for key, kind in kinds.items())}"
