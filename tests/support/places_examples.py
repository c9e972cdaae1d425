"""Small data sets in the layouts of Places205 and Places365-Standard, their images of 8 pixels."""

from pathlib import Path

from PIL import Image

PLACES = ("a/airfield", "b/bus_station/indoor", "b/bus_station/outdoor", "z/zen_garden")
"""Folders, in the order of the classes' numbers."""

IMAGES_205 = "data/vision/torralba/deeplearning/images256"


def write_places205(root: Path) -> Path:
    """Three training and one validation image of each class, the lists in the order of nothing."""
    lists = root / "trainvalsplit_places205"
    train = [(f"{place}/gsun_{number}.jpg", label) for number in (2, 0, 1) for label, place in enumerate(PLACES)]
    val = [(f"{place}/gsun_9.jpg", label) for label, place in reversed([*enumerate(PLACES)])]
    write_list(lists / "train_places205.csv", train)
    write_list(lists / "val_places205.csv", val)
    draw(root / IMAGES_205, *(name for name, _ in (*train, *val)))
    return root


def write_places365(root: Path, train_folder: str = "data_256", val_folder: str = "val_256") -> Path:
    """Two training and one validation image of each class."""
    train = [(f"/{place}/0000000{number}.jpg", label) for label, place in enumerate(PLACES) for number in (1, 2)]
    val = [(f"Places365_val_0000000{number}.jpg", label) for number, label in enumerate((3, 0, 2, 1), 1)]
    write_list(root / "places365_train_standard.txt", train)
    write_list(root / "places365_val.txt", val)
    write_list(root / "categories_places365.txt", [(f"/{place}", label) for label, place in enumerate(PLACES)])
    draw(root / train_folder, *(name for name, _ in train))
    draw(root / val_folder, *(name for name, _ in val))
    return root


def write_list(path: Path, entries: list[tuple[str, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {label}\n" for name, label in entries))


def draw(folder: Path, *names: str) -> None:
    """Images of one grey each, of another size in bytes by another name."""
    for number, name in enumerate(names):
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path, comment=b"x" * number)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
