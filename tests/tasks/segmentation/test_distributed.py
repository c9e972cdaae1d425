"""Segmentation in two processes under torchrun (gloo, CPU) against one."""

from pathlib import Path

import pytest
import torch

from tasks.segmentation.areas import load_areas
from tests.support.commands import backbench, checkpoint_tensors, read_record, run_directory, torchrun
from tests.support.segmentation_runs import VAL, annotation_file, few_scenes, image_file, segmentation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def odd(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few scenes, an odd number of them to evaluate on."""
    root = few_scenes(mini / "ade20k", tmp_path_factory.mktemp("odd") / "scenes")
    for place in (image_file, annotation_file):
        place(root, "val", VAL[-1]).unlink()
    return root


def test_they_leave_one_record_of_all_images(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = segmentation(odd, out, optimizer__batch_size=4)
    text = torchrun(arguments)
    assert text.count("random_vit_mini on mini-ade20k") == 1
    assert len(list(out.glob("**/record.json"))) == 1
    record = read_record(out)
    assert (record["world_size"], record["images_per_step"], record["batch_norm_images"]) == (2, 4, 4)
    assert not [deviation for deviation in record["deviations"] if "batch norm" in deviation]
    assert {metric["n_eval"] for metric in record["metrics"]} == {len(VAL) - 1}
    assert all(0 < metric["value"] < 100 for metric in record["metrics"])
    areas = load_areas(run_directory(out) / "areas.npz")
    assert areas.image_names == sorted(path.name for path in (odd / "images/validation").iterdir())
    assert len((out / "results.csv").read_text().splitlines()) == 1 + len(record["metrics"])
    assert torchrun(arguments).count("finished before") == 1
    assert read_record(out) == record


def test_they_see_what_one_sees_and_normalise_over_both(odd: Path, tmp_path: Path) -> None:
    """One update of two images in each process, after which the means of all batch norms are equal.

    Each of them but the first also depends on the variances before it. Weights differ: dropout follows, and draws.
    """
    changes = {"optimizer__batch_size": 4, "precision": "fp32", "schedule__iterations": 1}
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert backbench(segmentation(odd, alone, **changes, schedule__warmup_iterations=0), tmp_path / "log") == 0
    torchrun(segmentation(odd, together, **changes, schedule__warmup_iterations=0))
    assert read_record(alone)["key"] == read_record(together)["key"]
    expected, found = checkpoint_tensors(alone), checkpoint_tensors(together)
    assert found.keys() == expected.keys()
    means = [name for name in expected if name.endswith("running_mean")]
    assert len(means) > 10
    for name in means:
        assert expected[name].abs().max() > 1e-3, name
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_they_evaluate_one_checkpoint_as_one_does(odd: Path, tmp_path: Path) -> None:
    """Evaluation alone: the run has its last checkpoint, and its record is removed."""
    out = tmp_path / "runs"
    arguments = segmentation(odd, out, precision="fp32")
    assert backbench(arguments, tmp_path / "log") == 0
    expected, run = read_record(out), run_directory(out)
    areas = (run / "areas.npz").read_bytes()
    for name in ("record.json", "areas.npz", "pictures/segmentations_4.png"):
        (run / name).unlink()
    torchrun(arguments)
    found = read_record(out)
    assert (run / "areas.npz").read_bytes() == areas
    assert (run / "pictures/segmentations_4.png").exists()
    for name in ("metrics", "per_class", "train_loss"):
        assert found[name] == expected[name], name
