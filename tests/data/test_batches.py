import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

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


ROWS = np.array([7, 2, 2, 22])


@pytest.fixture
def chosen(dataset) -> Images:
    return Images.of_arrays(dataset.images.numpy(), ROWS.astype(np.uint8), rows=ROWS)


def test_images_may_be_some_rows_of_others(chosen, dataset):
    assert len(chosen) == 4
    assert chosen.images.data_ptr() == dataset.images.data_ptr()
    assert (chosen.targets.dtype, chosen.rows.dtype) == (torch.int64, torch.int64)
    for index in (slice(None), slice(1, 3), torch.tensor([3, 0])):
        (expected,) = indices([(dataset.images[ROWS[index]], torch.from_numpy(ROWS)[index])])
        assert indices([chosen[index]]) == [expected]
    assert indices([chosen.select(torch.tensor([3, 0, 0]))]) == [[22, 7, 7]]
    image, target = chosen[1]
    assert (image.unique().tolist(), target.item()) == ([2], 2)


def test_loaders_take_rows_of_images(chosen):
    assert indices(SequentialLoader(chosen, batch_size=3)) == [[7, 2, 2], [22]]
    assert sorted(all_indices(ShuffledLoader(chosen, batch_size=2))) == [2, 2, 7, 22]


def test_only_the_rows_are_moved_to_a_device(chosen, dataset):
    assert chosen.to(torch.device("cpu")) is chosen
    moved = chosen.to(torch.device("meta"))
    assert (moved.images.shape, moved.rows, moved.targets.device.type) == ((4, 1, 28, 28), None, "meta")
    assert dataset.to(torch.device("meta")).images.shape == dataset.images.shape


def test_the_checksum_depends_on_pixels_labels_and_order_alone(chosen, dataset):
    same = Images(dataset.images[ROWS], torch.from_numpy(ROWS))
    more = [torch.cat([part] * 100) for part in (same.images, same.targets)]  # than are read at once

    assert chosen.crc32() == same.crc32()
    changed = (
        Images(same.images.roll(1, 0), same.targets),
        Images(same.images, same.targets.roll(1)),
        Images(same.images, same.targets + 1),
        Images(same.images.flip(1) + 1, same.targets),
        Images(same.images[:3], same.targets[:3]),
    )
    assert len({images.crc32() for images in (same, *changed)}) == 6
    last = more[0].clone()
    last[-1, 0, 0, 0] += 1
    assert Images(last, more[1]).crc32() != Images(*more).crc32()


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


def test_each_iteration_is_a_new_epoch_unless_one_is_set(dataset):
    def epoch(number: int) -> list[int]:
        batches = ShuffledLoader(dataset, 10, seed=1)
        batches.sampler.set_epoch(number)
        return all_indices(batches)

    batches = ShuffledLoader(dataset, 10, seed=1)

    assert [all_indices(batches) for _ in range(3)] == [epoch(0), epoch(1), epoch(2)]
    next(iter(batches))  # one that is given up counts as well
    assert all_indices(batches) == epoch(4)
    batches.sampler.set_epoch(4)
    assert all_indices(batches) == epoch(4)


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
        batches.sampler.set_epoch(2)
        return {int(image[0, 0, 0]): tuple(image[0, 1, :3].tolist()) for images, _ in batches for image in images}

    alone = numbers(0, 1)

    assert alone == {i: drawn for rank in range(world_size) for i, drawn in numbers(rank, world_size).items()}
    assert len(set(alone.values())) == N


