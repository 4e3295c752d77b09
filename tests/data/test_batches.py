import itertools
import math

import pytest
import torch

from lightning_cnn.data.augment import Augmentation
from lightning_cnn.data.batches import Images, SequentialLoader, ShuffledLoader
from lightning_cnn.errors import UserError

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


def all_indices(batches) -> list[int]:
    return list(itertools.chain.from_iterable(indices(batches)))


def test_an_image_and_its_target(dataset):
    image, target = dataset[5]

    assert (image.unique().tolist(), target.item(), len(dataset)) == ([5], 5, N)


@pytest.mark.parametrize("batch_size", [1, 10, 23, 50])
def test_sequential_batches_are_in_order(dataset, batch_size):
    batches = SequentialLoader(dataset, batch_size)

    assert all_indices(batches) == list(range(N))
    assert len(batches) == len(list(batches)) == math.ceil(N / batch_size)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_processes_take_the_sequential_batches_in_turn(dataset, world_size):
    alone = indices(SequentialLoader(dataset, 4))
    loaders = [SequentialLoader(dataset, 4, rank, world_size) for rank in range(world_size)]
    shares = [indices(loader) for loader in loaders]

    assert [batch for turn in zip(*shares, strict=True) for batch in turn if batch] == alone
    assert {len(loader) for loader in loaders} == {len(share) for share in shares} == {math.ceil(6 / world_size)}


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(1, [1] * 23), (2, [2] * 10 + [3]), (8, [8, 15]), (10, [10, 13]), (14, [14, 9]), (23, [23]), (50, [23])],
)
def test_shuffled_batches_have_each_image_exactly_once(dataset, batch_size, sizes):
    batches = ShuffledLoader(dataset, batch_size, seed=0)
    order = all_indices(batches)

    assert sorted(order) == list(range(N)) and order != list(range(N))
    assert [len(batch) for batch in indices(batches)] == sizes
    assert len(batches) == len(sizes)


def test_the_order_depends_only_on_seed_and_epoch(dataset):
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        torch.manual_seed(torch.seed())
        batches = ShuffledLoader(dataset, 10, seed)
        batches.sampler.set_epoch(epoch)  # as Lightning does
        return tuple(all_indices(batches))

    # Epoch 1 of seed 0 must not be epoch 0 of seed 1 either.
    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert order(2, 1) == order(2, 1)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("batch_size", [4, 8, 12])
def test_the_processes_together_see_the_batches_of_one_process(dataset, batch_size, world_size):
    alone = indices(ShuffledLoader(dataset, batch_size, seed=3))
    processes = [ShuffledLoader(dataset, batch_size // world_size, 3, rank, world_size) for rank in range(world_size)]
    shares = [indices(process) for process in processes]

    assert [[share[turn] for share in shares] for turn in range(len(alone))] == [
        [batch[rank::world_size] for rank in range(world_size)] for batch in alone
    ]
    assert {len(process) for process in processes} == {len(share) for share in shares} == {len(alone)}


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 11])
@pytest.mark.parametrize("batch_size", [2, 3, 7])
def test_each_process_has_at_least_two_images_at_every_step(dataset, batch_size, world_size):
    processes = [ShuffledLoader(dataset, batch_size, 3, rank, world_size) for rank in range(world_size)]

    assert sorted(itertools.chain.from_iterable(all_indices(process) for process in processes)) == list(range(N))
    assert min(len(batch) for process in processes for batch in indices(process)) >= 2


class Recording(Augmentation):
    """Writes the random numbers of an image into its first pixels."""

    num_random = 3

    def forward(self, images, random):
        changed = images.clone()
        changed[:, 0, 1, :3] = (256 * random).to(torch.uint8)
        return changed


@pytest.mark.parametrize("world_size", [2, 4])
def test_an_image_has_the_same_random_numbers_in_any_process(dataset, world_size):
    def numbers(rank, world_size):
        batches = ShuffledLoader(dataset, 8 // world_size, 1, rank, world_size, Recording())
        batches.set_epoch(2)
        return {int(image[0, 0, 0]): tuple(image[0, 1, :3].tolist()) for images, _ in batches for image in images}

    alone = numbers(0, 1)

    assert alone == {i: drawn for rank in range(world_size) for i, drawn in numbers(rank, world_size).items()}
    assert len(set(alone.values())) == N


def test_random_numbers_differ_between_epochs_and_seeds(dataset):
    def numbers(seed, epoch):
        batches = ShuffledLoader(dataset, 8, seed, augment=Recording())
        batches.set_epoch(epoch)
        return tuple(tuple(image[0, 1, :3].tolist()) for images, _ in batches for image in images)

    assert len({numbers(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert numbers(0, 1) == numbers(0, 1)


def test_more_processes_than_images_are_rejected_in_training(dataset):
    few = Images(dataset.images[:2], dataset.targets[:2])

    with pytest.raises(UserError, match=r"^2 training images are too few for 5 processes; use fewer processes$"):
        ShuffledLoader(few, 4, 0, 0, 5)
    assert [indices(SequentialLoader(few, 1, rank, 5)) for rank in range(5)] == [[[0]], [[1]], [[]], [[]], [[]]]


# Resume


@pytest.mark.parametrize("seen", range(5))
def test_an_epoch_is_resumed_after_any_batch(dataset, seen):
    whole = ShuffledLoader(dataset, 5, seed=1)
    whole.set_epoch(3)
    begun = ShuffledLoader(dataset, 5, seed=1)
    begun.set_epoch(3)
    first = indices(itertools.islice(begun, seen))

    resumed = ShuffledLoader(dataset, 5, seed=1)
    resumed.load_state_dict(begun.state_dict())
    resumed.set_epoch(3)  # called at the start of every epoch, also of a resumed one

    assert first + indices(resumed) == indices(whole)


def test_only_the_next_iteration_is_resumed(dataset):
    batches = ShuffledLoader(dataset, 5, seed=1)
    batches.load_state_dict({"epoch": 0, "seen": 3})

    assert [len(indices(batches)), len(indices(batches))] == [1, 4]


def test_the_epoch_after_a_resumed_one_is_complete(dataset):
    batches = ShuffledLoader(dataset, 5, seed=1)
    batches.load_state_dict({"epoch": 0, "seen": 4})
    batches.set_epoch(1)

    assert len(indices(batches)) == 4


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 4), (4, 2)])
def test_an_epoch_is_resumed_with_another_number_of_processes(dataset, before, after):
    def processes(number):
        return [ShuffledLoader(dataset, 8 // number, 1, rank, number) for rank in range(number)]

    first = processes(before)
    for process in first:
        indices(itertools.islice(process, 1))
    then = processes(after)
    for process in then:
        process.load_state_dict(first[0].state_dict())

    second = sorted(itertools.chain.from_iterable(next(iter(indices(process))) for process in then))

    assert second == sorted(indices(ShuffledLoader(dataset, 8, 1))[1])
