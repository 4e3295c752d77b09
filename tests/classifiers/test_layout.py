import copy

import pytest
import torch
from torch import nn

from lightning_cnn import networks
from lightning_cnn.classifiers.layout import quick


def kinds(network: nn.Sequential) -> list[type]:
    return [type(module) for module in network]


def test_pooling_goes_first():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(676, 10))

    assert kinds(quick(network)) == [nn.Conv2d, nn.MaxPool2d, nn.ReLU, nn.Flatten, nn.Linear]


@pytest.mark.parametrize("pair", [(nn.Sigmoid(), nn.MaxPool2d(2)), (nn.ReLU(), nn.AvgPool2d(2))])
def test_nothing_else_is_moved(pair):
    assert kinds(quick(nn.Sequential(*pair))) == [type(module) for module in pair]


def test_convolutions_have_their_channels_innermost():
    network = quick(nn.Sequential(nn.Conv2d(8, 4, 3)))

    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not network[0].weight.is_contiguous()


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("name", networks.__all__)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_training_comes_to_the_same_to_the_last_bit(name, bfloat16):
    torch.manual_seed(0)
    slow = getattr(networks, name)().to(memory_format=torch.channels_last)
    fast = quick(copy.deepcopy(slow))
    assert slow.state_dict().keys() == fast.state_dict().keys()

    trained = []
    for network in (slow, fast):
        generator = torch.Generator().manual_seed(1)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):
            images, targets = torch.rand(8, 1, 28, 28, generator=generator), torch.arange(8)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = nn.functional.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in network.parameters()]))

    assert torch.equal(*trained)