def test_random_numbers_differ_between_epochs_and_seeds(dataset):
    def numbers(seed, epoch):
        batches = ShuffledLoader(dataset, 8, seed, augment=Recording())
        batches.sampler.set_epoch(epoch)
        return tuple(tuple(image[0, 1, :3].tolist()) for images, _ in batches for image in images)

    assert len({numbers(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9
    assert numbers(0, 1) == numbers(0, 1)


def test_more_processes_than_images_are_rejected_in_training(dataset):
    few = Images(dataset.images[:2], dataset.targets[:2])

    with pytest.raises(UserError, match=r"^2 training images are too few for 5 processes; use fewer processes$"):
        ShuffledLoader(few, 4, 0, 0, 5)
    assert [indices(SequentialLoader(few, 1, rank, 5)) for rank in range(5)] == [[[0]], [[1]], [[]], [[]], [[]]]


# As a DataLoader


def test_the_loaders_are_data_loaders_with_samplers_that_are_not_replaced(dataset):
    for loader in (SequentialLoader(dataset, 4, 1, 2), ShuffledLoader(dataset, 4, 0, 1, 2)):
        assert isinstance(loader, DataLoader) and isinstance(loader.sampler, DistributedSampler)
        assert (loader.batch_size, len(loader.dataset)) == (4, N)
    assert isinstance(SequentialLoader(dataset, 4).sampler, SequentialSampler)  # Lightning looks for it to overfit


def test_the_samplers_have_the_images_of_one_process(dataset):
    for rank in range(3):
        for loader in (SequentialLoader(dataset, 4, rank, 3), ShuffledLoader(dataset, 4, 5, rank, 3)):
            found = list(loader.sampler)
            loader.sampler.set_epoch(0)

            assert found == all_indices(loader)
            assert len(loader.sampler) == len(found)


@pytest.mark.parametrize("loader", [SequentialLoader, ShuffledLoader])
def test_a_sampler_that_is_passed_is_used_as_by_any_data_loader(dataset, loader):
    backwards = range(N - 1, -1, -1)

    batches = loader(dataset, 10, sampler=backwards)
    assert all_indices(batches) == list(backwards)
    assert [len(batch) for batch in indices(batches)] == [10, 10, 3]
    assert len(batches) == 3
    assert indices(loader(dataset, batch_sampler=[[1, 2], [22]])) == [[1, 2], [22]]


def test_images_are_augmented_also_with_a_sampler_that_is_passed(dataset):
    def numbers(batches):
        return [tuple(image[0, 1, :3].tolist()) for images, _ in batches for image in images]

    batches = ShuffledLoader(dataset, 8, 1, augment=Recording(), sampler=range(N))

    first, second = numbers(batches), numbers(batches)
    assert len({*first, *second}) == 2 * N  # new ones in each epoch
    resumed = ShuffledLoader(dataset, 8, 1, augment=Recording(), sampler=range(N))
    resumed.load_state_dict({"seed": 1, "epoch": 1, "images": 8, "global_batch_size": 8})
    assert numbers(resumed) == second[8:]


def test_a_loader_for_another_number_of_processes_is_refused(dataset, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)

    for loader in (SequentialLoader(dataset, 4), ShuffledLoader(dataset, 4)):
        with pytest.raises(
            UserError, match=r"^the data loader was built for 1 process, but there are 2; build it when"
        ):
            next(iter(loader))
    assert len(list(SequentialLoader(dataset, 4, 0, 2))) == 3


# Resume


@pytest.mark.parametrize("seen", range(5))
def test_an_epoch_is_resumed_after_any_batch(dataset, seen):
    whole = ShuffledLoader(dataset, 5, seed=1)
    whole.sampler.set_epoch(3)
    begun = ShuffledLoader(dataset, 5, seed=1)
    begun.sampler.set_epoch(3)
    first = indices(itertools.islice(begun, seen))

    resumed = ShuffledLoader(dataset, 5, seed=1)
    resumed.load_state_dict(begun.state_dict())
    resumed.sampler.set_epoch(3)  # called at the start of every epoch, also of a resumed one

    assert first + indices(resumed) == indices(whole)


def test_only_the_next_iteration_is_resumed(dataset):
    batches = ShuffledLoader(dataset, 5, seed=1)
    batches.load_state_dict({"seed": 1, "epoch": 0, "images": 15, "global_batch_size": 5})

    assert [len(indices(batches)), len(indices(batches))] == [1, 4]


def test_the_epoch_after_a_resumed_one_is_complete(dataset):
    batches = ShuffledLoader(dataset, 5, seed=1)
    batches.load_state_dict({"seed": 1, "epoch": 0, "images": 20, "global_batch_size": 5})
    batches.sampler.set_epoch(1)

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


def test_the_position_counts_images(dataset):
    batches = ShuffledLoader(dataset, 5, seed=1)
    assert batches.state_dict() == {"seed": 1, "epoch": 0, "images": 0, "global_batch_size": 5}
    batches.sampler.set_epoch(2)
    next(iter(batches))
    assert batches.state_dict() == {"seed": 1, "epoch": 2, "images": 5, "global_batch_size": 5}

    resumed = ShuffledLoader(dataset, 5, seed=1)
    resumed.load_state_dict(batches.state_dict())
    assert resumed.state_dict() == batches.state_dict()
    process = ShuffledLoader(dataset, 5, 1, 0, 2)
    next(iter(process))
    assert process.state_dict() == {"seed": 1, "epoch": 0, "images": 10, "global_batch_size": 10}


@pytest.mark.parametrize(
    ("batch_size", "world_size", "way_out"),
    [
        (8, 1, "cannot be completed with 8; resume with --data.global_batch_size 5"),
        (
            2,
            2,
            "cannot be completed with 4; resume with --data.global_batch_size 5, on a number of devices that divides 5",
        ),
    ],
)
def test_an_epoch_is_not_resumed_with_another_global_batch_size(dataset, batch_size, world_size, way_out):
    state = {"seed": 1, "epoch": 3, "images": 10, "global_batch_size": 5}
    batches = ShuffledLoader(dataset, batch_size, 1, 0, world_size)
    batches.load_state_dict(state)

    with pytest.raises(
        UserError, match=rf"^the epoch was begun with 5 images per step over all devices, and {way_out}$"
    ):
        next(iter(batches))


@pytest.mark.parametrize(("images", "set_epoch"), [(0, 3), (N, 3), (10, 4)])
def test_between_epochs_the_global_batch_size_may_change(dataset, images, set_epoch):
    batches = ShuffledLoader(dataset, 8, seed=1)
    batches.load_state_dict({"seed": 1, "epoch": 3, "images": images, "global_batch_size": 5})
    batches.sampler.set_epoch(set_epoch)

    assert len(all_indices(batches)) == (0 if images == N else N)
