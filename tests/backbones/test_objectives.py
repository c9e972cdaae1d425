"""Objectives of pre-training from code: how they are found, and what is refused before anything trains."""

from collections.abc import Iterator

import pytest

import backbones.objectives
from backbones.errors import InputError
from backbones.images.normalisation import HALF, IMAGENET
from backbones.objectives import find_objective, is_objective, register_pretraining
from backbones.pretraining.settings import ObjectiveRecipe
from backbones.pretraining.steps import create_step
from benchmarks.planning.recipe import load_recipe
from tests.support.objectives import denoising

BAD = "tests.support.objectives:bad"


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """What a test registers is gone after it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(backbones.objectives, "_objectives", dict(backbones.objectives._objectives))
        yield


def refusal(*overrides: str, arch: str = BAD) -> str:
    """What the user is told, in one line."""
    with pytest.raises(InputError) as caught:
        create_step(load_recipe("mae_vit_mini", [f"model.arch={arch}", *overrides], {"pretraining"}).recipe, seed=0)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("cannot be built", "building it failed with ValueError: no such thing"),
        ("no module", "its function gives str, expected a torch.nn.Module"),
        (
            "no encoder",
            "Bad leaves no encoder behind. Give it an attribute `encoder`, or a method encoder_state_dict()",
        ),
        ("encoder of another kind", "Bad leaves no encoder behind"),
        (
            "fails",
            "its forward, called with 2 images of 48 pixels alone, failed with RuntimeError: the matrix is",
        ),
        ("vector", "its loss has the shape (2,), expected a scalar"),
        ("tuple", "its forward gives a tuple, expected the loss, or a mapping that has it"),
        ("no loss", "its forward gives a dict of total, expected the loss, or a mapping that has it"),
        ("infinite", "its loss of 2 images of random numbers is inf, expected a number"),
        ("frozen", "its loss has no gradient: it is detached, or taken without gradients, or depends on no parameter"),
        ("nan gradient", "the gradient of layer.weight is no finite number"),
        ("unused", "its loss does not depend on unused.weight, unused.bias, which several processes cannot train"),
        ("own noise", "the same images, weights and seed give another loss, so it draws from a generator of its own"),
        ("complex", "its loss is a complex number, expected a real one"),
        ("own backward", "(Trying to backward through the graph a second time"),
        ("half precision", "its parameter layer.weight is in half precision. Build it in single precision"),
        ("counts", "its loss depends on what an earlier step left outside of its state dict, and a resumed run would"),
        ("grows", "does not load into one that has made a step, so no run could be resumed: Error(s) in loading"),
        ("lazy", "unused.weight has no numbers before a first pass"),
        ("compiled", "its function gives a module that is compiled. Give the module itself"),
        ("state fails", "its encoder_state_dict() failed with ValueError: no state"),
        ("a word spared", "gives 'layer.weight', of which nothing is a parameter. Expected a list"),
        (
            "others spared",
            "gives ['weight'], of which nothing is a parameter. Expected a list of their whole names, such",
        ),
        ("spares nothing", "its no_weight_decay() failed with TypeError: 'NoneType'"),
        (
            "own weights",
            "built twice after the same seed it has other weights, so it draws from a generator of its own",
        ),
    ],
)
def test_what_cannot_train_is_refused_before_anything_does(what: str, expected: str) -> None:
    message = refusal(f"model.what={what}")
    assert message.startswith((f"pre-training {BAD}: ", "pre-training bad: "))
    assert expected in message


@pytest.mark.parametrize("what", ["nothing", "nan buffer", "gradient penalty", "half precision alone"])
def test_what_a_module_holds_and_takes_beside_is_no_hindrance(what: str) -> None:
    """A state that is no number; gradients that it takes in its forward itself; kernels of half precision."""
    create_step(
        load_recipe("mae_vit_mini", [f"model.arch={BAD}", f"model.what={what}"], {"pretraining"}).recipe, seed=0
    )


def test_settings_that_a_function_does_not_take_are_named() -> None:
    message = refusal("model.hiden=0.5", arch="tests.support.objectives:denoising")
    assert message == (
        'key "model": tests.support.objectives:denoising does not fit these settings (got an unexpected keyword '
        "argument 'hiden'). Its function is called with the image size, by its place, and takes hidden, noise beside it"
    )


def test_code_that_is_not_there_is_named() -> None:
    assert refusal(arch="no_such_package:f").startswith("pre-training no_such_package:f: no module 'no_such_package'")
    message = refusal(arch="tests.support.objectives:no")
    assert message.startswith("pre-training tests.support.objectives:no: tests.support.objectives has no function 'no'")
    message = refusal(arch="mae_vit_mini_patch18")
    assert message.startswith(
        "key \"model.arch\": nothing to pre-train is called 'mae_vit_mini_patch18'. Nearest: mae_"
    )


def test_a_switch_that_a_module_lacks_is_named() -> None:
    message = refusal("runtime.activation_checkpointing=true")
    assert message.startswith(f'key "runtime.activation_checkpointing": {BAD} has no method set_grad_checkpointing')


def test_a_registered_one_is_known_by_its_name() -> None:
    register_pretraining("denoising_mini", method="Denoising", arch="vit_mini_patch8_48", mean=HALF.mean, std=HALF.std)(
        denoising
    )
    assert is_objective("denoising_mini") and not is_objective("mae_vit_mini_patch8")
    found = find_objective("denoising_mini")
    assert (found.method, found.arch, found.normalisation, found.build) == (
        *("Denoising", "vit_mini_patch8_48", HALF),
        denoising,
    )
    foreign = find_objective("tests.support.objectives:denoising")
    assert (foreign.method, foreign.arch, foreign.normalisation) == ("denoising", "", IMAGENET)
    with pytest.raises(InputError, match="denoising_mini: the name is taken"):
        register_pretraining("denoising_mini", method="Denoising")
    with pytest.raises(InputError, match="mae_vit_mini_patch8: the name is taken"):
        register_pretraining("mae_vit_mini_patch8", method="MAE")
    with pytest.raises(InputError, match="pre-training a:b: expected a name without :"):
        register_pretraining("a:b", method="Other")
    with pytest.raises(InputError, match="pre-training other: method=None: expected a name"):
        register_pretraining("other", method=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pre-training other: "):
        register_pretraining("other", method="Other", mean=(0.5, 0.5, 0.5), std=(0.5, 0.0, 0.5))


def test_what_stands_in_model_goes_to_the_function() -> None:
    """But for what the recipe has for an autoencoder, and the function has no name for."""
    overrides = ["model.arch=tests.support.objectives:denoising", "model.hidden=0.25", "model.noise=0"]
    recipe = load_recipe("mae_vit_mini", overrides, {"pretraining"}).recipe
    assert isinstance(recipe, ObjectiveRecipe)
    assert recipe.model.own == {"hidden": 0.25, "noise": 0}
    network = create_step(recipe, seed=0).network
    assert (network.hidden, network.noise) == (0.25, 0)
