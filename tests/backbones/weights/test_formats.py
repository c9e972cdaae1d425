"""Every kind of file that is read: the features of timm's model are those of the code that the file is of.

`pytest tests/backbones/weights/test_formats.py -s` prints how far they are apart.
"""

from pathlib import Path

import pytest
import torch

from backbones.registry import create_backbone
from tests.support.authors_files import AUTHORS_FILES, Kind
from tests.support.checkpoint_examples import check_account, images
from tests.support.libraries_files import LIBRARIES_FILES

KINDS = (*AUTHORS_FILES, *LIBRARIES_FILES)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.name) for kind in KINDS])
def test_features_are_the_sources(kind: Kind, tmp_path: Path) -> None:
    path, features = kind.write(tmp_path)
    model = create_backbone(f"tests.support.small_architectures:{kind.into}", path).eval()
    check_account(model.load_report, path, model)
    side = 64 if kind.into == "hiera" else 32
    pixels = images(2, side)
    with torch.no_grad():
        expected, found = features(pixels), model.forward_features(pixels)
    difference = float((found - expected).abs().max())
    print(f"| {kind.name} | {difference:.1e} |")
    assert difference <= 1e-5
