"""UPerNets of BEiT's code and of mae_segmentation, with all their options, against the code restated."""

from pathlib import Path
from typing import cast

import pytest
import torch

from tasks.segmentation.recipe import SegmentationRecipe
from tests.support.published_segmentors import CLASSES, own_segmentor, planned, restated, write_file
from tests.support.restated_segmentors import Variant

VARIANTS = {
    "mae_segmentation's": ("mae", Variant()),
    "one table for all blocks": ("mae", Variant(tables=False, shared_table=True, layer_scale=False)),
    "position embeddings alone": ("mae", Variant(tables=False, layer_scale=False, auxiliary=False)),
    "patches of 8 pixels": ("mae_of_8_pixels", Variant(patch=8)),
    "BEiT's": ("beit", Variant(key_bias=False, positions=False)),
    "BEiT's, one table": ("beit", Variant(key_bias=False, positions=False, tables=False, shared_table=True)),
    "BEiT's, position embeddings": ("beit_with_positions", Variant(key_bias=False)),
}


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_logits_are_those_of_the_restated_code(tmp_path: Path, name: str) -> None:
    backbone, variant = VARIANTS[name]
    theirs = restated(variant)
    file = write_file(tmp_path / "segmentor.pth", theirs.state_dict())
    plan = planned(file, f"tests.support.mmseg_files:{backbone}")
    ours, recipe = own_segmentor(plan, len(CLASSES)), cast(SegmentationRecipe, plan.recipe)
    assert recipe.model.image_size == variant.side
    assert recipe.inference.resize == (4 * variant.side, variant.side)
    assert recipe.inference.stride == variant.side * 2 // 3
    for size in ((variant.side + 27, variant.side), (variant.side, 3 * variant.side - 11)):
        image = torch.randint(256, (1, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        whole = (size[0] + 5, size[1] + 7)
        expected = theirs.slide(image, variant.side * 2 // 3, whole)
        found = ours.logits(image, whole)
        off, differing = (found - expected).abs().max().item(), (found.argmax(1) != expected.argmax(1)).sum().item()
        print(f"{name} {size}: logits {off:.1e} of {expected.abs().max().item():.1f}, {differing} labels")
        assert off <= 1e-4
        assert differing == 0
        assert len(expected.argmax(1).unique()) > 1
