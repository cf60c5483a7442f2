"""The networks of the studies, and how they are trained.

:func:`resnet20` and :func:`vgg16_bn` are the usual forms for images of 32 by 32 pixels. They are built
from modules only, so that masks, bounds and physical removal can follow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from examples.images import ImageSet

__all__ = [
    "NETWORKS",
    "Residual",
    "UnfitImagesError",
    "accuracy",
    "lenet_300_100",
    "resnet20",
    "small_conv_net",
    "train",
    "vgg16_bn",
]


class UnfitImagesError(ValueError):
    """Images have a size that a network was not made for."""


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
    """Two convolutions with batch normalisation, and a linear classifier on at most 4 by 4 pixels."""
    channels, height, width = images.shape
    height, width = height // 4, width // 4
    shrink: list[torch.nn.Module] = []
    while max(height, width) > 4:
        shrink.append(torch.nn.MaxPool2d(2))
        height, width = height // 2, width // 2
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 32, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        *shrink,
        torch.nn.Flatten(),
        torch.nn.Linear(64 * height * width, images.classes),
    )


def _convolution(before: int, after: int, size: int, stride: int = 1) -> list[torch.nn.Module]:
    """A convolution that keeps the image's size up to its stride, and batch normalisation."""
    return [
        torch.nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False),
        torch.nn.BatchNorm2d(after),
    ]


class Residual(torch.nn.Module):
    """Two convolutions with a shortcut around them.

    Where the shape changes the shortcut is a convolution of one pixel (option B of the paper), which is a
    layer like any other; the padding with zeros of option A is not.

    Parameters
    ----------
    before, after : int
        Channels of the input and of the output.
    stride : int
        Of the first convolution.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            *_convolution(before, after, 3, stride), torch.nn.ReLU(), *_convolution(after, after, 3)
        )
        same = before == after and stride == 1
        self.shortcut = (
            torch.nn.Identity() if same else torch.nn.Sequential(*_convolution(before, after, 1, stride))
        )
        self.relu = torch.nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, before, h, w) to images (n, after, h / stride, w / stride)."""
        return self.relu(self.body(x) + self.shortcut(x))


def resnet20(classes: int = 10, *, channels: int = 3, width: int = 16) -> torch.nn.Module:
    """The residual network of 20 layers for small images, after He, Zhang, Ren and Sun 2016, section 4.2.

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the images.
    width : int
        Channels of the first of three stages; the others have two and four times as many.

    Examples
    --------
    >>> import torch
    >>> from examples.networks import resnet20
    >>> network = resnet20()
    >>> sum(p.numel() for p in network.parameters())
    272474
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    blocks: list[torch.nn.Module] = []
    before = width
    for stage in range(3):
        for turn in range(3):
            after = width * 2**stage
            blocks.append(Residual(before, after, 2 if stage > 0 and turn == 0 else 1))
            before = after
    return torch.nn.Sequential(
        *_convolution(channels, width, 3),
        torch.nn.ReLU(),
        *blocks,
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(before, classes),
    )


# Convolutions of the five stages of configuration D, and channels over the width.
_VGG16 = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


def vgg16_bn(classes: int = 10, *, channels: int = 3, width: int = 64) -> torch.nn.Module:
    """Thirteen convolutions with batch normalisation, and one linear layer.

    Configuration D of Simonyan and Zisserman 2015, with the classifier that is usual for images of 32 by 32
    pixels: after five poolings one pixel is left, and the three wide linear layers of the original would
    see nothing but its channels.

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the images, which have 32 by 32 pixels.
    width : int
        Channels of the first stage; the last two have eight times as many.

    Examples
    --------
    >>> import torch
    >>> from examples.networks import vgg16_bn
    >>> network = vgg16_bn(width=8)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    layers: list[torch.nn.Module] = []
    before = channels
    for count, factor in _VGG16:
        for _ in range(count):
            layers += [*_convolution(before, factor * width, 3), torch.nn.ReLU()]
            before = factor * width
        layers.append(torch.nn.MaxPool2d(2))
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(before, classes))


def _resnet20(images: ImageSet) -> torch.nn.Module:
    return resnet20(images.classes, channels=images.shape[0])


def _vgg16_bn(images: ImageSet) -> torch.nn.Module:
    if images.shape[1:] != (32, 32):
        raise UnfitImagesError(
            f"images of {images.name!r} have shape {images.shape}; vgg16-bn takes 32 by 32 pixels"
        )
    return vgg16_bn(images.classes, channels=images.shape[0])


NETWORKS: Mapping[str, Callable[[ImageSet], torch.nn.Module]] = {
    "lenet-300-100": lenet_300_100,
    "small-conv-net": small_conv_net,
    "resnet20": _resnet20,
    "vgg16-bn": _vgg16_bn,
}


def train(
    network: torch.nn.Module, images: ImageSet, *, seed: int, steps: int, learning_rate: float = 1e-3
) -> None:
    """Adam with a learning rate that falls to zero, batches of 128, in place."""
    generator = torch.Generator().manual_seed(seed)
    x, y = images.train
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
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
