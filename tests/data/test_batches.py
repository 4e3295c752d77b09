import itertools
import math

import pytest
import torch

from lightning_cnn.data.batches import Images, InOrder, Shuffled

N = 23


@pytest.fixture
def dataset() -> Images:
    """Images whose grey value is their index."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 1, 28, 28)
    return Images(images, torch.arange(N))


def indices(batches) -> list[list[int]]:
    """Return the indices of each batch, from its images, and assert that its targets go with them."""
    found = []
    for images, targets in batches:
        assert images.shape[1:] == (1, 28, 28) and images.dtype == torch.uint8
        assert images[:, 0, 0, 0].tolist() == targets.tolist()
        found.append(targets.tolist())
    return found


def joined(batches) -> list[int]:
    return list(itertools.chain.from_iterable(indices(batches)))


def together(loaders) -> list[set[int]]:
    """Return what all processes see at each step."""
    return [set().union(*step) for step in zip(*(indices(loader) for loader in loaders), strict=True)]


def test_an_image_and_its_target(dataset):
    image, target = dataset[5]

    assert (image.unique().tolist(), target.item(), len(dataset)) == ([5], 5, N)


@pytest.mark.parametrize("batch_size", [1, 10, 23, 50])
def test_in_order(dataset, batch_size):
    batches = InOrder(dataset, batch_size)

    assert joined(batches) == list(range(N))
    assert len(batches) == len(list(batches)) == math.ceil(N / batch_size)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_in_order_over_processes_has_each_image_exactly_once(dataset, world_size):
    loaders = [InOrder(dataset, 4, rank, world_size) for rank in range(world_size)]

    assert sorted(itertools.chain.from_iterable(joined(loader) for loader in loaders)) == list(range(N))
    assert [len(loader) for loader in loaders] == [len(list(loader)) for loader in loaders]


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(1, [1] * 23), (10, [10, 10, 3]), (23, [23]), (50, [23]), (11, [11, 12]), (22, [23])],
)
def test_shuffled_has_each_image_exactly_once(dataset, batch_size, sizes):
    batches = Shuffled(dataset, batch_size, seed=0)
    order = joined(batches)

    assert sorted(order) == list(range(N)) and order != list(range(N))
    assert [len(batch) for batch in indices(batches)] == sizes
    assert len(batches) == len(sizes)


def test_the_order_depends_on_seed_and_epoch_alone(dataset):
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        torch.manual_seed(torch.seed())
        batches = Shuffled(dataset, 10, seed)
        batches.sampler.set_epoch(epoch)  # as Lightning does
        return tuple(joined(batches))

    # Epoch 1 of seed 0 must not be epoch 0 of seed 1 either.
    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert order(2, 1) == order(2, 1)


@pytest.mark.parametrize("world_size", [2, 4])
def test_all_processes_together_see_what_one_would_see(dataset, world_size):
    even = Images(dataset.images[:16], dataset.targets[:16])
    alone = Shuffled(even, 2 * world_size, seed=3)

    assert together(Shuffled(even, 2, 3, rank, world_size) for rank in range(world_size)) == [
        set(batch) for batch in indices(alone)
    ]


def test_what_cannot_be_shared_out_evenly_begins_again(dataset):
    shares = [joined(Shuffled(dataset, 4, 0, rank, 4)) for rank in range(4)]

    assert [len(share) for share in shares] == [6] * 4
    assert set(itertools.chain(*shares)) == set(range(N))


def test_more_processes_than_images(dataset):
    few = Images(dataset.images[:2], dataset.targets[:2])

    assert [len(indices(Shuffled(few, 4, 0, rank, 5))[0]) for rank in range(5)] == [1] * 5
    assert [len(InOrder(few, 4, rank, 5)) for rank in range(5)] == [1, 1, 0, 0, 0]


# Going on


@pytest.mark.parametrize("seen", range(6))
def test_shuffled_goes_on_after_any_batch(dataset, seen):
    whole = Shuffled(dataset, 5, seed=1)
    whole.set_epoch(3)
    begun = Shuffled(dataset, 5, seed=1)
    begun.set_epoch(3)
    first = indices(itertools.islice(begun, seen))

    going_on = Shuffled(dataset, 5, seed=1)
    going_on.load_state_dict(begun.state_dict())
    going_on.set_epoch(3)  # as at the start of every epoch, also of one that goes on

    assert first + indices(going_on) == indices(whole)


def test_it_goes_on_once_and_then_begins_anew(dataset):
    batches = Shuffled(dataset, 5, seed=1)
    batches.load_state_dict({"epoch": 0, "seen": 3})

    assert [len(indices(batches)), len(indices(batches))] == [2, 5]


def test_an_epoch_after_the_one_that_was_left_begins_anew(dataset):
    batches = Shuffled(dataset, 5, seed=1)
    batches.load_state_dict({"epoch": 0, "seen": 5})
    batches.set_epoch(1)

    assert len(indices(batches)) == 5


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 4), (4, 2)])
def test_it_goes_on_with_another_number_of_processes(dataset, before, after):
    def processes(number):
        return [Shuffled(dataset, 8 // number, 1, rank, number) for rank in range(number)]

    first = processes(before)
    for process in first:
        indices(itertools.islice(process, 1))
    then = processes(after)
    for process in then:
        process.load_state_dict(first[0].state_dict())

    second = sorted(itertools.chain.from_iterable(next(iter(indices(process))) for process in then))

    assert second == sorted(indices(Shuffled(dataset, 8, 1))[1])
