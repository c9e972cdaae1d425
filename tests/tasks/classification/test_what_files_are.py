"""What files of others' classifiers are taken for, what is expected of them, and which are refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.data import ImageNetInfo

from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET
from backbones.weights.checkpoints import read_checkpoint
from backbones.weights.published import published
from benchmarks.planning.evaluations import PlannedEvaluation, plan_evaluation
from benchmarks.running.evaluating import run_evaluation
from results import cell_key
from results.expectation import with_expected
from tasks.classification.others import expected
from tasks.classification.others.classes import imagenet_classes, named_classes
from tasks.classification.others.expected import Published
from tests.support.checkpoint_examples import save
from tests.support.results_examples import make_record
from tests.support.small_classifiers import MAE, PEERS, VIT

BY_NAME = {peer.name: peer for peer in PEERS}
MITE = "vit_mite_patch8_32"
BILINEAR = {"inference.interpolation": "bilinear"}


def plan_of(
    weights: Path, backbone: str | None, *overrides: str, recipe: str = "mini_classification"
) -> PlannedEvaluation:
    return plan_evaluation(recipe, Path("images"), weights, overrides=list(overrides), backbone=backbone)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A fine-tuned MAE of eight classes."""
    return MAE.write(tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("facebookresearch/mae", "facebookresearch/mae's", {"model.pool": "avg", "inference.interpolation": "bicubic"}),
        ("MoCo v3, linear", "MoCo v3's linear", {"model.pool": "token", **BILINEAR}),
        ("facebookresearch/deit", "facebookresearch/deit's", {"model.pool": "token", "inference.crop_ratio": None}),
        ("microsoft/unilm, BEiT", "microsoft/unilm's", {"model.pool": "avg", "inference.shape": "short"}),
        ("mmpretrain, MAE", "mmpretrain's", {"model.pool": "avg", "inference.resized": None}),
        ("transformers, ViTForImageClassification", "transformers' vit", {"inference.shape": "square", **BILINEAR}),
        ("timm, convnext_atto.d2_in1k", "timm's models", {"inference.crop_ratio": 0.95, "model.image_size": 288}),
        ("torchvision, resnet18", "a ResNet of unknown origin", {"inference.resized": 256, **BILINEAR}),
    ],
)
def test_what_a_file_is_decides_how_it_is_evaluated(
    name: str, kind: str, settings: dict[str, object], tmp_path: Path
) -> None:
    weights, _ = BY_NAME[name].write(tmp_path)
    plan = plan_of(weights, BY_NAME[name].backbone)
    assert plan.known is not None and plan.known.kind.startswith(kind)
    assert settings.items() <= plan.known.settings.items()
    assert plan.normalisation == (HALF if "BEiT" in name or "ViT" in name else IMAGENET)
    told = {text.partition(" (")[0] for text in plan.deviations}
    assert "trained=elsewhere" in told
    assert ("inference.interpolation=bilinear" in told) == (settings.get("inference.interpolation") == "bilinear")
    assert pickle.loads(pickle.dumps(plan.known)) == plan.known  # as it goes from the first process to the others


def test_rows_of_self_supervised_methods_say_that_labels_were_seen(tmp_path: Path) -> None:
    names = []
    for name in ("facebookresearch/mae", "MoCo v3, linear", "microsoft/unilm, BEiT"):
        known: Any = plan_of(BY_NAME[name].write(tmp_path)[0], BY_NAME[name].backbone).known
        names.append((known.method, known.pretrain_data))
    assert names == [
        ("MAE", "IN1K, then labels"),
        ("MoCo v3", "IN1K, then labels"),
        ("BEiT", "IN22K+DALLE, then labels"),
    ]


def test_the_entry_of_a_file_is_part_of_its_key(tmp_path: Path) -> None:
    """As in timm's training, which leaves averaged weights beside the last ones."""
    content = torch.load(BY_NAME["timm, vit_mite_patch8_32"].write(tmp_path)[0])
    averaged = {name: 0.5 * tensor for name, tensor in content["state_dict"].items()}
    weights = save(content | {"state_dict_ema": averaged}, tmp_path, "both.pth.tar")
    plans = [plan_of(Path(f"{weights}{part}"), MITE) for part in ("", "::state_dict_ema")]
    assert [plan.checkpoint for plan in plans] == [weights, weights]
    keys = [cell_key(plan.decided_by("0", plan.normalisation)) for plan in plans]
    assert keys[0] != keys[1]


