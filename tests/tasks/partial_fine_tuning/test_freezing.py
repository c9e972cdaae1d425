"""Which parameters train where only the last blocks do, and that they train as the blocks alone would."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.errors import InputError
from backbones.images.normalisation import IMAGENET
from benchmarks.planning.recipe import load_recipe
from tasks.classification.task import create_classifier, groups_of
from tasks.partial_fine_tuning.freezing import freeze_but_last
from tasks.partial_fine_tuning.recipe import PartialFineTuningRecipe
from tasks.partial_fine_tuning.task import create_partial

CLASSES, SIZE, DEPTH = 8, 48, 4


def recipe(*overrides: str) -> PartialFineTuningRecipe:
    found = load_recipe("mini_partial_fine_tuning", [*overrides, "precision=fp32"], {"partial_fine_tuning"}).recipe
    assert isinstance(found, PartialFineTuningRecipe)
    return found


def created(blocks: int, *overrides: str, backbone: str = "random_vit_mini") -> Any:
    settings = recipe(f"model.trained_blocks={blocks}", *overrides)
    step, _, _ = create_partial(settings, backbone, None, CLASSES, 0, IMAGENET)
    return step


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % CLASSES


@pytest.mark.parametrize("blocks", range(DEPTH + 1))
@pytest.mark.parametrize("pool", ["avg", "token"])
def test_the_last_blocks_train_with_norm_and_head(blocks: int, pool: str) -> None:
    network = created(blocks, f"model.pool={pool}").network
    trained = {name for name, each in network.named_parameters() if each.requires_grad}
    every = {name for name, _ in network.named_parameters()}
    if blocks == DEPTH:
        assert trained == every
        return
    norm = "fc_norm" if pool == "avg" else "norm"
    expected = {name for name in every if name.startswith((f"{norm}.", "head."))}
    for place in range(DEPTH - blocks, DEPTH):
        expected |= {name for name in every if name.startswith(f"blocks.{place}.")}
    assert trained == expected


def test_what_is_frozen_is_in_evaluation_and_gets_no_gradients() -> None:
    step = created(2, "model.drop_path=0.9").train()
    network = step.network
    assert not any(each.training for block in network.blocks[:2] for each in block.modules())
    assert all(each.training for block in network.blocks[2:] for each in block.modules())
    assert not network.patch_embed.training and network.training and network.head.training
    before = {name: each.clone() for name, each in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    step(*batch(), "loss")["loss"].backward()
    assert all((each.grad is not None) == each.requires_grad for each in network.parameters())
    optimizer.step()
    for name, each in network.named_parameters():
        assert torch.equal(each, before[name]) or each.requires_grad, name
    assert not step.eval().network.training


def test_its_gradients_are_those_of_blocks_on_features_of_the_others() -> None:
    """The same loss of the trained part alone, on what PyTorch computes of the frozen part without gradients."""
    step = created(1).train()
    network, (images, labels) = step.network, batch()
    with torch.no_grad():
        nn.init.normal_(network.head.weight)  # at the start it is almost 0, and so are gradients behind it
    step(images, labels, "loss")["loss"].backward()
    found = {name: each.grad.clone() for name, each in network.named_parameters() if each.requires_grad}
    network.zero_grad()
    inputs, targets = step.augmentation(images, labels)
    with torch.no_grad():
        tokens = network.norm_pre(network._pos_embed(network.patch_embed(inputs)))
        for block in network.blocks[:3]:
            tokens = block(tokens)
    tokens = network.blocks[3](tokens)
    logits = network.head(network.fc_norm(tokens[:, 1:].mean(1)))
    (-(targets * logits.log_softmax(1)).sum(1).mean()).backward()
    for name, each in network.named_parameters():
        if each.requires_grad:
            torch.testing.assert_close(found[name], each.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_all_blocks_are_full_fine_tuning() -> None:
    whole, _, _ = create_classifier(recipe(), "random_vit_mini", None, CLASSES, 0, IMAGENET)
    step = created(DEPTH)
    assert all(torch.equal(*pair) for pair in zip(step.network.parameters(), whole.network.parameters(), strict=True))
    ours, theirs = (groups_of(recipe(), each.network) for each in (step, whole))
    sizes = [[(len(group["params"]), group["lr_scale"]) for group in groups] for groups in (ours, theirs)]
    assert sizes[0] == sizes[1]


def test_rates_of_trained_layers_do_not_depend_on_how_many_train() -> None:
    def rates(blocks: int) -> dict[str, float]:
        network = created(blocks).network
        names = {id(each): name for name, each in network.named_parameters()}
        groups = groups_of(recipe(), network)
        return {names[id(each)]: group["lr_scale"] for group in groups for each in group["params"]}

    few, every = rates(1), rates(DEPTH)
    assert few.keys() < every.keys() and all(every[name] == rate for name, rate in few.items())


@pytest.mark.parametrize(
    ("blocks", "backbone", "message"),
    [
        (
            5,
            "random_vit_mini",
            r'"model.trained_blocks": expected at most 4, as many as VisionTransformer has blocks; .* 5',
        ),
        (1, "resnet18", r'"model.trained_blocks": ResNet has no list of blocks .* Expected a ViT'),
    ],
)
def test_what_cannot_be_frozen_is_refused(blocks: int, backbone: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        created(blocks, backbone=backbone)


def test_a_module_of_ones_own_is_frozen_likewise() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1))
            self.stem = nn.Linear(2, 2)
            self.blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            self.norm = nn.LayerNorm(2)

    mine = Mine()
    frozen = freeze_but_last(mine, 1)
    assert frozen == [mine.stem, mine.blocks[0]]
    trained = {name for name, each in mine.named_parameters() if each.requires_grad}
    assert trained == {"blocks.1.weight", "blocks.1.bias", "norm.weight", "norm.bias"}
