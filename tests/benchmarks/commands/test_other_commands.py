"""`list`, `data mini` and `doctor`."""

from pathlib import Path

import pytest

from tests.support.in_process import call, refusal


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("backbones", "random_vit_mini"),
        ("methods", "MoCo v3"),
        ("recipes", "mini_classification"),
        ("datasets", "imagenet1k"),
        ("weights", "coco, ade20k, transfer, imagenet\tweights\tmae_pretrain_vit_large.pth"),
        ("weights", "deit_base_patch16_224-b5f2ef4d.pth"),
        ("weights", "weights\tbeit_base_patch16_224_pt1k_800ep.pth"),
        ("weights", "microsoft/unilm offers ViT-L pre-trained on ImageNet-22K only"),
    ],
)
def test_lists(what: str, expected: str) -> None:
    result = call("list", what)
    assert result.exit_code == 0 and expected in result.output


def test_data_mini_recognises_its_own(tmp_path: Path) -> None:
    sizes = ["--unlabelled", 8, "--train", 8, "--val", 8, "--coco-train", 8, "--coco-val", 8, "--transfer-train", 0]
    sizes += ["--no-weights"]
    root = tmp_path / "mini"
    assert "drawn" in call("data", "mini", root, *sizes).output
    again = call("data", "mini", root, *sizes)
    assert again.exit_code == 0 and "complete already" in again.output
    assert "with unlabelled 8, not 4" in refusal("data", "mini", root, "--unlabelled", 4, *sizes[2:])


def test_data_mini_leaves_foreign_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    message = refusal("data", "mini", tmp_path)
    assert message == f"{tmp_path}: not empty, and not written by `backbench data mini`. Choose a new folder."
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert 'level "rough": no such level' in refusal("data", "mini", tmp_path / "new", "--level", "rough")


def test_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr("benchmarks.commands.doctor.TRIALS", {"pre-training": lambda: None})
    healthy = call("doctor")
    assert healthy.exit_code == 0 and "works  pre-training" in healthy.output
    monkeypatch.setattr("benchmarks.commands.doctor.TRIALS", {"pre-training": broken})
    ill = call("doctor")
    assert ill.exit_code == 1 and "fails  pre-training: ImportError: libGL.so.1" in ill.output
