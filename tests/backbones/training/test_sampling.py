"""Which images an iteration sees: every one once an epoch, whoever shares them out, wherever one starts."""

from itertools import chain, islice

import pytest

from backbones.training.sampling import Draw, EpochBatchSampler


def take(sampler: EpochBatchSampler, iterations: int) -> list[list[Draw]]:
    return list(islice(sampler, iterations))


@pytest.mark.parametrize("images, batch_size", [(24, 4), (26, 4), (7, 7)])
def test_every_epoch_sees_each_image_at_most_once_and_drops_the_incomplete_batch(images: int, batch_size: int) -> None:
    sampler = EpochBatchSampler(images, batch_size, seed=0)
    per_epoch = images // batch_size
    assert sampler.iterations_per_epoch == per_epoch
    seen = take(sampler, 3 * per_epoch)
    for epoch in range(3):
        draws = list(chain(*seen[epoch * per_epoch : (epoch + 1) * per_epoch]))
        indices = [index for index, _ in draws]
        assert len(set(indices)) == len(indices) == per_epoch * batch_size
        assert set(indices) <= set(range(images))
        assert {number for _, number in draws} == {epoch}


def test_what_one_epoch_drops_another_sees() -> None:
    seen = take(EpochBatchSampler(11, 4, seed=0), 2 * 20)
    assert {index for index, _ in chain(*seen)} == set(range(11))


@pytest.mark.parametrize("processes, accumulation", [(1, 3), (2, 1), (2, 3), (4, 1), (1, 12)])
def test_an_update_has_the_same_images_however_it_is_shared_out(processes: int, accumulation: int) -> None:
    whole = take(EpochBatchSampler(50, 12, seed=3), 9)
    parts = [
        EpochBatchSampler(50, 12, seed=3, accumulation=accumulation, rank=rank, processes=processes)
        for rank in range(processes)
    ]
    taken = [take(part, 9 * accumulation) for part in parts]
    for update, expected in enumerate(whole):
        steps = range(update * accumulation, (update + 1) * accumulation)
        shared = [draw for part in taken for step in steps for draw in part[step]]
        assert sorted(shared) == sorted(expected)
        assert {len(part[step]) for part in taken for step in steps} == {12 // processes // accumulation}


@pytest.mark.parametrize("start", [1, 5, 6, 7, 12, 17])
def test_starting_later_equals_skipping(start: int) -> None:
    sampler = EpochBatchSampler(25, 8, seed=1, accumulation=2, rank=1, processes=2)
    assert sampler.iterations_per_epoch == 6
    expected = take(sampler, 30)
    later = EpochBatchSampler(25, 8, seed=1, accumulation=2, rank=1, processes=2)
    later.start = start
    assert take(later, 30 - start) == expected[start:]


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch takes 8 images, and there are 7"):
        EpochBatchSampler(7, 8, seed=0)


def test_seeds_and_epochs_differ() -> None:
    first, second = (take(EpochBatchSampler(100, 100, seed=seed), 2) for seed in (0, 1))
    order = [[index for index, _ in batch] for batch in (*first, *second)]
    assert len({tuple(indices) for indices in order}) == 4
    assert order[0] != sorted(order[0])


def test_the_same_seed_gives_the_same_order() -> None:
    assert take(EpochBatchSampler(100, 10, seed=5), 25) == take(EpochBatchSampler(100, 10, seed=5), 25)


def test_a_batch_that_cannot_be_cut_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match="10 cannot be cut into 2 × 3"):
        EpochBatchSampler(100, 10, seed=0, accumulation=3, processes=2)