def test_settings_of_the_call_come_before_those_of_the_file(file: Path) -> None:
    recipe: Any = plan_of(file, MITE, "inference.interpolation=bilinear", "inference.crop_ratio=0.5").recipe
    assert (recipe.inference.interpolation, recipe.inference.crop_ratio) == ("bilinear", 0.5)


def test_a_recipe_that_says_how_large_images_become_is_followed(tmp_path: Path) -> None:
    weights, _ = BY_NAME["torchvision, resnet18"].write(tmp_path)
    recipe: Any = plan_of(weights, None, "inference.crop_ratio=1.0").recipe
    assert (recipe.inference.resized, recipe.inference.crop_ratio) == (None, 1.0)
    assert recipe.inference.interpolation == "bilinear"


def changed(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    content = torch.load(file)
    change(content["model"])
    return save(content, file.parent, file.name)


CHANGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "renamed": (
        lambda held: held.update({"blocks.0.attn.qvk.weight": held.pop("blocks.0.attn.qkv.weight")}),
        "blocks.0.attn.qvk.weight",
    ),
    "missing": (lambda held: held.pop("blocks.1.mlp.fc2.bias"), "1 of the network's"),
    "norm of tokens too": (lambda held: held.update({"norm.weight": torch.ones(64)}), "norm.weight"),
    "two heads": (lambda held: held.update({"head_dist.weight": torch.ones(8, 64)}), "head_dist.weight"),
    "other classes": (
        lambda held: held.update({"head.weight": torch.ones(12, 64), "head.bias": torch.ones(12)}),
        "tells 12 classes apart, and the data have 8",
    ),
    "undefined": (lambda held: held["head.weight"].fill_(float("nan")), "undefined numbers in head.weight"),
    "no head": (
        lambda held: [held.pop("head.weight"), held.pop("head.bias")],
        "has no classifier",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused(change: str, file: Path, mini: Path, tmp_path: Path) -> None:
    wrong, expected_words = CHANGES[change]
    weights = changed(file, wrong)
    with pytest.raises(InputError) as refusal:
        run_evaluation(
            *("mini_classification", mini, weights, tmp_path / "out"),
            overrides=["runtime.device=cpu"],
            backbone=MITE,
        )
    assert expected_words in str(refusal.value)
    assert str(weights) in str(refusal.value)


def test_a_truncated_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"published\.pth"):
        plan_of(file, MITE)


def test_the_files_pooling_is_not_for_the_call_to_choose(file: Path, mini: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'key "model\.pool": .* has avg'):
        run_evaluation(
            *("mini_classification", mini, file, tmp_path / "out"),
            overrides=["runtime.device=cpu", "model.pool=token"],
            backbone=MITE,
        )


def test_a_head_of_other_data_is_refused_by_its_names(mini: Path, tmp_path: Path) -> None:
    folder, _ = VIT.write(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number): f"bird {number}" for number in range(8)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"trained for other classes than the data have .*it knows bird 0"):
        run_evaluation(
            *("mini_classification", mini, folder, tmp_path / "out"), overrides=["runtime.device=cpu"], backbone=MITE
        )


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("config.json", {"model_type": "swin"}, "model_type 'swin'"),
        ("config.json", {"id2label": {"0": "cat", "1": "dog"}}, "gives 8 classes, and 2 are named"),
        ("preprocessor_config.json", None, "preprocessor_config.json: not there"),
        ("preprocessor_config.json", {"resample": 0}, "not known how to do this here"),
        ("preprocessor_config.json", {"do_rescale": False}, "not known how to do this here"),
        ("preprocessor_config.json", {"size": {"height": 32, "width": 48}}, "not known how to do this here"),
    ],
)
def test_a_folder_of_the_hub_is_read_strictly(
    file: str, change: dict[str, Any] | None, words: str, tmp_path: Path
) -> None:
    folder, _ = VIT.write(tmp_path)
    if change is None:
        (folder / file).unlink()
    else:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=words):
        plan_of(folder, MITE)


