"""The site file beside the generated data: where suites find each data set, and the weights in place of theirs."""

from pathlib import Path

from backbones.errors import not_written
from benchmarks.mini.files import write_text
from benchmarks.mini.transfer import TRANSFER_SETS

SITE = "site.yaml"
WEIGHTS = "weights"
"""The folder of the stand-ins below that of the data."""

PLACES = {
    **{"mini": ".", "mini-unlabelled": "unlabelled", "mini-coco": "coco", "mini-ade20k": "ade20k"},
    **{"imagenet1k": ".", "coco2017": "coco", "ade20k": "ade20k"},
    **{name: name for name in TRANSFER_SETS},
}
"""By a data set's name, as recipes and suites have it, the folder of the generated one in its layout."""

_HEAD = """\
# Where the generated data are, for `backbench suite SUITE --site FILE`. `backbench data mini` writes this file anew:
# change a copy. Paths count from the file's folder. What stands under a published name is in that set's layout only,
# and weights are random numbers in their authors' files, which mean nothing.
"""


def write_site(root: Path) -> Path:
    """Write the site file of what lies in the folder of generated data, in place of an earlier one of ours.

    Raises InputError if it cannot be written.
    """
    path = root / SITE
    there = {name: folder for name, folder in PLACES.items() if (root / folder).is_dir()}
    text = "\n".join([f"{_HEAD}data:", *(f"  {name}: {folder}" for name, folder in there.items()), ""])
    if (root / WEIGHTS).is_dir():
        text += f"weights: [{WEIGHTS}]\n"
    try:
        before = path.read_text() if path.exists() else ""
        if before != text and (not before or before.startswith(_HEAD.splitlines()[0])):
            write_text(path, text)
    except OSError as error:
        raise not_written(f"{path}: cannot be written: {error.strerror or error}.", error.errno) from error
    return path
