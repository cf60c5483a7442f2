"""The networks of the studies, and how they are trained."""

from __future__ import annotations

import math

import torch

from examples.images import ImageSet

__all__ = ["NETWORKS", "accuracy", "lenet_300_100", "small_conv_net", "train"]


def lenet_300_100(images: ImageSet) -> torch.nn.Module:
    """A perceptron with 300 and 100 hidden neurons."""
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(math.prod(images.shape), 300),
        torch.nn.ReLU(),
        torch.nn.Linear(300, 100),
        torch.nn.ReLU(),
        torch.nn.Linear(100, images.classes),
    )


def small_conv_net(images: ImageSet) -> torch.nn.Module:
    """Two convolutions with batch normalisation, and a linear classifier."""
    channels, height, width = images.shape
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 32, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * (height // 4) * (width // 4), images.classes),
    )


NETWORKS = {"lenet-300-100": lenet_300_100, "small-conv-net": small_conv_net}


def train(network: torch.nn.Module, images: ImageSet, *, seed: int, steps: int) -> None:
    """Adam with a learning rate that falls to zero, batches of 128, in place."""
    generator = torch.Generator().manual_seed(seed)
    x, y = images.train
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for _ in range(steps):
        batch = torch.randint(len(x), (128,), generator=generator)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimiser.step()
        schedule.step()
    network.eval()


def accuracy(network: torch.nn.Module, part: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Share of the images that are classified rightly."""
    x, y = part
    with torch.no_grad():
        right = [(network(b).argmax(1) == t).sum() for b, t in zip(x.split(512), y.split(512), strict=True)]
    return float(sum(right)) / len(y)
