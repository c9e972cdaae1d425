"""`backbench check-backbone`: models that serve, and what authors of others are told to mend."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from backbones import register_backbone, registry
from backbones.adapters import build_pyramid
from backbones.errors import InputError
from benchmarks.commands.check_backbone import show_checks
from benchmarks.commands.findings import Finding
from tests.support import strangers
from tests.support.in_process import call, refusal, success

DENSE = "detection, segmentation"


def checks(argument: str, status: int) -> dict[str, Any]:
    """The document, with the checks by task and name."""
    result = call("check-backbone", argument, "--json")
    assert result.exit_code == status, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    by_name = {(each["task"], each["check"]): (each["result"], each["remark"]) for each in document["checks"]}
    return document | {"checks": by_name}


@pytest.mark.parametrize(
    "argument", [*(f"tests.support.strangers:{name}" for name in strangers.STRANGERS), "random_vit_mini", "test_resnet"]
)
def test_a_model_that_serves_passes_all_checks(argument: str) -> None:
    document = checks(argument, 0)
    assert document["serves"] == {"classification": True, DENSE: True, "probes": True}
    assert {result for result, _ in document["checks"].values()} <= {"ok", "told"}
    tried = {check for task, check in document["checks"] if task == DENSE}
    assert tried == {"pyramid", "maps", "gradients", "evaluation", "bf16 autocast", "layers"}
    assert document["checks"]["all", "state-dict round trip"][0] == "ok"
    assert document["checks"]["all", "normalisation"][1].startswith("mean 0.")


def test_what_stands_on_the_screen() -> None:
    lines = success("check-backbone", "tests.support.strangers:one_map").output.splitlines()
    assert lines[0].split("\t") == ["task", "check", "result", "remark"]
    assert "all\tfeatures\tok\ta map of stride 8 with 32 channels" in lines
    assert lines[-3:] == ["classification: would run", "detection, segmentation: would run", "probes: would run"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("random_vit_mini", [("token", 4), ("avg", 1), ("token_and_avg", 4)]),
        ("test_resnet", [("avg", 4)]),
        ("tests.support.strangers:plain_vit", [("token", 1), ("avg", 1), ("token_and_avg", 1)]),
        ("tests.support.strangers:one_map", [("avg", 1)]),
    ],
)
def test_which_features_probes_can_have_is_told(argument: str, expected: list[tuple[str, int]]) -> None:
    told = [f"features.pool={pool} of {count} last block(s) at most" for pool, count in expected]
    assert checks(argument, 0)["checks"]["probes", "frozen features"] == ("ok", "; ".join(told))


def test_features_in_half_precision_alone_serve_probes() -> None:
    found = checks("tests.support.strangers:half_alone", 0)
    result, remark = found["checks"]["probes", "frozen features"]
    assert found["serves"]["probes"] and result == "ok"
    assert remark.endswith("; in bfloat16, for a pass in fp32 fails: use --set precision=bf16")


def test_weights_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(strangers.plain_vit(None, 0.0).state_dict(), file)
    _, remark = checks(f"tests.support.strangers:plain_vit={file}", 0)["checks"]["all", "builds"]
    assert remark == "58,240 parameters; 54 of 54 tensors loaded, 0 dropped, 0 initialised, 0 converted"


def test_a_reader_need_not_take_the_models_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    read = lambda state: {name[8:]: x for name, x in state.items() if name.startswith("student/")}  # noqa: E731
    register_backbone("theirs", method="MAE", model="ViT", convert=read)(strangers.plain_vit)
    state = strangers.plain_vit(None, 0.0).state_dict()
    torch.save({f"student/{name}": tensor for name, tensor in state.items()}, tmp_path / "weights.pth")
    document = checks(f"theirs={tmp_path / 'weights.pth'}", 0)
    assert document["checks"]["all", "state-dict round trip"][0] == "ok"


BOTH = ("classification", DENSE)


@pytest.mark.parametrize(
    ("name", "tasks", "check", "expected"),
    [
        ("logits", ["all"], "features", "which looks like pooled features or logits. Return tokens (B, N, C), a map"),
        ("odd_things", ["all"], "features", "returned a list of 3: a int, a str, a tensor of shape (1, 32). Return"),
        ("wrong_width", ["all"], "features", "its attribute embed_dim is 64, and forward_features gave 32 channels"),
        ("pooled", ["all"], "features", "1 token(s) for an image of 224 pixels a side, and 1 for one of 448: they do"),
        ("bare", ["all"], "builds", "Linear lacks forward_features. Give it a method forward_features(images)"),
        (
            "frozen",
            ["all"],
            "builds",
            "54 of 54 parameter tensors are frozen: cls_token, pos_embed, patches.weight and",
        ),
        ("half", ["all"], "builds", "its parameter cls_token is torch.float16, expected float32: the recipe's precis"),
        ("meta", ["all"], "builds", 'cls_token is on the device "meta", without numbers. Build the model on the CPU'),
        ("lazy", ["all"], "builds", "patches.weight has no shape yet. Build it with all its sizes, without lazy mod"),
        (
            "hidden_state",
            ["all"],
            "state-dict round trip",
            "is no parameter and no buffer. Register it with regis",
        ),
        ("of_its_batch", BOTH, "evaluation", "an image's features depend on the others of its batch. In eval() let"),
        ("random", BOTH, "evaluation", "two passes over the same images differ. Let eval() switch off what is random"),
        (
            "unused",
            BOTH,
            "gradients",
            "backbone.projector.bias, which several processes cannot train. Leave out what is",
        ),
        ("without_gradient", BOTH, "gradients", "no gradient on: it runs under no_grad or inference_mode, or detaches"),
        (
            "under_inference_mode",
            BOTH,
            "gradients",
            "no gradient on: it runs under no_grad or inference_mode, or detac",
        ),
        ("partly_without_gradient", BOTH, "gradients", "passes no gradient on to "),
        ("in_place", ["all"], "images", "InPlace: forward_features changes the images that it is given, by an opera"),
        (
            "in_place_in_training",
            ["classification"],
            "images",
            "forward_features changes the images that it is given, by an operation",
        ),
        ("masked", ["all"], "builds", "Masked.forward_features(images: torch.Tensor, mask: torch.Tensor)"),
        ("of_one_block", [DENSE], "layers", "blocks.1 of OfOneBlock is blocks.0 once more, and what is in several la"),
        ("touchy", ["all"], "sizes", "RuntimeError: ask for the size first"),
        ("without_arguments", ["all"], "builds", "its function is called as (image_size, drop_path), by position: th"),
        ("drop_path_first", ["all"], "builds", "It is defined as drop_path_first(drop_path: float, image_size: int"),
        ("of_a_size", ["all"], "builds", "let it have a size of its own for that, such as image_size or 224"),
        ("token_behind", ["all"], "places", "1 other token(s) stand behind the patches. Put them before those"),
        ("columns_first", ["all"], "places", "they stand column by column. Return tokens row by row"),
        ("of_positive_pixels", ["all"], "runs", "ValueError: expected pixels between 0 and 1, with normalised images"),
        ("overflowing", BOTH, "bf16 autocast", "infinite or undefined numbers. Compute what overflows in float32, or"),
        ("from_the_end", BOTH, "layers", "gives a block a higher learning rate than one behind it. Count from the im"),
        ("unnumbered", [DENSE], "layers", "or use --set optimizer.layer_decay=null"),
        ("stride_of_14", [DENSE], "pyramid", "a map of stride 14, and pyramids are made from powers of two up to 32"),
    ],
)
def test_what_is_wrong_is_said_with_what_mends_it(name: str, tasks: list[str], check: str, expected: str) -> None:
    document = checks(f"tests.support.strangers:{name}", 1)
    failed = {key: remark for key, (result, remark) in document["checks"].items() if result == "failed"}
    assert {(task, check) for task in tasks} <= failed.keys()
    assert all(expected in failed[task, check] for task in tasks)
    assert not all(document["serves"].values())


def test_a_model_of_one_size_serves_and_is_told_so() -> None:
    found = checks("tests.support.strangers:fixed_size", 0)["checks"]
    assert found["all", "sizes"][0] == "told"
    assert found["all", "sizes"][1].startswith("only 48 × 48 pixels, of those tried; dense tasks pad images to it")


def test_a_depth_without_quarters_has_the_pyramid_that_a_run_takes() -> None:
    found = checks("tests.support.strangers:of_six_blocks", 0)["checks"]
    expected = "by model.adapter=simple --set model.window=null, with the other settings as recipes have them"
    assert found[DENSE, "pyramid"] == ("ok", expected)
    options: dict[str, Any] = {"image_size": 48, "relative_position": False}
    with pytest.raises(
        InputError, match=r"a ViT of 6 blocks: .* with --set model.adapter=simple --set model.window=nu"
    ):
        build_pyramid(strangers.of_six_blocks(48, 0.0), "fpn", window=16, **options)
    assert len(build_pyramid(strangers.of_six_blocks(48, 0.0), "simple", window=None, **options).strides) == 4


def test_findings_are_told_as_they_come(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def found(name: str, checkpoint: object) -> Iterator[Finding]:
        yield Finding("all", "first", "ok", "1")
        assert capsys.readouterr().out == "task\tcheck\tresult\tremark\nall\tfirst\tok\t1\n"
        yield Finding("all", "second", "ok", "2")

    monkeypatch.setattr("benchmarks.commands.check_backbone.check_backbone", found)
    assert not show_checks("random_vit_mini", as_json=False)
    assert capsys.readouterr().out.startswith("all\tsecond\tok\t2\n")


def test_what_a_model_prints_stands_beside_the_document() -> None:
    result = call("check-backbone", "tests.support.strangers:talkative", "--json")
    assert json.loads(result.stdout)["serves"] == {"classification": True, DENSE: True, "probes": True}
    assert "features next" in result.stderr


def test_a_name_that_is_none_is_refused() -> None:
    assert refusal("check-backbone", "mae_vit_bsae").startswith("backbone mae_vit_bsae: no such name. Did you mean")
