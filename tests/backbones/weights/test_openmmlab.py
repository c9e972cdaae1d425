"""What OpenMMLab's files say of themselves, as mmengine and mmcv write it; nothing of it is run."""

from pathlib import Path

import pytest
import torch
from mmengine import Config

from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.openmmlab import looked_up, stated_classes, stated_configuration


def test_classes_of_both_generations_of_files() -> None:
    assert stated_classes({"dataset_meta": {"classes": ["wall", "bed "], "palette": []}}) == ("wall", "bed")
    assert stated_classes({"CLASSES": ("wall", "bed")}) == ("wall", "bed")
    assert stated_classes({}) == stated_classes({"CLASSES": None}) == stated_classes({"CLASSES": [1, 2]}) == ()


def test_a_configuration_is_read_as_mmengine_writes_it() -> None:
    settings = {
        "crop_size": (512, 512),
        "model": {"backbone": {"out_indices": [3, 5, 7, 11], "init_values": -1.0}, "pretrained": None, "on": True},
        "pipeline": [{"type": "Resize", "scale": (2048, 512)}],
    }
    read = stated_configuration({"cfg": Config(settings).pretty_text})
    assert read == {**settings, "crop_size": [512, 512], "pipeline": [{"type": "Resize", "scale": [2048, 512]}]}
    assert looked_up(read, "model", "backbone", "out_indices") == [3, 5, 7, 11]
    assert looked_up(read, "model", "neck", "rescales") is None


def test_names_stand_for_what_they_were_given() -> None:
    text = "crop = (512, 512)\nmodel = dict(test_cfg={'crop_size': crop, 'stride': other})"
    read = stated_configuration({"config": text})
    assert read["model"] == {"test_cfg": {"crop_size": [512, 512], "stride": None}}


@pytest.mark.parametrize(
    "text", ["import os; os.mkdir('{0}')", "x = __import__('os').mkdir('{0}')", "not python (", "\0"]
)
def test_nothing_of_a_configuration_is_run(tmp_path: Path, text: str) -> None:
    made = tmp_path / "made"
    assert not any(stated_configuration({"cfg": text.format(made)}).values())
    assert not made.exists()


def test_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    torch.save({"meta": {"CLASSES": ("a", "b")}, "state_dict": {"w": torch.ones(1)}}, tmp_path / "file.pth")
    assert stated_classes(read_checkpoint(tmp_path / "file.pth").meta) == ("a", "b")
    torch.save({"w": torch.ones(1)}, tmp_path / "bare.pth")
    assert read_checkpoint(tmp_path / "bare.pth").meta == {}
