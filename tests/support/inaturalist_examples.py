"""A set of a few images in iNaturalist's format, to be spoiled: ids sparse, folders that sort in another order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SPECIES = {3: ("Aves", "Parus major"), 20: ("Insecta", "Apis mellifera"), 100: ("Plantae", "Bellis perennis")}
"""By category_id: supercategory and name. As texts the ids sort 100, 20, 3."""

SPLITS = {"train": (3, 2, 4), "val": (1, 1, 1)}
"""Images of each species."""

FOLDERS = {2017: "train_val_images", 2018: "train_val2018", 2019: "train_val2019"}


def content(split: str, year: int = 2018, released: bool = False) -> dict[str, Any]:
    """What a list says; the names of its categories are numbers but in 2017 and where they have been `released`."""
    named = released or year == 2017
    images, annotations = [], []
    for position, (category, (group, name)) in enumerate(SPECIES.items()):
        for number in range(SPLITS[split][position]):
            image = 1000 * (split == "val") + 100 * position + 7 * number
            folder = f"{FOLDERS[year]}/{group}/{name if year == 2017 else category}"
            images.append({"id": image, "file_name": f"{folder}/{split}{number}.jpg", "width": 8, "height": 8})
            annotations.append({"id": image, "image_id": image, "category_id": category})
    categories = [
        {"id": category, "name": name if named else str(category), "supercategory": group if named else "1"}
        for category, (group, name) in reversed(SPECIES.items())
    ]
    return {"info": {"year": year}, "images": images[::-1], "annotations": annotations, "categories": categories}


def write_list(root: Path, split: str, listed: Any, year: int = 2018) -> Path:
    """Write a list, and return its path."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{split}{year}.json"
    path.write_text(json.dumps(listed))
    return path


def write_inaturalist(root: Path, year: int = 2018, released: bool = True) -> Path:
    """Write both lists, every image and, where the names have been `released`, categories.json; returns the root."""
    for split in SPLITS:
        listed = content(split, year)
        write_list(root, split, listed, year)
        for image in listed["images"]:
            path = root / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), image["id"] % 251, np.uint8)).save(path)
    if released and year != 2017:
        names = [{"id": category, "name": name, "supercategory": group} for category, (group, name) in SPECIES.items()]
        (root / "categories.json").write_text(json.dumps(names[::-1]))
    return root
