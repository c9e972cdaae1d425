"""A real photograph, read."""

import pytest
from PIL import Image

from tests.support.image_examples import PHOTOGRAPH


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A real photograph, 512 × 600."""
    return Image.open(PHOTOGRAPH).convert("RGB")