@pytest.mark.parametrize(
    ("name", "backbone", "words"),
    [
        ("facebookresearch/deit", "vit_mini_patch8_48", "does not fit|blocks"),
        ("facebookresearch/deit", None, "Say which of timm's models it is, with --backbone"),
        ("facebookresearch/mae", "tests.support.small_architectures:vit", "none of timm's models"),
        ("timm, hub folder, average", "resnet18", "by its config.json"),
    ],
)
def test_a_backbone_that_is_not_the_files_is_refused(
    name: str, backbone: str | None, words: str, mini: Path, tmp_path: Path
) -> None:
    weights, _ = BY_NAME[name].write(tmp_path)
    with pytest.raises(InputError, match=words):
        run_evaluation(
            *("mini_classification", mini, weights, tmp_path / "out"),
            overrides=["runtime.device=cpu"],
            backbone=backbone,
        )


def test_published_numbers_are_those_of_the_very_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*overrides: str, recipe: str = "imagenet_vit_base") -> PlannedEvaluation:
        return plan_of(file, MITE, *overrides, recipe=recipe)

    assert plan().published == {}
    numbers = {"top1": 83.664, "top5": 96.53, "loss": 0.731}
    digest = read_checkpoint(file).sha256[:8]
    monkeypatch.setitem(expected._BY_DIGEST, digest, Published("MAE", MITE, numbers, "https://example.org"))
    assert plan().published == plan("data.decoder=pillow").published == numbers
    for other in ("inference.crop_ratio=1.0", "inference.resized=250", "inference.shape=square"):
        assert plan(other).published == {}
    assert plan(recipe="mini_classification").published == {}


def test_published_numbers_stand_in_the_record_of_the_whole_set() -> None:
    settings = {"dataset": "imagenet1k"}
    record = make_record(recipe_settings=settings, dataset="imagenet1k", evaluation_images=50_000)
    name, n_eval = record.metrics[0].name, record.metrics[0].n_eval
    whole = record.model_copy(update={"evaluation_images": n_eval})
    told = [with_expected(each, (), {name: 83.664}).metrics[0].expected for each in (whole, record)]
    assert told == [83.664, None if n_eval != 50_000 else 83.664]
    other = whole.model_copy(update={"dataset": "mini"})
    assert with_expected(other, (), {name: 83.664}).metrics[0].expected is None


def test_the_lists_of_files_agree() -> None:
    known = {file.name: file for file in published().files}
    assert all(known[name].md5_prefix for name in expected._MAE)
    theirs = expected._of_torchvision()["0676ba61"]
    assert (theirs.arch, theirs.weights, theirs.numbers) == (
        "resnet50",
        "IMAGENET1K_V1",
        {"top1": 76.13, "top5": 92.862},
    )
    assert not expected._of_torchvision().keys() & expected._BY_DIGEST.keys()


def test_outputs_are_called_as_the_data_call_classes() -> None:
    described = ImageNetInfo("imagenet-1k").label_descriptions()
    assert named_classes(described) == imagenet_classes() == named_classes(list(imagenet_classes()))
    short = [label.split(",")[0] for label in described]
    assert named_classes(short) == imagenet_classes()
    assert named_classes(short[::-1]) == tuple(short[::-1])
    assert named_classes(["LABEL_0", "LABEL_1"]) == named_classes(["0", "1"]) == ()
    assert named_classes(["cat", "dog"]) == ("cat", "dog")


def test_a_thousand_outputs_are_imagenets_classes(file: Path) -> None:
    weights = changed(
        file, lambda held: held.update({"head.weight": torch.ones(1000, 64), "head.bias": torch.ones(1000)})
    )
    for recipe, classes in (("imagenet_vit_base", imagenet_classes()), ("mini_classification", ())):
        known = plan_of(weights, MITE, recipe=recipe).known
        assert known is not None and tuple(known.classes) == classes
